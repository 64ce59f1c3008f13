"""The one middleware: a request's id, who asks, its patience, its problems, its line in the log."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service import keys
from service.logs import RequestLine
from service.middleware.problems import problem_of
from service.routes import PUBLIC
from storage.client import patience

REQUEST_ID_HEADER = "X-Request-Id"
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
PATIENCE_SECONDS = 4.5
"""A caller hears within 5 s that the database is away, however many round trips are needed."""
CLIENT_CLOSED_REQUEST = 499
"""What the log says of a caller who hung up; nobody receives it."""

Identify = Callable[[web.Request], Awaitable[None]]
"""Puts the query and the principal into a request, or raises what it is answered with."""


def request_scope(identify: Identify) -> Middleware:
    """What the router does not know and what is public is answered without ``identify``.

    So a wrong path is a 404 to everybody.
    """

    @web.middleware
    async def scope(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        request_id = request[keys.REQUEST_ID] = read_request_id(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else None
        status = CLIENT_CLOSED_REQUEST
        metrics = request.app[keys.METRICS]
        metrics.in_flight += 1
        try:
            try:
                with patience(PATIENCE_SECONDS):
                    if route is not None and route not in PUBLIC:
                        await identify(request)
                    response = await handler(request)
            except ConnectionError:
                raise  # the caller hung up: there is nobody to answer
            except Exception as error:
                response = problem_of(request, error)
            response.headers[REQUEST_ID_HEADER] = request_id
            status = response.status
            return response
        finally:
            metrics.in_flight -= 1
            user = token = remote = None
            if keys.IS_ANONYMOUS not in request:
                remote = request.remote
                principal = request.get(keys.PRINCIPAL)
                if principal is not None:
                    user, token = principal.user_id, principal.token_name
            ms = (time.perf_counter() - started) * 1000
            line = RequestLine(
                time.time(),
                request_id,
                request.method,
                route or "-",
                status,
                ms,
                remote,
                user,
                token,
            )
            request.app[keys.REQUEST_LOG].write(line)

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
