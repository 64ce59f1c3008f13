"""One connection: its requests, one after the other, and what its client may do.

How long a client may take, and how much it may send unasked, costs a request that comes in time
nothing: who is slow is found out by one look at all connections a second (``Server.look``), from
what aiohttp keeps anyway.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from service.server.dispatch import Dispatcher
from service.web.call import read_request_id
from service.web.responses import refusal

MAX_HEAD_BYTES = 32 * 1024
"""Of a header block that comes in pieces; one line may have 8,190 bytes, as aiohttp sees to."""
LEAST_TAKEN = 16 * 1024
"""Bytes of a waiting answer that a client must take while its patience lasts."""
IDLE_SECONDS = 1.0
"""Who asks for nothing for so long makes room where no further connection can be had."""

log = structlog.get_logger(__name__)

_receive = web.RequestHandler.data_received


class Connection(web.RequestHandler):
    """aiohttp's protocol, where it would say too much, wait too long or lose a request."""

    __slots__ = ("_awaited", "_head", "_head_bytes", "_link", "_resumed", "_since")

    def __init__(self, server: "Server", **options: Any) -> None:
        super().__init__(server, **options)
        self._link: asyncio.Transport | None = None
        self._awaited: tuple[object, ...] = ()
        self._since = 0.0
        self._resumed = 0
        self._head = -1
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link = cast(asyncio.Transport, transport)
        cast(Server, self._manager).open.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        server = cast(Server, self._manager)
        super().connection_lost(exc)
        self._link = None
        server.open.discard(self)
        server.on_end()

    async def start(self) -> None:
        """Answers the requests of this connection, one after the other, until it ends.

        As aiohttp's own, but without a task for each request. What is no HTTP, or asks for another
        protocol, is left to that.
        """
        server = cast(Server, self._manager)
        while not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, body = self._messages[0]
            if self._upgraded or not isinstance(message, RawRequestMessage):
                await super().start()
                return
            self._take_message()
            server.requests_count += 1
            if not await self._answer(message, body, server):
                break
            self._await_next()
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    def _take_message(self) -> None:
        """Lets the parser go on where it waits for the queue to become shorter."""
        self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _answer(
        self, message: RawRequestMessage, body: StreamReader, server: "Server"
    ) -> bool:
        """Sends the answer to a request; whether the connection stays open after it."""
        writer, task = StreamWriter(self, self._loop), cast(asyncio.Task[None], self._task_handler)
        request = cast(web.Request, server.request_factory(message, body, self, writer, task))
        self._request_in_progress = True
        self._current_request = request
        try:
            response = await server.find(request)(request)
            self._current_request = None
            if server.is_draining() and not self._messages:  # pipelined ones are answered too
                response.force_close()
            await response.prepare(request)
            await response.write_eof()
            self._keepalive = bool(response.keep_alive)
            if not body.is_eof():
                await self._linger(body)
        except ConnectionError:
            self._keepalive = False  # the client hung up
        except Exception as error:
            self.log_exception("Unhandled exception", exc_info=error)
            self.force_close()
        except BaseException:
            self.force_close()
            raise
        finally:
            self._current_request = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        return self._keepalive and not self._close and not self._force_close

    def _await_next(self) -> None:
        ends_at = self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(ends_at, self._process_keepalive)

    async def _linger(self, body: StreamReader) -> None:
        """Reads the rest of a body: a client that sends might not see an answer before its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lingering_time):
                while not body.is_eof():
                    await body.readany()
        if not body.is_eof():
            self.close()

    def data_received(self, data: bytes) -> None:
        """Every request passes here: what is rare has a method of its own."""
        _receive(self, data)
        if self._messages:
            if self._current_request is not None:
                self._end_broken_body(self._current_request)
        elif self._waiter is not None:
            self._note_head(data)

    def _end_broken_body(self, request: web.BaseRequest) -> None:
        """Where aiohttp has found a body broken, it tells nobody who reads it."""
        message, _ = self._messages[-1]
        if not isinstance(message, RawRequestMessage) and not request.content.is_eof():
            self._end_body(request, web.RequestPayloadError("broken"))

    def _end_body(self, request: web.BaseRequest, reason: Exception) -> None:
        """Who reads the body hears ``reason``; its answer says that the connection ends."""
        message = request._message  # noqa: SLF001 - its answer asks it whether to keep the connection
        request._message = message._replace(should_close=True)  # noqa: SLF001
        request.content.set_exception(reason)
        request.content.feed_eof()
        self.close()

    def _note_head(self, data: bytes) -> None:
        """A piece of a header block came, and not its end: the look of the second counts from here.

        aiohttp bounds a line and the number of lines, and so a block by a megabyte.
        """
        if self._head != self._request_count:
            self._head, self._head_bytes = self._request_count, 0
        self._head_bytes += len(data.strip(b"\r\n"))
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def _refuse(self, status: int) -> None:
        """Lets aiohttp's loop over the messages answer, as it answers what is no HTTP."""
        error = _ErrInfo(status=status, exc=BadHttpMessage("refused"), message="")
        self._messages.append((error, EMPTY_PAYLOAD))
        self._close = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def resume_writing(self) -> None:
        self._resumed += 1
        super().resume_writing()

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request is here and no answer is under way."""
        return self._waiter is not None and not self._waiter.done()

    def look(self, now: float, patience: float) -> None:
        """Ends a wait for the client that has lasted for ``patience`` seconds.

        To be called about once a second; ``now`` is the time of the loop.
        """
        awaited, end = self._wait_for_client()
        if awaited != self._awaited:
            self._awaited, self._since = awaited, now
        elif end is not None and now - self._since >= patience:
            end()

    def make_room(self, now: float) -> None:
        """Closes a connection that has been idle since the look before this one."""
        if self._awaited[:1] == ("a request",) and now - self._since >= IDLE_SECONDS:
            self.force_close()

    def _wait_for_client(self) -> tuple[tuple[object, ...], Callable[[], None] | None]:
        """What the client is waited for, equal at the next look unless it moved; and how to end it.

        A connection that has answered waits as long as aiohttp's ``keepalive_timeout``.
        """
        link, request = self._link, self._current_request
        if link is not None and (waiting := link.get_write_buffer_size()):
            # Also where aiohttp has closed the connection: what waits is still held.
            return ("its taking", self._resumed, waiting // LEAST_TAKEN), self._end_untaken
        if request is not None:
            is_ours_to_wait = request.content.is_eof() or self._reading_paused
            return ("its body", self._request_count), None if is_ours_to_wait else self._end_slow
        if self.is_idle:
            if self._head == self._request_count and self._head_bytes:
                return ("its head", self._request_count), lambda: self._refuse(408)
            if not self._request_count:
                return ("its first word",), self.force_close
            return ("a request", self._request_count), None
        return (), None

    def _end_untaken(self) -> None:
        if self._link is not None:
            log.info("answer not taken")
            self._link.abort()

    def _end_slow(self) -> None:
        if self._current_request is not None:
            reason = web.HTTPRequestTimeout(text="The body took too long to arrive.")
            self._end_body(self._current_request, reason)

    def log_exception(self, *args: Any, **options: Any) -> None:
        """What is left of a body that was refused is no error of ours."""
        expected = (web.RequestPayloadError, web.HTTPRequestTimeout)
        if not isinstance(options.get("exc_info"), expected):
            super().log_exception(*args, **options)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature
    ) -> web.StreamResponse:
        """Answers what is no HTTP with a problem body too.

        aiohttp would repeat the broken line to the caller and to the log, and a token may stand
        in it.
        """
        request_id = read_request_id(request)
        if status == 500:
            if not isinstance(exc, ConnectionError):  # who hung up has a line of the request log
                log.error("unhandled error", request_id=request_id, exc_info=exc)
            return refusal(status, "Something went wrong here; the log knows more.", request_id)
        if isinstance(exc, LineTooLong):
            status = 431
        event, sentence = UNREAD.get(status, UNREAD[400])
        log.info(event, request_id=request_id, remote=request.remote)
        return refusal(status, sentence, request_id)


UNREAD = {
    400: ("no valid HTTP", "This is not a valid HTTP/1.1 request."),
    408: ("header too slow", "The header block took too long to arrive."),
    431: ("header too large", "The request line or a header field is too large."),
}


class Server(web.Server):
    """Makes our connections and knows those that are open; ``on_end`` hears of each that ends.

    While ``is_draining`` every answer is the last of its connection.
    """

    def __init__(
        self, dispatcher: Dispatcher, *, is_draining: Callable[[], bool], **options: Any
    ) -> None:
        super().__init__(cast(Any, dispatcher.answer), **options)
        self.find = dispatcher.find
        self.is_draining = is_draining
        self.open: set[Connection] = set()
        self.on_end: Callable[[], None] = _nobody_waits

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)

    def look(self, patience: float, *, is_full: bool) -> None:
        """One look at every connection; to be called about once a second."""
        now = self._loop.time()
        for connection in tuple(self.open):
            if is_full:
                connection.make_room(now)
            connection.look(now, patience)


def _nobody_waits() -> None:
    """There is no limit, so no end of a connection lets another in."""
