"""Listening: from a socket to ``create_app``, and a stop that loses no accepted request."""

import asyncio
import gc
import signal
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage

from service import keys
from service.middleware.scope import REQUEST_ID_HEADER, read_request_id
from service.responses import Fault, problem

log = structlog.get_logger(__name__)


class _Protocol(web.RequestHandler):
    """aiohttp's protocol, where it would say too much or lose a request."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Brings the body of a request under way to an end, so that no handler waits in vain.

        aiohttp drops the rest of a body once a stop has begun, and tells nobody who reads a body
        that it has found it broken.
        """
        closing = self._close, self._force_close
        if self._request_in_progress and self.transport is not None:
            self._close = self._force_close = False
        super().data_received(data)
        self._close |= closing[0]
        self._force_close |= closing[1]
        if self._current_request is not None and self._messages:
            message, _ = self._messages[-1]
            body = self._current_request.content
            if not isinstance(message, RawRequestMessage) and not body.is_eof():
                body.set_exception(web.RequestPayloadError("broken"))
                body.feed_eof()
                self.close()

    def log_exception(self, *args: Any, **options: Any) -> None:
        """What is left of a body that was refused as broken is no error of ours."""
        if not isinstance(options.get("exc_info"), web.RequestPayloadError):
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
            return _refusal(status, "Something went wrong here; the log knows more.", request_id)
        log.info("no valid HTTP", request_id=request_id, remote=request.remote)
        return _refusal(status, "This is not a valid HTTP/1.1 request.", request_id)


def _refusal(status: int, sentence: str, request_id: str) -> web.Response:
    """The answer where no middleware gives one; the connection ends with it."""
    response = problem(status, [Fault(None, sentence)], headers={REQUEST_ID_HEADER: request_id})
    response.force_close()
    return response


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """``AppRunner`` with our protocol; the request log takes the place of aiohttp's access log."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, access_log=None)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        handle = server.request_handler

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await handle(request)
            except web.HTTPExpectationFailed:  # raised before any middleware is asked
                request_id = read_request_id(request)
                log.info("unknown expectation", request_id=request_id, remote=request.remote)
                return _refusal(417, "Of all that Expect may ask, 100-continue is met.", request_id)

        options = server._kwargs  # noqa: SLF001 - aiohttp has no other way to name a protocol
        return _Server(answer, request_factory=server.request_factory, **options)


async def run(app: web.Application, announce: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then answers what was accepted, and returns.

    ``announce`` is told the base URL once connections are accepted. A second signal ends the
    process at once. Raises ``StartupRefused`` where the store cannot be opened and ``OSError``
    where the address cannot be listened on.
    """
    settings = app[keys.SETTINGS]
    runner = Runner(app)
    try:
        await runner.setup()
        _calm_collector()
        site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
        await site.start()
        announce(f"http://{_shown(settings.host)}:{site.port}")
        await _asked_to_stop()
        app[keys.DRAINING].set()
    finally:
        await runner.cleanup()


def _calm_collector() -> None:
    """Leaves what lives as long as the process out of every garbage collection.

    Some hundred requests at once are ten thousands of young objects, nearly all of which go without
    the collector; looking through them every 700 took an eighth of the CPU of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _asked_to_stop() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    for number in signals:
        loop.remove_signal_handler(number)
