"""The one middleware: a request's id, its caller, its time limit, its problems, its log line."""

from collections.abc import Collection
from time import perf_counter, time

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from service.rules.principal import NOBODY
from service.telemetry.log import RequestLog
from service.telemetry.metrics import Metrics
from service.web.authentication import PUBLIC
from service.web.call import (
    CALL,
    LIMIT_SECONDS,
    BodyCameLate,
    Call,
    Identify,
    read_request_id,
)
from service.web.problems import problem_of
from service.web.responses import add_common_headers
from storage.client import set_time_limit

CLIENT_CLOSED_REQUEST = 499
"""What the log says if the client hung up; nobody receives it."""


def request_scope(
    identify: Identify, metrics: Metrics, log: RequestLog, casts: Collection[Handler]
) -> Middleware:
    """The middleware around all others.

    What the router does not know and what is public is answered without ``identify``, so a wrong
    path is a 404 to everybody. ``casts`` are the handlers that cast votes: their requests are
    anonymous, unless they say that names are saved. So are preflights, which come right before.
    """

    @web.middleware
    async def scope(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        is_anonymous = request.method == hdrs.METH_OPTIONS or request.match_info.handler in casts
        call = request[CALL] = Call(read_request_id(request), is_anonymous=is_anonymous)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else None
        status = CLIENT_CLOSED_REQUEST
        metrics.in_flight += 1
        is_public = route is None or route in PUBLIC
        response: web.StreamResponse | None = None
        try:
            while response is None:
                try:
                    set_time_limit(LIMIT_SECONDS)
                    if not is_public:
                        await identify(request)
                    response = await handler(request)
                except BodyCameLate:
                    continue  # with the body, which does not come late again
                except ConnectionError:
                    raise  # the caller hung up: there is nobody to answer
                except Exception as error:
                    response = problem_of(request, error)
            add_common_headers(response, call.id)
            status = response.status
            return response
        finally:
            metrics.in_flight -= 1
            user = token = remote = None
            if not call.is_anonymous:
                remote = request.remote
                if call.principal is not NOBODY:
                    user, token = call.principal.user_id, call.principal.token_name
            ms = (perf_counter() - started) * 1000
            line_id, lasts = call.logged_id, call.is_stream
            log.write(
                (time(), line_id, request.method, route, status, ms, remote, user, token, lasts)
            )

    return scope
