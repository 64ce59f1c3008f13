"""The files that the page of a link loads: style, script, icon."""

import hashlib
from pathlib import Path

from aiohttp import web

from service.web.responses import in_pieces
from storage.errors import NotFound

PAGES = Path(__file__).with_name("pages")
FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
CONTENTS = {name: (PAGES / name).read_bytes() for name in FILES}
TAGS = {name: hashlib.sha256(body).hexdigest()[:16] for name, body in CONTENTS.items()}
"""By name, what the page asks for it with: another one for other content."""
KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
OTHERWISE = {"Cache-Control": "no-cache"}
"""Of a file that is asked for by another tag: during an upgrade, versions answer side by side."""


async def show_file(request: web.Request) -> web.Response:
    """Get a file that the page needs.

    For everybody. Does not serve other files.
    """
    name = request.match_info["file"]
    if name not in FILES:
        raise NotFound("There is no such file.")
    is_tagged = request.rel_url.query.get("v") == TAGS[name]
    return web.Response(
        body=in_pieces(CONTENTS[name]),
        content_type=FILES[name],
        charset="utf-8",
        headers=KEPT if is_tagged else OTHERWISE,
    )
