"""Maps every exception to a problem response. Handlers catch nothing."""

from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import web
from marshmallow import ValidationError

from service.rules.policy import Forbidden
from service.web.call import CALL
from service.web.conditional import NotModified
from service.web.query import BODY
from service.web.rate_limits import QuotaExceeded
from service.web.responses import (
    INTERNAL_ERROR,
    INTERNAL_ERROR_OF_A_VOTE,
    Fault,
    Refused,
    problem,
    problem_data,
)
from storage.errors import Code, Conflict, NotFound, PreconditionFailed, StorageError, Unavailable

MAX_FAULTS = 100
"""Maximum number of faults in a response; a large body may have thousands."""

STORAGE_STATUS: dict[type[StorageError], int] = {
    NotFound: 404,
    Conflict: 409,
    PreconditionFailed: 412,
    Unavailable: 503,
}
RETRY_AFTER = {"Retry-After": "1"}

MAX_PATH = 200
"""Maximum length of a member's path in a response; the client chose the names."""

log = structlog.get_logger(__name__)


def problem_of(request: web.Request, error: Exception) -> web.Response:
    """The response to a request that raised ``error``."""
    match error:
        case NotModified():
            return web.Response(status=304, headers=error.headers)
        case web.HTTPException():
            return _http_problem(request, error)
    status, faults, code = _explained(request, error)
    headers = error.headers if isinstance(error, QuotaExceeded) else None
    if status == 503:
        headers = RETRY_AFTER
    return problem(status, faults, code=code, headers=headers)


def problem_within(request: web.Request, error: Exception) -> dict[str, Any]:
    """The body of ``problem_of``, for an answer that has one in place of a part of it."""
    if isinstance(error, web.HTTPException):
        return problem_data(error.status, [Fault(None, error.text or error.reason)])
    return problem_data(*_explained(request, error))


def _explained(request: web.Request, error: Exception) -> tuple[int, list[Fault], Code | None]:
    """Status, faults and code of a refusal; whatever is none is logged, and a 500."""
    match error:
        case ValidationError():
            return 400, _faults(error), None
        case Refused():
            return error.status, [Fault(error.field, str(error))], error.code
        case Forbidden():
            return 403, [Fault(None, str(error))], error.code
        case QuotaExceeded():
            return 429, [Fault(None, str(error))], None
        case StorageError():
            status = next(
                STORAGE_STATUS[kind] for kind in type(error).__mro__ if kind in STORAGE_STATUS
            )
            return status, [Fault(None, str(error))], error.code
    call = request[CALL]
    log.error("unhandled error", request_id=call.logged_id, exc_info=error)
    message = INTERNAL_ERROR_OF_A_VOTE if call.is_anonymous else INTERNAL_ERROR
    return 500, [Fault(None, message)], None


def _faults(error: ValidationError) -> list[Fault]:
    messages = error.normalized_messages()  # type: ignore[no-untyped-call] # marshmallow's
    faults = [Fault(*fault) for fault in field_faults(messages)]
    if len(faults) > MAX_FAULTS:
        rest = len(faults) - MAX_FAULTS
        faults[MAX_FAULTS:] = [Fault(None, f"and {rest:,} more errors")]
    return faults


def _http_problem(request: web.Request, error: web.HTTPException) -> web.Response:
    """404 and 405 of the router, and errors raised while reading a body."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method} is not allowed for this path; it allows {allowed}."
        return problem(405, [Fault(None, message)], headers={"Allow": allowed})
    message = (
        "There is no resource at this path." if error.status == 404 else error.text or error.reason
    )
    response = problem(error.status, [Fault(None, message)])
    if error.status in (408, 431):
        response.force_close()
    return response


def field_faults(messages: Mapping[Any, Any] | list[Any], path: str = "") -> list[tuple[str, str]]:
    """Flattens marshmallow's messages to pairs of a path, ``options[2].title``, and a sentence."""
    if isinstance(messages, list):
        field = (path or BODY)[:MAX_PATH]
        return [(field, f"{field} {message}") for message in messages]
    faults: list[tuple[str, str]] = []
    for member, below in messages.items():
        if member == "_schema":
            place = path
        elif isinstance(member, int):
            place = f"{path}[{member}]"
        else:
            place = f"{path}.{member}" if path else str(member)
        faults += field_faults(below, place)
    return faults
