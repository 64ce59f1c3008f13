"""A service that listens in the process of the test, and its clients."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from service.app import create_app
from service.server.connection import Server
from service.server.listening import open_sockets
from service.server.runner import Runner
from service.settings import Settings
from service.telemetry.log import RequestLog

LARGE = 24 * 1024 * 1024


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read_head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    async def read(self) -> Answer:
        head = (await self.read_head()).decode()
        first, *lines = head.strip().split("\r\n")
        assert first.startswith("HTTP/1."), f"{first} is no answer"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return Answer(int(first.split()[1]), headers, body)

    async def until(self, words: bytes) -> bytes:
        """Everything up to these words."""
        received = b""
        while words not in received:
            more = await self._reader.read(65536)
            assert more, f"it ended before {words!r}"
            received += more
        return received

    async def call(self, data: bytes) -> Answer:
        self.send(data)
        return await self.read()

    async def trickle(self, data: bytes, every: float = 0.02) -> None:
        """Sends one byte at a time, until all are sent or the connection is closed."""
        for byte in data:
            if self._writer.is_closing():
                return
            self._writer.write(bytes([byte]))
            await asyncio.sleep(every)

    async def sip(self, size: int, every: float) -> None:
        """Takes no more than so many bytes in so many seconds."""
        while await self._reader.read(size):  # noqa: ASYNC110 - it is slow on purpose
            await asyncio.sleep(every)

    async def rest(self) -> bytes:
        """Everything until the other side closes or resets the connection."""
        received = b""
        try:
            while more := await self._reader.read(65536):
                received += more
        except ConnectionError:
            pass
        return received

    def close(self) -> None:
        self._writer.transport.abort()


class RunningService:
    """A service that listens in this process."""

    def __init__(self, runner: Runner, port: int) -> None:
        assert isinstance(runner.server, Server)
        self.runner = runner
        self.server = runner.server
        self._port = port
        self._clients: list[Client] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def connect(self, limit: int = 65536, *, kernel_bytes: int | None = None) -> Client:
        """``kernel_bytes``: how much the kernel takes for a client that does not read."""
        connection = socket.socket()
        if kernel_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kernel_bytes)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


async def large(_: web.Request) -> web.Response:
    return web.Response(body=b"x" * LARGE)


async def until(condition: Callable[[], bool], within: float = 10) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    settings: Settings,
    routes: Mapping[str, Handler] | None = None,
    *,
    sockets: Sequence[socket.socket] | None = None,
) -> AsyncIterator[RunningService]:
    """``routes`` are answered beside those of the service, to GET and with a token."""
    app = create_app(settings, request_log=RequestLog(io.BytesIO()))
    for path, handler in {"/large": large, **(routes or {})}.items():
        app.router.add_get(path, handler)
    runner = Runner(app)
    try:
        await runner.setup()
        service = RunningService(runner, runner.listen(sockets or open_sockets("127.0.0.1", 0)))
        try:
            async with asyncio.timeout(30):
                yield service
        finally:
            service.close()
            await asyncio.sleep(0)
    finally:
        await runner.cleanup()
