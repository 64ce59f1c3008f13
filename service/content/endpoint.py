"""The endpoint of the content API whose query parameter ``type`` selects the resource."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web
from yarl import URL

from service.web.query import parse_query

ENDPOINTS = ("/rest", "/x1/{name}")
TYPED_PATHS = {"polls": "/rest/polls", "votes": "/rest/votes", "results": "/rest/results"}
"""The path of each type (docs/api.md, section 3)."""


class ContentEndpoint(web.AbstractResource):
    """Routes each request to the path of its ``type``, before authentication.

    From then on it is a request to that path, also in the log, the metrics and a 405. A missing or
    unknown type is routed to polls, and refused when the query is read.
    """

    def __init__(self, path: str, typed: Mapping[str, web.Resource]) -> None:
        super().__init__()
        self._path = path
        self._matches = re.compile(re.sub(r"\{\w+\}", "[^/]+", path)).fullmatch
        self._typed = typed

    @property
    def canonical(self) -> str:
        return self._path

    async def resolve(
        self, request: web.Request
    ) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        if not self._matches(request.rel_url.path_safe):
            return None, set()
        kind = dict(parse_query(request)).get("type", "polls")
        routes = {route.method: route for route in self._typed.get(kind, self._typed["polls"])}
        route = routes.get(request.method)
        return web.UrlMappingMatchInfo({}, route) if route is not None else None, set(routes)

    def url_for(self, **parts: str) -> URL:
        return URL.build(path=self._path.format(**parts))

    def get_info(self) -> Any:
        return {"path": self._path}

    def raw_match(self, path: str) -> bool:
        return path == self._path

    def add_prefix(self, prefix: str) -> None:
        raise NotImplementedError(f"{self._path} is a fixed path.")

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())
