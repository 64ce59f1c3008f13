"""What goes out: JSON, and one body for every error."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from multidict import CIMultiDict, istr

from storage.errors import Code

REQUEST_ID_HEADER = istr("X-Request-Id")
COMMON_HEADERS: dict[str, str] = {
    istr("Cache-Control"): "no-store",
    istr("X-Content-Type-Options"): "nosniff",
    istr("Server"): "polls",
}
"""On every response that does not set them itself; aiohttp's ``Server`` would tell versions."""
JSON_HEADERS = CIMultiDict({**COMMON_HEADERS, "Content-Type": "application/json; charset=utf-8"})
"""Of JSON; a copy of these is made much faster than they are set one by one."""
PROBLEM_TYPE = "application/problem+json"
INTERNAL_ERROR = "Internal error. The log has details under this request id."
INTERNAL_ERROR_OF_A_VOTE = "Internal error. The log has details, but not under this request id."
"""Of an anonymous request, in the log of which there is no id that its caller knows."""
PIECE_BYTES = 32 * 1024

STATUS_CODES: dict[int, Code] = {
    400: Code.INVALID_REQUEST,
    403: Code.FORBIDDEN,
    404: Code.ROUTE_NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    408: Code.REQUEST_TIMEOUT,
    409: Code.CONFLICT,
    412: Code.PRECONDITION_FAILED,
    413: Code.BODY_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    417: Code.EXPECTATION_FAILED,
    429: Code.RATE_LIMITED,
    431: Code.HEADERS_TOO_LARGE,
    500: Code.INTERNAL_ERROR,
    503: Code.UNAVAILABLE,
    505: Code.HTTP_VERSION_NOT_SUPPORTED,
}
"""The code of a refusal that has none of its own, such as those of the server and the router."""


class Fault(NamedTuple):
    """One thing that is wrong with a request; ``field`` is its path, None for the whole of it."""

    field: str | None
    message: str


class Refused(Exception):
    """A request is refused with ``status`` and ``code``, for one fault."""

    def __init__(self, status: int, code: Code, field: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field


def add_common_headers(response: web.StreamResponse, request_id: str) -> None:
    """To be called once for every response, before it is sent."""
    headers = response.headers
    for name, value in COMMON_HEADERS.items():
        headers.setdefault(name, value)
    headers[REQUEST_ID_HEADER] = request_id


def json_response(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return bytes_response(orjson.dumps(data), status=status, headers=headers)


def encoded(data: Any) -> orjson.Fragment:
    """A part of what ``json_response`` takes, in JSON already.

    An answer of many parts is encoded, and forgotten, part by part: others have their turn between.
    """
    return orjson.Fragment(orjson.dumps(data))


def bytes_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """``body`` is JSON already."""
    all_headers = JSON_HEADERS.copy()
    if headers is not None:
        all_headers.update(headers)
    return web.Response(body=in_pieces(body), status=status, headers=all_headers)


def in_pieces(body: bytes) -> bytes | Payload:
    """A large body as one that is sent piece by piece, as the client reads it.

    Else all of it would wait in the buffer of each connection whose client does not read.
    """
    return _Pieces(body) if len(body) > PIECE_BYTES else body


class _Pieces(Payload):
    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.body = body

    @property
    def size(self) -> int:
        return len(self.body)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for begin in range(0, len(self.body), PIECE_BYTES):
            await writer.write(self.body[begin : begin + PIECE_BYTES])
            await writer.drain()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.body.decode(encoding, errors)


def problem(
    status: int,
    faults: Iterable[Fault],
    *,
    code: Code | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """The body of RFC 9457, with the ``errors`` list that clients of the polling API read.

    ``code`` is left out where the status alone says why (``STATUS_CODES``).
    """
    body = _problem_body(status, faults, code)
    response = web.Response(body=body, status=status, headers=headers)
    response.content_type = PROBLEM_TYPE
    return response


def _problem_body(status: int, faults: Iterable[Fault], code: Code | None = None) -> bytes:
    return orjson.dumps(problem_data(status, faults, code))


def problem_data(status: int, faults: Iterable[Fault], code: Code | None = None) -> dict[str, Any]:
    """The members of a problem; see ``problem``."""
    errors = [fault._asdict() for fault in faults]
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": errors[0]["message"],
        "code": code or STATUS_CODES[status],
        "errors": errors,
    }


def refusal(status: int, sentence: str, request_id: str) -> web.Response:
    """The answer where no middleware gives one; the connection ends with it."""
    response = problem(status, [Fault(None, sentence)], headers={"Connection": "close"})
    add_common_headers(response, request_id)
    response.force_close()
    return response


def refusal_bytes(status: int, sentence: str, request_id: str) -> bytes:
    """A refusal as it is sent where there is not even a request to answer."""
    body = _problem_body(status, [Fault(None, sentence)])
    headers: dict[str, str] = {
        "Content-Type": PROBLEM_TYPE,
        "Content-Length": str(len(body)),
        **COMMON_HEADERS,
        REQUEST_ID_HEADER: request_id,
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
