"""The endpoint of the content API whose query parameter ``type`` selects the resource."""

from collections.abc import Mapping

from aiohttp import web

from service.web.query import parse_query

ENDPOINTS = ("/rest", "/x1/{name:[^/]+}")
TYPED_PATHS = {"polls": "/rest/polls", "votes": "/rest/votes", "results": "/rest/results"}
"""The path of each type (docs/api.md, section 3)."""


class ContentEndpoint(web.DynamicResource):
    """Routes each request to the path of its ``type``, before authentication.

    From then on it is a request to that path, also in the log, the metrics and a 405. A missing or
    unknown type is routed to polls, and refused when the query is read.
    """

    def __init__(self, path: str, typed: Mapping[str, web.Resource]) -> None:
        super().__init__(path)
        self._typed = typed

    async def resolve(
        self, request: web.Request
    ) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        if not self.get_info()["pattern"].fullmatch(request.rel_url.path_safe):
            return None, set()
        kind = dict(parse_query(request)).get("type", "polls")
        routes = {route.method: route for route in self._typed.get(kind, self._typed["polls"])}
        route = routes.get(request.method)
        return web.UrlMappingMatchInfo({}, route) if route is not None else None, set(routes)
