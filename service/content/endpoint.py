"""The endpoint of the content API whose query parameter ``type`` selects the resource."""

import re
from collections.abc import Mapping
from functools import cached_property

from aiohttp import web
from aiohttp.web_urldispatcher import AbstractRoute

from service.web.query import parse_query

ENDPOINTS = ("/rest", "/x1/{name:[^/]+}")
TYPED_PATHS = {"polls": "/rest/polls", "votes": "/rest/votes", "results": "/rest/results"}
"""The path of each type (docs/api.md, section 3)."""
LAST_TYPE = re.compile(r"(?:.*&)?type=(\w*)(?:&.*)?", re.ASCII)
"""Of a query in which nothing needs decoding."""


class ContentEndpoint(web.DynamicResource):
    """Routes each request to the path of its ``type``, before authentication.

    From then on it is a request to that path, also in the log, the metrics and a 405. A missing or
    unknown type is routed to polls, and refused when the query is read.
    """

    def __init__(self, path: str, typed: Mapping[str, web.Resource]) -> None:
        super().__init__(path)
        self._typed = typed
        self._pattern_of_path = self.get_info()["pattern"]

    @cached_property
    def _routes_of_types(self) -> dict[str, dict[str, AbstractRoute]]:
        """Of each type, by method; complete once the application has started."""
        return {
            kind: {route.method: route for route in resource}
            for kind, resource in self._typed.items()
        }

    async def resolve(
        self, request: web.Request
    ) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        url = request.rel_url
        if not self._pattern_of_path.fullmatch(url.path_safe):
            return None, set()
        query = url.raw_query_string
        found = LAST_TYPE.fullmatch(query) if "%" not in query else None
        kind = found[1] if found else dict(parse_query(request)).get("type", "polls")
        routes = self._routes_of_types.get(kind) or self._routes_of_types["polls"]
        route = routes.get(request.method)
        return web.UrlMappingMatchInfo({}, route) if route is not None else None, set(routes)
