"""One connection: aiohttp speaks HTTP on it, and what its client costs is bounded here.

Reads are small, and nothing more is read while a request is answered. A client that is slow is
found by one look at all connections a second, so a request that comes in time pays nothing for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong

from service.server.framing import Chunked, Sized
from service.web.call import new_request_id, read_request_id
from service.web.responses import INTERNAL_ERROR, refusal, refusal_bytes

MAX_LENGTH = 2**63
"""More bytes of a body than any limit admits; aiohttp takes 2^64-1 for no body at all."""
MAX_HEAD_BYTES = 32 * 1024
"""Of a request line and its headers; aiohttp bounds each line by 8,190 bytes."""
READ_BYTES = 16 * 1024
WRITE_BYTES = 32 * 1024
"""Beyond so much that a client has not read, aiohttp waits before it goes on."""
LEAST_READ = 16 * 1024
"""Bytes of a response that a client must read within ``POLLS_CLIENT_SECONDS``."""
IDLE_SECONDS = 1.0
"""Idle seconds before a connection may be closed to admit another."""
END_OF_HEAD = b"\r\n\r\n"
HTTP2_PREFACE = b"PRI * HTTP/2"
"""How a connection of HTTP/2 begins (RFC 9113, section 3.4); aiohttp would wait for the rest."""

REFUSALS = {
    400: ("invalid request", "This is not a valid HTTP/1.1 request."),
    408: ("headers too slow", "The request line and headers took too long to arrive."),
    417: ("unknown expectation", "Only Expect: 100-continue is supported."),
    431: ("headers too large", "The request line or the headers are too large."),
    505: ("unknown version", "Only HTTP/1.1 and HTTP/1.0 are supported."),
}
"""For each status that is answered before there is a request: the event in the log, the detail."""

log = structlog.get_logger(__name__)

_buffer = memoryview(bytearray(READ_BYTES))
"""Shared by all connections: what is read into it is copied before the loop goes on."""


class Handler(web.RequestHandler):
    """The protocol of aiohttp, which answers what is no request with a problem too.

    aiohttp would repeat the broken line to the caller and to the log, and a token may stand in it.
    """

    def __init__(self, server: web.Server, is_draining: Callable[[], bool], **options: Any) -> None:
        super().__init__(server, **options)
        self.is_draining = is_draining
        self.connection: Connection

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature
    ) -> web.StreamResponse:
        if status == 500:
            request_id = read_request_id(request)
            if not isinstance(exc, ConnectionError):  # the request log has a line of its own
                log.error("unhandled error", request_id=request_id, exc_info=exc)
            return refusal(status, INTERNAL_ERROR, request_id)
        return _refuse(request, 431 if isinstance(exc, LineTooLong) else status)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends a response; also what aiohttp refuses before any middleware, as an exception.

        While the service drains it is the last on its connection, unless more has arrived. So it is
        behind an offer to upgrade whose body is still on its way: aiohttp would lose what follows.
        """
        if isinstance(resp, Exception):  # an HTTPException; this check is the cheaper one
            resp = _refuse(request, resp.status)
        is_last = self.is_draining() and not self.connection.expects_more
        if is_last or (self.connection.awaits_body and hdrs.UPGRADE in request.headers):
            resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.connection.end()

    def log_exception(self, *args: Any, **options: Any) -> None:
        """What is left of a body that was refused is not an error of this service."""
        if not isinstance(options.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **options)


def _refuse(request: web.BaseRequest, status: int) -> web.Response:
    request_id = read_request_id(request)
    event, detail = REFUSALS.get(status, REFUSALS[400])
    log.info(event, request_id=request_id, remote=request.remote)
    return refusal(status, detail, request_id)


