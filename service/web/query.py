"""Query parameters."""

import re
from datetime import datetime
from urllib.parse import parse_qsl

from aiohttp import web

from schemas.fields import parse_rfc3339

TOKEN_PARAMETERS = ("token", "access_token")
BODY = "body"
"""The ``field`` of a fault in the body as a whole."""
TIME_MESSAGE = "must be a time with an offset, such as 2026-01-31T18:00:00+01:00"
UNESCAPED_PLUS = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")
"""Of an offset: in a query a ``+`` that is not encoded is a space."""


def parse_query(request: web.BaseRequest) -> list[tuple[str, str]]:
    """All parameters in order. Bytes that are not UTF-8 become surrogates, for checks to refuse."""
    raw = request.rel_url.raw_query_string
    if "%" in raw or "+" in raw:
        return parse_qsl(raw, True, errors="surrogateescape")
    # The same, faster, if nothing needs decoding.
    pairs = [pair.partition("=") for pair in raw.split("&") if pair]
    return [(name, value) for name, _, value in pairs]


def parse_time(text: str) -> datetime | None:
    """The time that a parameter names, in UTC; None if it is not valid: see ``TIME_MESSAGE``."""
    return parse_rfc3339(UNESCAPED_PLUS.sub("+", text))
