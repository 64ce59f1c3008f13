"""The one middleware: a request's id, who asks, its patience, its problems, its line in the log."""

import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from time import perf_counter, time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service import keys
from service.call import Call
from service.logs import RequestLog
from service.metrics import Metrics
from service.middleware.problems import problem_of
from service.principal import NOBODY
from service.responses import REQUEST_ID_HEADER
from service.routes import PUBLIC
from storage.client import set_patience

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
PATIENCE_SECONDS = 4.5
"""A caller hears within 5 s that the database is away, however many round trips are needed."""
CLIENT_CLOSED_REQUEST = 499
"""What the log says of a caller who hung up; nobody receives it."""

Identify = Callable[[web.Request], Awaitable[None]]
"""Puts the query and the principal into a request, or raises what it is answered with."""


def request_scope(identify: Identify, metrics: Metrics, log: RequestLog) -> Middleware:
    """What the router does not know and what is public is answered without ``identify``.

    So a wrong path is a 404 to everybody.
    """

    @web.middleware
    async def scope(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        call = request[keys.CALL] = Call(read_request_id(request))
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else None
        status = CLIENT_CLOSED_REQUEST
        metrics.in_flight += 1
        set_patience(PATIENCE_SECONDS)
        try:
            try:
                if route is not None and route not in PUBLIC:
                    await identify(request)
                response = await handler(request)
            except ConnectionError:
                raise  # the caller hung up: there is nobody to answer
            except Exception as error:
                response = problem_of(request, error)
            response.headers[REQUEST_ID_HEADER] = call.id
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
            log.write((time(), call.id, request.method, route, status, ms, remote, user, token))

    return scope


def read_request_id(request: web.BaseRequest) -> str:
    """The caller's, where it is harmless in headers and logs, else a new one."""
    given = request.headers.get(REQUEST_ID_HEADER)
    if given is not None and SANE_REQUEST_ID.fullmatch(given):
        return given
    return next(_new_ids)


def _make_ids() -> Iterator[str]:
    """Ids that no other process gives: random in front, counted behind.

    The system is asked for randomness once, since that takes longer than all else here.
    """
    prefix = secrets.token_hex(10)
    for number in count(1):
        yield f"{prefix}{number:012x}"


_new_ids = _make_ids()
