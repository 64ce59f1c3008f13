"""Listening: from a socket to ``create_app``, and a stop that loses no accepted request."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from service.server.connection import Server
from service.server.dispatch import Dispatcher
from service.server.listening import Door, most_connections, open_sockets
from service.settings import SETTINGS
from service.web.health import DRAINING

LOOK_SECONDS = 1.0
LINGER_SECONDS = 0.3
"""How long a stop leaves an idle connection open: a request may be on its way."""
STOP_SECONDS = 60.0
ACCEPTED_AT_ONCE = 128


class Runner(web.AppRunner):
    """``AppRunner`` with our connections; the request log takes the place of aiohttp's access log.

    ``cleanup`` drains: it loses none of the requests that have reached this process or the queue of
    its sockets.
    """

    stop_seconds = STOP_SECONDS
    """The longest that ``cleanup`` waits for the last answers."""

    def __init__(self, app: web.Application) -> None:
        self._settings = app[SETTINGS]
        self._serving: Server | None = None
        self._door: Door | None = None
        self._is_shared = False
        self._next_look: asyncio.TimerHandle | None = None
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=self._settings.keepalive_seconds,
            shutdown_timeout=1.0,  # what has no answer by then is cancelled
        )

    def listen(self, sockets: Sequence[socket.socket], *, is_shared: bool = False) -> int:
        """Accepts connections from ``sockets`` until ``cleanup``; the port of the first.

        ``is_shared``: other processes accept from them too, and may go on after this one.
        """
        assert self._serving is not None  # noqa: S101 - for the type checker: setup() comes first
        self._is_shared = is_shared
        self._door = Door(
            sockets,
            self._serving,
            limit=most_connections(self._settings.max_connections),
            at_once=1 if is_shared else ACCEPTED_AT_ONCE,
        )
        self._serving.on_end = self._door.note_end
        return self._door.port

    async def cleanup(self) -> None:
        draining = self.app[DRAINING]
        if self._serving is not None:
            if not draining.is_set():
                draining.set()
                if self._door is not None:
                    await asyncio.sleep(self._settings.drain_seconds)
            if self._door is not None:
                await self._door.close(turning_away=not self._is_shared)
            await self._last_answers(self._serving)
        await super().cleanup()
        if self._next_look is not None:
            self._next_look.cancel()

    async def _last_answers(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while server.open and loop.time() < begun + self.stop_seconds:
            has_lingered = loop.time() >= begun + LINGER_SECONDS
            if has_lingered and all(connection.is_idle for connection in server.open):
                return
            await asyncio.sleep(0.01)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        self._serving = Server(
            Dispatcher(self.app),
            is_draining=self.app[DRAINING].is_set,
            request_factory=server.request_factory,
            **server._kwargs,  # noqa: SLF001 - aiohttp has no other way to name a protocol
        )
        self._look()
        return self._serving

    def _look(self) -> None:
        assert self._serving is not None  # noqa: S101 - for the type checker
        is_full = self._door is not None and self._door.is_full
        self._serving.look(self._settings.client_seconds, is_full=is_full)
        self._next_look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)


async def run(app: web.Application, announce: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then answers what was accepted, and returns.

    ``announce`` is told the base URL once connections are accepted. A second signal ends the
    process at once. Raises ``StartupRefused`` where the store cannot be opened and ``OSError``
    where the address cannot be listened on.
    """
    settings = app[SETTINGS]
    runner = Runner(app)
    try:
        await runner.setup()
        calm_collector()
        port = runner.listen(open_sockets(settings.host, settings.port))
        announce(base_url(settings.host, port))
        await asked_to_stop()
    finally:
        await runner.cleanup()


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
