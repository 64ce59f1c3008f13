"""The complete URL table."""

from aiohttp import web

from service.handlers import content_polls, health

PUBLIC = frozenset({"/healthz", "/readyz"})
"""Routes that need no token."""


async def _accept_expectation(request: web.Request) -> None:
    """Asks for the body where the client waits for that; RFC 9110 lets a server ignore the rest."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The interim response is no part of the answer.
        request.writer.output_size = 0


def add_routes(router: web.UrlDispatcher) -> None:
    router.add_get("/healthz", health.healthz)
    router.add_get("/readyz", health.readyz)
    # Callers of the source API keep its path and change the host.
    for path in ("/rest", "/x1/{name}"):
        content = router.add_resource(path)
        for method, handler in (
            ("GET", content_polls.list_polls),
            ("HEAD", content_polls.list_polls),
            ("POST", content_polls.create_poll),
            ("PUT", content_polls.replace_poll),
            ("DELETE", content_polls.delete_poll),
        ):
            content.add_route(method, handler, expect_handler=_accept_expectation)