class Connection(asyncio.BufferedProtocol):
    """What is between a client and aiohttp's protocol.

    aiohttp is given one request at a time: a header block, then its body, and what is behind them
    once the response is sent. Until then nothing more is read.
    """

    __slots__ = (
        *("_awaited", "_body", "_end_of_head", "_handler", "has_answered", "_head_bytes", "_held"),
        *("_is_expected", "_is_paused", "_on_end", "_request", "_since", "_transport", "_writes"),
    )

    def __init__(self, handler: Handler, on_end: Callable[["Connection"], None]) -> None:
        self._handler = handler
        handler.connection = self
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._head_bytes = 0
        self._end_of_head = b""
        self._is_expected = False
        self._request: web.BaseRequest | None = None
        self._body: Sized | Chunked | None = None
        self._is_paused = False
        self.has_answered = False
        self._writes = 0
        self._awaited: tuple[object, ...] = ()
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own only look like one
        self._transport.set_write_buffer_limits(high=WRITE_BYTES)
        self._handler.connection_made(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._handler.connection_lost(exc)
        del self._handler  # it knows this connection: both would be kept until they are collected
        self._on_end(self)

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._writes += 1
        self._handler.resume_writing()

    def eof_received(self) -> bool | None:
        self._handler.eof_received()
        return None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_buffer[:nbytes])
        if (
            not self._has_begun
            and 0 < data.find(END_OF_HEAD) == nbytes - len(END_OF_HEAD)
            and data[0] not in b"\r\n"
            and not data.startswith(HTTP2_PREFACE)
        ):
            # One whole header block, as most requests arrive: the same as below, faster. Where an
            # end is missing, find gives -1, which in three bytes is the place of one.
            self._is_expected = True
            self._head_bytes = nbytes
            self._handler.data_received(data)
            return
        self._held += data
        self._pass_on()
        if len(self._held) >= READ_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._is_paused = True

    @property
    def _has_begun(self) -> bool:
        """Whether a request has arrived, at least in part, or what is left of its body."""
        return bool(
            self._held
            or self._head_bytes
            or self._is_expected
            or self._request is not None
            or self._body is not None
        )

    def _pass_on(self) -> None:
        """Gives aiohttp what it may have now of what was read; the rest stays held."""
        while self._held and self._transport is not None:
            wanted = self._wanted()
            if not wanted:
                break
            data, self._held = self._held[:wanted], self._held[wanted:]
            self._handler.data_received(data)

    def _wanted(self) -> int:
        """How many of the held bytes aiohttp may have now."""
        if self._body is not None:
            return self._wanted_of_body(self._body)
        if self._request is not None or self._is_expected:
            return 0
        if not self._head_bytes and (blank := len(self._held) - len(self._held.lstrip(b"\r\n"))):
            return blank  # before a request line, blank lines are ignored
        if not self._head_bytes and self._held.startswith(HTTP2_PREFACE):
            self._held = b""
            self._end_head(505)
            return 0
        # The end of a header block may come in two pieces.
        before = len(self._end_of_head)
        end = (self._end_of_head + self._held).find(END_OF_HEAD)
        self._is_expected = end >= 0
        wanted = end + len(END_OF_HEAD) - before if self._is_expected else len(self._held)
        self._head_bytes += wanted
        self._end_of_head = (self._end_of_head + self._held[:wanted])[-3:]
        if self._head_bytes > MAX_HEAD_BYTES:
            self._end_head(431)
            return 0
        return wanted

    def _wanted_of_body(self, body: Sized | Chunked) -> int:
        try:
            wanted = body.take(self._held)
        except ValueError as error:
            # Where this body ends is not known, so nothing behind it is a request.
            self._held = b""
            if self._request is not None:
                self._request.content.set_exception(web.RequestPayloadError(str(error)))
            else:
                self._handler.force_close()
            return 0
        if body.is_complete:
            self._body = None
        return wanted

    def begin(self, request: web.BaseRequest) -> None:
        """A handler works on ``request`` now.

        Raises ``ConnectionResetError`` if the client has gone, or was refused since it speaks
        another version than HTTP/1, in which aiohttp would answer it; and ``HTTPBadRequest`` for a
        body whose length aiohttp does not understand.
        """
        if request.version[0] != 1:
            self._end_head(505)
            raise ConnectionResetError("The client speaks another version of HTTP.")
        if self._transport is None:
            raise ConnectionResetError("The client has closed the connection.")
        self._request = request
        self._is_expected = False
        self._head_bytes = 0
        self._end_of_head = b""
        if hdrs.TRANSFER_ENCODING in request.headers:
            self._body = Chunked()
        elif length := request.content_length:
            if length > MAX_LENGTH:
                raise web.HTTPBadRequest
            self._body = Sized(length)
        if self._held or self._is_paused:
            self._release()

    def end(self) -> None:
        """Its response is sent."""
        self._request = None
        self._is_expected = False
        self._head_bytes = 0
        self.has_answered = True
        if self._held or self._is_paused:
            self._release()

    def _release(self) -> None:
        self._pass_on()
        if self._is_paused and len(self._held) < READ_BYTES and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    @property
    def expects_more(self) -> bool:
        """Whether something has arrived behind the request at hand."""
        return bool(self._held)

    @property
    def awaits_body(self) -> bool:
        """Whether a part of the body of the last request has not arrived."""
        return self._body is not None

    @property
    def is_idle(self) -> bool:
        """Whether no request has arrived, not even in part, and no response is under way."""
        is_sent = self._transport is None or not self._transport.get_write_buffer_size()
        return is_sent and not self._has_begun

    def look(self, now: float, client_seconds: float) -> None:
        """Ends a wait for the client that has lasted for ``client_seconds``.

        To be called about once a second; ``now`` is the time of the loop. A body is waited for by
        whatever reads it, an idle connection by aiohttp.
        """
        awaited, end = self._wait_for_client()
        if awaited != self._awaited:
            self._awaited, self._since = awaited, now
        elif end is not None and now - self._since >= client_seconds:
            end()

    def close_if_idle(self, now: float) -> None:
        """Closes a connection that has been idle since the look before this one."""
        if self._awaited == ("a request",) and now - self._since >= IDLE_SECONDS:
            self._handler.force_close()

    def _wait_for_client(self) -> tuple[tuple[object, ...], Callable[[], None] | None]:
        """What the client is waited for, equal at the next look unless it moved; how to end it."""
        if self._transport is None:
            return (), None
        if waiting := self._transport.get_write_buffer_size():
            # Also where aiohttp has closed the connection: what waits is still held.
            return ("its reading", self._writes, waiting // LEAST_READ), self._end_unread
        if self._request is not None or self._body is not None:
            return (), None
        if self._head_bytes or not self.has_answered:
            return ("its headers", self.has_answered), self._end_slow_head
        return ("a request",), None

    def _end_unread(self) -> None:
        if self._transport is not None:
            log.info("response not read")
            self._transport.abort()

    def _end_slow_head(self) -> None:
        if self._head_bytes:
            self._end_head(408)
        else:
            self._handler.force_close()

    def _end_head(self, status: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        event, detail = REFUSALS[status]
        request_id = new_request_id()
        remote = self._transport.get_extra_info("peername")
        log.info(event, request_id=request_id, remote=remote[0] if remote else None)
        self._transport.write(refusal_bytes(status, detail, request_id))
        self._handler.force_close()


class Server(web.Server):
    """Makes a watched connection for each that is accepted, and knows those that are open."""

    def __init__(
        self,
        served: web.Server,
        *,
        is_draining: Callable[[], bool],
        on_end: Callable[[], None],
        **options: Any,
    ) -> None:
        """``served`` is the server of an ``AppRunner``; ``options`` go to aiohttp's protocol."""
        super().__init__(self.answer, request_factory=served.request_factory)
        self._served = served.request_handler
        self._is_draining = is_draining
        self._options = options
        self._told = on_end
        self.open: set[Connection] = set()

    def answer(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        cast(Handler, request.protocol).connection.begin(request)
        return self._served(request)

    def __call__(self) -> Any:
        loop = asyncio.get_running_loop()
        handler = Handler(self, self._is_draining, loop=loop, **self._options)
        connection = Connection(handler, self._ended)
        self.open.add(connection)
        return connection

    def _ended(self, connection: Connection) -> None:
        self.open.discard(connection)
        self._told()

    def look(self, client_seconds: float, *, is_full: bool) -> None:
        """One look at every connection; to be called about once a second."""
        now = asyncio.get_running_loop().time()
        for connection in tuple(self.open):
            if is_full:
                connection.close_if_idle(now)
            connection.look(now, client_seconds)
