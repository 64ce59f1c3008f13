"""The bare aiohttp handler: the same bytes as the service gives, and no work for them.

``python -m bench.contenders.bare DIRECTORY``, which holds ``poll.json`` and ``vote.json``.
"""

import sys
from pathlib import Path

from aiohttp import web

from bench.contenders.serving import serve


def create_app(poll: bytes, vote: bytes) -> web.Application:
    async def get(_: web.Request) -> web.Response:
        return web.Response(body=poll, content_type="application/json", charset="utf-8")

    async def post(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=vote, content_type="application/json", charset="utf-8")

    app = web.Application()
    app.router.add_get("/rest", get)
    app.router.add_post("/rest", post)
    return app


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    serve(
        create_app((directory / "poll.json").read_bytes(), (directory / "vote.json").read_bytes())
    )
