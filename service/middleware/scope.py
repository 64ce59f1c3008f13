"""The scope of a request: its id, its patience with the database, its line in the log."""

import re
import secrets
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from service import keys
from service.logs import RequestLine
from storage.client import patience

REQUEST_ID_HEADER = "X-Request-Id"
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
PATIENCE_SECONDS = 4.5
"""A caller hears within 5 s that the database is away, however many round trips are needed."""
CLIENT_CLOSED_REQUEST = 499
"""What the log says of a caller who hung up; nobody receives it."""


@web.middleware
async def request_scope(request: web.Request, handler: Handler) -> web.StreamResponse:
    started = time.perf_counter()
    request_id = request[keys.REQUEST_ID] = read_request_id(request)
    status = CLIENT_CLOSED_REQUEST
    try:
        with patience(PATIENCE_SECONDS):
            response = await handler(request)
        response.headers[REQUEST_ID_HEADER] = request_id
        status = response.status
        return response
    finally:
        is_anonymous = request.get(keys.IS_ANONYMOUS, False)
        principal = None if is_anonymous else request.get(keys.PRINCIPAL)
        resource = request.match_info.route.resource
        request.app[keys.REQUEST_LOG].write(
            RequestLine(
                id=request_id,
                method=request.method,
                route=resource.canonical if resource else "-",
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 2),
                remote=None if is_anonymous else request.remote,
                user=principal.user_id if principal else None,
                token=principal.token_name if principal else None,
            )
        )


def read_request_id(request: web.BaseRequest) -> str:
    """The caller's, where it is harmless in headers and logs, else a new one."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return given if SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
