"""From a request to its handler, within the middlewares that all requests pass.

aiohttp looks for a route, and puts the middlewares together, for each request. Most paths of this
service have no variables, so for these both is done once.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from service.web.call import read_request_id
from service.web.responses import refusal

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)


class Dispatcher:
    """``find`` gives what answers a request; ``app`` must be set up, its routes and middlewares."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._found: dict[tuple[str, str], tuple[UrlMappingMatchInfo, Handle]] = {}
        for route in app.router.routes():
            if isinstance(route.resource, web.PlainResource):
                match = UrlMappingMatchInfo({}, route)
                match.add_app(app)
                match.freeze()
                self._found[route.resource.canonical, route.method] = match, self._within(route)

    def _within(self, route: web.AbstractRoute) -> Handle:
        handle: Handle = route.handler
        for middleware in reversed(self._app.middlewares):
            handle = partial(middleware, handler=handle)
        return handle

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What aiohttp's own loop over requests calls, which an upgrade is left to."""
        return await self.find(request)(request)

    def find(self, request: web.Request) -> Handle:
        found = self._found.get((request.rel_url.raw_path, request.method))
        if found is None or hdrs.EXPECT in request.headers:
            return self._ask_router
        request._match_info, handle = found  # noqa: SLF001 - as aiohttp does
        return handle

    async def _ask_router(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._app._handle(request)  # noqa: SLF001 - what aiohttp calls itself
        except web.HTTPExpectationFailed:  # raised before any middleware is asked
            request_id = read_request_id(request)
            log.info("unknown expectation", request_id=request_id, remote=request.remote)
            return refusal(417, "Of all that Expect may ask, 100-continue is met.", request_id)
