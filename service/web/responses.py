"""What goes out: JSON, and one body for every error."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_writer import _serialize_headers
from multidict import istr

REQUEST_ID_HEADER = istr("X-Request-Id")
JSON_HEADERS = {"Content-Type": "application/json; charset=utf-8"}
PROBLEM_TYPE = "application/problem+json"


class Fault(NamedTuple):
    """One thing that is wrong with a request; ``field`` is its path, None for the whole of it."""

    field: str | None
    message: str


class Refused(Exception):
    """A request is refused with ``status``, for one fault."""

    def __init__(self, status: int, field: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class Answer(web.Response):
    """A whole body of bytes.

    Nearly every answer is one of HTTP/1.1 on a connection that stays open. It goes without what
    aiohttp asks of answers that are compressed, chunked, empty or the last.
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        body = self.body
        if (
            self.prepared
            or not isinstance(body, bytes)
            or request.version != HttpVersion11
            or not request.keep_alive
            or self.keep_alive is False
            or request.method == hdrs.METH_HEAD
        ):
            return await super().prepare(request)
        await request._prepare_hook(self)  # noqa: SLF001 - as aiohttp does
        headers = self.headers
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
        headers[hdrs.DATE] = rfc822_formatted_time()
        headers[hdrs.SERVER] = SERVER_SOFTWARE
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("The client hung up.")
        head = _serialize_headers(f"HTTP/1.1 {self.status} {self.reason}", headers)
        transport.write(head + body)
        self._keep_alive = self._eof_sent = True
        if request.protocol.writing_paused:
            await request.writer.drain()
        return request.writer


def json_response(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return bytes_response(orjson.dumps(data), status=status, headers=headers)


def bytes_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """``body`` is JSON already."""
    headers = JSON_HEADERS if headers is None else {**JSON_HEADERS, **headers}
    return Answer(body=body, status=status, headers=headers)


def problem(
    status: int, faults: Iterable[Fault], *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """The body of RFC 9457, with the ``errors`` list that clients of the polling API read."""
    errors = [fault._asdict() for fault in faults]
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": errors[0]["message"],
        "errors": errors,
    }
    response = web.Response(body=orjson.dumps(body), status=status, headers=headers)
    response.content_type = PROBLEM_TYPE
    return response


def refusal(status: int, sentence: str, request_id: str) -> web.Response:
    """The answer where no middleware gives one; the connection ends with it."""
    headers = {REQUEST_ID_HEADER: request_id, "Connection": "close"}
    response = problem(status, [Fault(None, sentence)], headers=headers)
    response.force_close()
    return response
