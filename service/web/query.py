"""Reading the parameters of a query."""

from urllib.parse import parse_qsl

from aiohttp import web

TOKEN_PARAMETERS = ("token", "access_token")
BODY = "body"
"""What a fault of the body as a whole is filed under."""


def parse_query(request: web.BaseRequest) -> list[tuple[str, str]]:
    """All parameters in order. Bytes that are no UTF-8 become surrogates, which no check passes."""
    raw = request.rel_url.raw_query_string
    if "%" in raw or "+" in raw:
        return parse_qsl(raw, True, errors="surrogateescape")
    # The same, where nothing is to be decoded.
    pairs = [pair.partition("=") for pair in raw.split("&") if pair]
    return [(name, value) for name, _, value in pairs]
