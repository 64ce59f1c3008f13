"""Events as they are sent (HTML Standard, section 9.2)."""

from typing import Any, Literal, NamedTuple

import orjson

from service.web.conditional import tag_of

Reason = Literal["deleted", "forbidden", "expired", "restart"]


class Frame(NamedTuple):
    """An event in both framings of HTTP/1: as a chunk of HTTP/1.1, and as it is for HTTP/1.0.

    ``revision`` tells states apart; it is empty for what is no state.
    """

    revision: str
    chunk: bytes
    plain: bytes


def frame(text: bytes, revision: str = "") -> Frame:
    return Frame(revision, b"%x\r\n%b\r\n" % (len(text), text), text)


def results(shown: dict[str, Any]) -> Frame:
    """``shown`` has no ``revision`` yet: it is made of all the rest."""
    revision = tag_of(shown)
    data = orjson.dumps({**shown, "revision": revision})
    return frame(b"event: results\nid: %b\ndata: %b\n\n" % (revision.encode(), data), revision)


def end(reason: Reason, *, retry_ms: int | None = None) -> Frame:
    """The last event; ``retry_ms`` is when to connect again."""
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return frame(b'%bevent: end\ndata: {"reason":"%b"}\n\n' % (retry, reason.encode()))


HEARTBEAT = frame(b":\n\n")
PING = frame(b"event: ping\ndata: {}\n\n")
"""A heartbeat that scripts in a browser hear: ``EventSource`` does not show them comments."""
