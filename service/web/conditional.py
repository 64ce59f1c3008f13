"""Conditional requests (RFC 9110, section 13)."""

import re

from aiohttp import web

ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"')


def read_if_match(request: web.Request) -> frozenset[str] | None:
    """The entity tags of ``If-Match``; None if the header is absent or ``*``.

    Weak tags never match (RFC 9110, section 13.1.1), and neither do malformed ones.
    """
    headers = request.headers.getall("If-Match", [])
    if not headers or headers == ["*"]:
        return None
    tags = ENTITY_TAG.findall(",".join(headers))
    return frozenset(tag for weak, tag in tags if not weak)
