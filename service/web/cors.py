"""CORS, for pages of other origins that call the service from a browser (the Fetch standard).

Without ``POLLS_CORS_ORIGINS`` nothing of it is there. Tokens come in a header and never in a
cookie, so a browser is not asked to send what it keeps for this origin.
"""

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from service.settings import SETTINGS

ANY_ORIGIN = "*"
SENT = "Authorization, Content-Type, If-Match, Idempotency-Key, X-Request-Id, Accept"
SHOWN = "ETag, Link, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, Content-Disposition"
MAX_AGE_SECONDS = "600"


def add_cors(app: web.Application) -> None:
    """Lets the pages of the origins that the settings name read what is answered."""
    if app[SETTINGS].cors_origins:
        app.middlewares.append(_answer_preflights)
        # A signal, since it reaches errors and streams too.
        app.on_response_prepare.append(_allow_origin)


@web.middleware
async def _answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """No route has OPTIONS, so without this a preflight is a 405, asked for no token as that is."""
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
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = SENT
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = MAX_AGE_SECONDS
    return response


async def _allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    allowed = _allowed(request)
    if allowed != ANY_ORIGIN:
        # To those that are not allowed too, or a cache would give this answer to one that is.
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    if allowed is not None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = allowed
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = SHOWN


def _allowed(request: web.Request) -> str | None:
    """What a request is answered as its allowed origin."""
    origins = request.app[SETTINGS].cors_origins
    if ANY_ORIGIN in origins:
        return ANY_ORIGIN
    origin = request.headers.get(hdrs.ORIGIN)
    return origin if origin in origins else None
