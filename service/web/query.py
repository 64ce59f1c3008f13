"""Query parameters."""

from urllib.parse import parse_qsl

from aiohttp import web

TOKEN_PARAMETERS = ("token", "access_token")
BODY = "body"
"""The ``field`` of a fault in the body as a whole."""


def parse_query(request: web.BaseRequest) -> list[tuple[str, str]]:
    """All parameters in order. Bytes that are not UTF-8 become surrogates, for checks to refuse."""
    raw = request.rel_url.raw_query_string
    if "%" in raw or "+" in raw:
        return parse_qsl(raw, True, errors="surrogateescape")
    # The same, faster, if nothing needs decoding.
    pairs = [pair.partition("=") for pair in raw.split("&") if pair]
    return [(name, value) for name, _, value in pairs]
