"""Content negotiation (RFC 9110, section 12.5.1)."""

from aiohttp import hdrs, web

JSON = "application/json"
EVENT_STREAM = "text/event-stream"


def accepts_events(request: web.Request) -> bool:
    """Whether the caller wants an event stream rather than JSON.

    It must be named, and not be less welcome than JSON. Where both are named and equally welcome,
    as generated clients send it, the answer is JSON.
    """
    lines = request.headers.getall(hdrs.ACCEPT, ())
    if not any(EVENT_STREAM in line.lower() for line in lines):
        return False
    welcome = dict(map(_read_range, ",".join(lines).split(",")))
    events = welcome.get(EVENT_STREAM, 0.0)
    if JSON in welcome:
        return events > welcome[JSON]
    return events > 0 and events >= welcome.get("application/*", welcome.get("*/*", 0.0))


def _read_range(text: str) -> tuple[str, float]:
    """A media range without its parameters, and its weight; 0 if that is not valid."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return kind, float(weight)
    except ValueError:
        return kind, 0.0
