"""Serving an application: from sockets to ``create_app``, and a stop that drops no request."""

import asyncio
import gc
import importlib.util
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from aiohttp import web

from service.server.connection import Server
from service.server.listening import Listener, most_connections, open_sockets
from service.settings import SETTINGS, EventLoop
from service.web.call import DRAINING

LOOK_SECONDS = 1.0
LINGER_SECONDS = 0.3
"""How long a stop leaves an idle connection open: a request may be on its way."""
FIRST_REQUEST_SECONDS = 1.0
"""The same where none has come yet: slow clients have only just connected."""
STOP_SECONDS = 60.0
MAX_UNREAD_SECONDS = 10.0
"""How long the rest of a body is read that the response did not wait for."""


class Runner(web.AppRunner):
    """``AppRunner`` whose connections are watched and counted.

    The request log takes the place of aiohttp's access log. Bodies are decompressed where they are
    read, and only then. ``cleanup`` drains: every request that this process, or the queue of its
    sockets, has accepted is answered.
    """

    stop_seconds = STOP_SECONDS
    """The longest that ``cleanup`` waits for the last responses."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, access_log=None)
        self._settings = app[SETTINGS]
        self._watched: Server | None = None
        self._listener: Listener | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def server(self) -> Server | None:
        return self._watched

    async def setup(self) -> None:
        await super().setup()
        served = super().server
        assert served is not None  # noqa: S101 - for the type checker: it is set up
        self._watched = Server(
            served,
            is_draining=self.app[DRAINING].is_set,
            on_end=self._note_end,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=self._settings.keepalive_seconds,
            lingering_time=min(self._settings.client_seconds, MAX_UNREAD_SECONDS),
        )
        self._looking = asyncio.create_task(self._look(self._watched))

    def listen(self, sockets: Sequence[socket.socket], *, is_shared: bool = False) -> int:
        """Accepts connections from ``sockets`` until ``cleanup``; returns the port of the first.

        ``is_shared``: other processes accept from them too, and may go on after this one.
        """
        assert self._watched is not None  # noqa: S101 - for the type checker: setup() comes first
        limit = most_connections(self._settings.max_connections)
        self._listener = Listener(sockets, self._watched, limit=limit, is_shared=is_shared)
        return self._listener.port

    async def cleanup(self) -> None:
        draining = self.app[DRAINING]
        if self._watched is not None:
            is_first = not draining.is_set()
            draining.set()
            if self._listener is not None:
                if is_first:
                    await asyncio.sleep(self._settings.drain_seconds)
                await self._listener.close()
            await self._last_responses(self._watched)
            self._watched.pre_shutdown()
            await self._watched.shutdown(1.0)  # what has no response by then is cancelled
            self._watched = None
        if self._looking is not None:
            self._looking.cancel()
        await super().cleanup()

    async def _last_responses(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while server.open and loop.time() < begun + self.stop_seconds:
            waited = loop.time() - begun
            if waited >= LINGER_SECONDS and all(
                one.is_idle and (one.has_answered or waited >= FIRST_REQUEST_SECONDS)
                for one in server.open
            ):
                return
            await asyncio.sleep(0.01)

    def _note_end(self) -> None:
        if self._listener is not None:
            self._listener.note_end()

    async def _look(self, server: Server) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            is_full = self._listener is not None and self._listener.is_full
            server.look(self._settings.client_seconds, is_full=is_full)


async def serve(app: web.Application, announce: Callable[[str], Awaitable[None]]) -> None:
    """Serves until SIGTERM or SIGINT, then answers what was accepted, and returns.

    ``announce`` is told the base URL once connections are accepted. A second signal ends the
    process at once. Raises ``StartupRefused`` where the store cannot be opened and ``OSError``
    where the address cannot be listened on.
    """
    settings = app[SETTINGS]
    runner = Runner(app)
    # Not a task group: what is raised here is told in one sentence.
    stopped: asyncio.Task[None] | None = None
    try:
        await runner.setup()
        calm_collector()
        stopped = asyncio.create_task(asked_to_stop())
        await asyncio.sleep(0)  # from here on a signal stops it in order
        port = runner.listen(open_sockets(settings.host, settings.port))
        await announce(base_url(settings.host, port))
        await stopped
    finally:
        if stopped is not None:
            stopped.cancel()
        await runner.cleanup()


def run(main: Coroutine[Any, Any, None], event_loop: EventLoop) -> None:
    """Runs ``main`` on uvloop where that is wanted and installed, on asyncio's own loop else."""
    factory = None
    if event_loop == "uvloop" or (event_loop == "auto" and importlib.util.find_spec("uvloop")):
        import uvloop  # noqa: PLC0415 - an extra

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def calm_collector() -> None:
    """Leaves what lives as long as the process out of every garbage collection.

    Some hundred requests at once are ten thousands of young objects, nearly all of which go without
    the collector; looking through them every 700 took an eighth of the CPU of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def asked_to_stop() -> None:
    """Returns at the first SIGTERM or SIGINT; the next one is the system's to handle."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
