"""Serves the OpenAPI document and the page that explores it."""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

from aiohttp import web

from service.web.pagination import base_url
from service.web.responses import bytes_response, in_pieces
from storage.errors import NotFound

DOCUMENT: web.AppKey[Callable[[str], bytes]] = web.AppKey("document")
"""Returns the document of a service at this URL."""
PAGE = Path(__file__).with_name("page")
ASSETS = {
    "start.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
GUARDED = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The page loads and requests nothing from other origins, and cannot be framed."""
KEPT = {"Cache-Control": "public, max-age=86400"}


INDEX_HEADERS = {
    **GUARDED,
    "Cache-Control": "no-store",
    # For programs (RFC 8631).
    "Link": '<openapi.json>; rel="service-desc", <docs>; rel="service-doc"',
}


async def show_index(_: web.Request) -> web.Response:
    """Get a page that links to the documentation.

    For everybody. Does not tell anything about polls.
    """
    return await _file("welcome.html", "text/html", INDEX_HEADERS)


async def show_document(request: web.Request) -> web.Response:
    """Get this document.

    For everybody. Does not depend on the caller: only its server does, which is the one that was
    asked.
    """
    body = await asyncio.to_thread(request.app[DOCUMENT], base_url(request))
    return bytes_response(body, headers={"Cache-Control": "no-cache"})


async def show_page(_: web.Request) -> web.Response:
    """Get the page that explores this document and tries requests.

    For everybody. Does not keep the token that is typed into it, and loads nothing from elsewhere.
    """
    return await _file("index.html", "text/html", GUARDED)


async def show_asset(request: web.Request) -> web.Response:
    """Get a file that the page needs.

    For everybody. Does not serve other files.
    """
    name = request.match_info["asset"]
    if name not in ASSETS:
        raise NotFound("There is no such file.")
    return await _file(name, ASSETS[name], KEPT)


async def _file(name: str, content_type: str, headers: dict[str, str]) -> web.Response:
    body = await asyncio.to_thread(_read, name)
    charset = "utf-8" if content_type.startswith("text/") else None
    return web.Response(
        body=in_pieces(body), content_type=content_type, charset=charset, headers=headers
    )


@cache
def _read(name: str) -> bytes:
    """A file of the page, read once: all clients share it, also those that are slow to take it."""
    return (PAGE / name).read_bytes()
