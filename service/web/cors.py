"""CORS, for pages of other origins that call the service from a browser (the Fetch standard).

Off unless ``POLLS_CORS_ORIGINS`` is set. Tokens are sent in a header and never in a cookie, so
credentials are not allowed.
"""

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from service.settings import SETTINGS

ANY_ORIGIN = "*"
REQUEST_HEADERS = (
    "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID, "
    "X-Request-Id, Accept, traceparent, tracestate"
)
EXPOSED_HEADERS = (
    "ETag, Link, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, Content-Disposition"
)
MAX_AGE_SECONDS = "600"


def add_cors(app: web.Application) -> None:
    """Lets pages of the configured origins call the service."""
    if app[SETTINGS].cors_origins:
        app.middlewares.append(_answer_preflights)
        # A signal, because that covers errors and streams.
        app.on_response_prepare.append(_allow_origin)


@web.middleware
async def _answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers preflights, which would otherwise be a 405: no route has OPTIONS.

    They need no token, like any 405.
    """
    unmet = request.match_info.http_exception
    if (
        request.method != hdrs.METH_OPTIONS
        or not isinstance(unmet, web.HTTPMethodNotAllowed)
        or hdrs.ORIGIN not in request.headers
        or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers
    ):
        return await handler(request)
    response = web.Response(status=204)
    if _allowed(request) is not None:
        methods = ", ".join(sorted(unmet.allowed_methods))
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = methods
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = REQUEST_HEADERS
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = MAX_AGE_SECONDS
    return response


async def _allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    allowed = _allowed(request)
    if allowed != ANY_ORIGIN:
        # On every answer, or a cache could serve this one to an allowed origin.
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    if allowed is not None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = allowed
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED_HEADERS


def _allowed(request: web.Request) -> str | None:
    """The value of ``Access-Control-Allow-Origin``; None if the origin is not allowed."""
    origins = request.app[SETTINGS].cors_origins
    if ANY_ORIGIN in origins:
        return ANY_ORIGIN
    origin = request.headers.get(hdrs.ORIGIN)
    return origin if origin in origins else None
