"""Services as processes: several on one database, or one that owns its embedded store."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.conftest import ADMIN, SECRET
from tests.support import engine
from tests.support.processes import address_in
from tests.support.seeds import Json

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 40.0
PATIENCE_SECONDS = 60.0
HEADERS = {"Authorization": f"Bearer {ADMIN}"}


class Answer:
    """What a request was answered with, read to its end."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    def json(self) -> Any:
        return json.loads(self._body)

    def text(self) -> str:
        return self._body.decode()

    def lines(self) -> list[Any]:
        """Of NDJSON."""
        return [json.loads(line) for line in self._body.splitlines()]

    def __repr__(self) -> str:
        return f"{self.status} {self._body[:300]!r}"


class Service:
    """One ``python -m service`` and how to call it; after ``kill`` it may be started again."""

    def __init__(self, directory: Path, mongodb_uri: str | None = None, **environment: str) -> None:
        self._directory = directory
        self.environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("POLLS_")},
            **engine.environment(),
            "POLLS_SECRET": SECRET,
            "POLLS_ADMIN_TOKEN": ADMIN,
            "POLLS_PORT": "0",
            "POLLS_DATA_DIR": str(directory / "data"),
            "POLLS_LOG_LEVEL": "warning",
            **environment,
        }
        self.environment.pop("MONGODB_URI", None)
        if mongodb_uri is not None:
            self.environment["MONGODB_URI"] = mongodb_uri
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None
        self.url = ""

    async def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        said = self._directory / "said"
        with said.open("wb") as out, (self._directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service"),
                cwd=ROOT,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )

        def serving() -> bool:
            assert self._process is not None
            assert self._process.returncode is None, (self._directory / "log").read_text()
            return "Serving on " in said.read_text()

        await eventually(serving, seconds=START_SECONDS)
        self.url = said.read_text().partition("Serving on ")[2].split()[0]
        self._http = aiohttp.ClientSession(
            self.url,
            headers=HEADERS,
            connector=aiohttp.TCPConnector(limit=128),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
        )

    async def call(self, method: str, path: str, **request: Any) -> Answer:
        """Raises ``aiohttp.ClientError`` where the service is killed meanwhile."""
        assert self._http is not None
        async with self._http.request(method, path, **request) as response:
            return Answer(response.status, await response.read())

    async def stream(self, path: str, method: str = "GET", **request: Any) -> AsyncIterator[bytes]:
        """The body of an answer, piece by piece; raises like ``call``."""
        assert self._http is not None
        async with self._http.request(method, path, **request) as response:
            assert response.status == 200, await response.text()
            async for piece in response.content.iter_any():
                yield piece

    @property
    def most_memory(self) -> int:
        """The most bytes that it ever had in memory."""
        [line] = re.findall(
            r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE
        )
        return int(line) * 1024

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    def server_pid(self) -> int:
        """The database server: the child of our child, the guard."""
        [guard] = children_of(self.pid)
        [server] = children_of(guard)
        return server

    def database_uri(self) -> str:
        """Where the embedded server of this service listens."""
        return address_in(self._directory / "data").replace("/?", "/polls?")

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            async with asyncio.timeout(START_SECONDS):
                await self._process.wait()
        if self._http is not None:
            await self._http.close()


def children_of(pid: int) -> list[int]:
    """The processes whose parent is ``pid``, as /proc tells."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found.append(int(stat.parent.name))
    return found


class Fleet:
    """Several services on one database; calls go to a named one, or around."""

    def __init__(self, services: list[Service]) -> None:
        self.services = services

    async def call(self, place: int, method: str, path: str, **request: Any) -> Answer:
        """Asks the service at ``place``, again after a 503 that says that nothing was changed."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        service = self.services[place % len(self.services)]
        while True:
            answer = await service.call(method, path, **request)
            if answer.status != 503 or time.monotonic() >= deadline:
                return answer
            assert "nothing was changed" in answer.json()["detail"], answer
            await asyncio.sleep(0.2)

    async def made(self, place: int, method: str, path: str, **request: Any) -> Any:
        answer = await self.call(place, method, path, **request)
        assert answer.status == 200, answer
        return answer.json()


@asynccontextmanager
async def fleet_of(size: int, mongodb_uri: str, directory: Path) -> AsyncIterator[Fleet]:
    services = [Service(directory / f"service-{place}", mongodb_uri) for place in range(size)]
    try:
        await asyncio.gather(*(service.start() for service in services))
        yield Fleet(services)
    finally:
        await asyncio.gather(*(service.stop() for service in services))
    # A request may be refused, but nothing may go wrong that nobody thought of.
    for service in services:
        assert "unhandled error" not in service.log, service.log[:3000]


@asynccontextmanager
async def service_in(directory: Path, **environment: str) -> AsyncIterator[Service]:
    """A service with an embedded store of its own."""
    service = Service(directory, **environment)
    try:
        await service.start()
        yield service
    finally:
        await service.stop()
    assert "unhandled error" not in service.log, service.log[:3000]


async def recount(service: Service) -> None:
    """``python -m service recount`` on the same store finds no difference."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "recount"),
        cwd=ROOT,
        env=service.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    assert (process.returncode, complained) == (0, b"")
    assert said.endswith(b" Differences: 0.\n")


async def eventually(
    is_so: Callable[[], bool], *, seconds: float = 20.0, every: float = 0.02
) -> None:
    """Returns as soon as ``is_so``; fails where it has not become so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{is_so.__name__}: not within {seconds} s"
        await asyncio.sleep(every)


async def in_lanes(jobs: Sequence[Callable[[], Awaitable[Any]]], lanes: int) -> list[Any]:
    """Runs all jobs, so many at a time; their results are in the order of the jobs."""
    results: list[Any] = [None] * len(jobs)
    places = iter(range(len(jobs)))

    async def lane() -> None:
        for place in places:
            results[place] = await jobs[place]()

    async with asyncio.TaskGroup() as group:
        for _ in range(lanes):
            group.create_task(lane())
    return results


@dataclass(frozen=True)
class Poll:
    """A poll of ``/rest``, and how it and its sessions are called."""

    place: Json
    id: str

    @property
    def query(self) -> Json:
        return {**self.place, "pollId": self.id}

    def votes(self, user_id: int) -> Json:
        return {**self.query, "type": "votes", "as_user_id": str(user_id)}

    def sessions(self, *rest: object) -> str:
        return "/".join(map(str, [f"/api/v1/polls/{self.id}/poll_sessions", *rest]))
