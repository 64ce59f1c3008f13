"""One of several workers: ``python -m service.server.worker SOCKETS CHANNEL``.

``SOCKETS`` are the numbers of inherited sockets that listen, ``CHANNEL`` the number of the socket
that ``service.server.supervisor`` describes. The environment holds the address of the parent's
embedded server, if it has one.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from service.app import create_app
from service.server.runner import Runner, asked_to_stop, calm_collector, run
from service.settings import EMBEDDED_URI, InvalidSetting, Settings, read_settings
from service.telemetry.log import configure_logging
from service.telemetry.output import protect_outputs
from service.web.call import DRAINING
from storage.errors import StartupRefused, StorageError


class Channel:
    """The words to and from the parent."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._socket.setblocking(False)
        self._socket.set_inheritable(False)

    def say(self, words: str) -> None:
        """Never waits. A parent that is gone hears nothing, and needs nothing any more."""
        with contextlib.suppress(OSError):
            self._socket.send(f"{words}\n".encode())

    async def words(self) -> AsyncIterator[str]:
        """``drain`` and ``stop``; ends where the parent is gone."""
        loop = asyncio.get_running_loop()
        rest = b""
        with contextlib.suppress(ConnectionError):
            while heard := await loop.sock_recv(self._socket, 1024):
                *lines, rest = (rest + heard).split(b"\n")
                for line in lines:
                    yield line.decode()


async def serve(settings: Settings, sockets: Sequence[socket.socket], channel: Channel) -> None:
    """Serves until the parent says so or is gone, or a signal comes; answers what it accepted."""
    app = create_app(settings, watch=lambda session: channel.say(f"session {session.hex()}"))
    runner = Runner(app)
    stop = asyncio.Event()
    obeying = asyncio.create_task(_obey(channel, app[DRAINING], stop))
    signalled = asyncio.create_task(asked_to_stop())
    signalled.add_done_callback(lambda _: stop.set())
    try:
        await runner.setup()
        calm_collector()
        runner.listen(sockets, is_shared=True)
        channel.say("listening")
        await stop.wait()
    finally:
        signalled.cancel()
        await runner.cleanup()
        obeying.cancel()


async def _obey(channel: Channel, draining: asyncio.Event, stop: asyncio.Event) -> None:
    """Does what the parent says, and stops without being told where the parent is gone."""
    async for word in channel.words():
        draining.set()
        if word == "stop":
            stop.set()
    if stop.is_set():
        os._exit(1)  # the parent was asked a second time, and did not wait for the last answers
    draining.set()
    stop.set()


def main(arguments: Sequence[str]) -> int:
    numbers, channel = arguments
    sockets = [socket.socket(fileno=int(number)) for number in numbers.split(",")]
    protect_outputs()
    try:
        # Files of secrets may have changed since the parent read them.
        settings = read_settings()
        configure_logging(settings.log_level)
        if embedded_uri := os.environ.get(EMBEDDED_URI):
            settings = replace(settings, mongodb_uri=embedded_uri)
        run(serve(settings, sockets, Channel(int(channel))), settings.event_loop)
    except (InvalidSetting, StartupRefused, StorageError, OSError) as error:
        print(f"polls: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
