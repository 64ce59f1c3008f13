"""Watchers of one session's results, many of them in a process of their own.

They share no interpreter with what is measured, and do no more with an event than to note it. A
watcher whose connection ends connects again, to any of the addresses, as a browser does.
"""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast
from urllib.parse import urlsplit

from bench.processes import ROOT, surroundings
from service.server.listening import most_connections

START_SECONDS = 120.0
AT_ONCE = 100
"""Connections that are being made at a time."""
RETRY_SECONDS = (0.2, 1.0)
"""When to connect again where the service did not say."""
EVENT = re.compile(rb"(?:retry: (\d+)\n)?event: (\w+)\n(?:id: (\w+)\n)?data: (.*)\n\n")


@dataclass(frozen=True, slots=True)
class Report:
    """What a crowd has seen since it came.

    ``newest`` counts watchers by the data of their newest event; ``ends`` events by their reason.
    ``arrivals`` has for each number of votes of the marked option, in seconds of the monotonic
    clock, when each watcher was first shown so many or more.
    """

    connected: int
    newest: Mapping[str, int]
    events: int
    ends: Mapping[str, int]
    broken: int
    arrivals: Mapping[int, Sequence[float]]


class DidNotCome(Exception):
    """Not all watchers had their first event in time."""


class Crowd:
    """The process, and how it is asked."""

    def __init__(self, asked: IO[bytes], said: IO[bytes]) -> None:
        self._asked = asked
        self._said = said

    def report(self) -> Report:
        self._asked.write(b"\n")
        self._asked.flush()
        return self.read()

    def read(self) -> Report:
        """What it tells by itself when all have come."""
        line = self._said.readline()
        if not line:
            raise DidNotCome("Not all watchers had their first event in time.")
        said = json.loads(line)
        said["arrivals"] = {int(votes): times for votes, times in said["arrivals"].items()}
        return Report(**said)


@contextmanager
def crowd(
    size: int, path: str, urls: Sequence[str], *, secret: str, marked: str = ""
) -> Iterator[Crowd]:
    """So many watchers of ``path``; returns when each has had its first event."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.crowd", str(size), path, marked, *urls],
        cwd=ROOT,
        env={**surroundings(), "BENCH_SECRET": secret},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:  # closes its input, which ends it, and waits
        started = Crowd(cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout))
        started.read()
        yield started


def _pause() -> float:
    return random.uniform(*RETRY_SECONDS)  # noqa: S311 - no secret


class Watchers:
    """All of the process."""

    def __init__(self, size: int, path: str, marked: str, urls: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._addresses = [(one.hostname or "", one.port or 80) for one in map(urlsplit, urls)]
        self._mark = re.compile(rb'"%b":(?:\{"votes":)?(\d+)' % marked.encode()) if marked else None
        self._room = asyncio.Semaphore(AT_ONCE)
        lines = (
            f"GET {path} HTTP/1.1",
            "Host: crowd",
            f"Authorization: Bearer {os.environ['BENCH_SECRET']}",
            "Accept: text/event-stream",
        )
        self.request = "\r\n".join(lines).encode()
        self.coming = size
        self.all_have_come = self._loop.create_future()
        self.events = 0
        self.broken = 0
        self.ends = Counter[str]()
        self.arrivals: dict[int, list[float]] = {}
        self.watchers = [Watcher(self) for _ in range(size)]

    def connect(self, watcher: "Watcher", after: float = 0.0) -> None:
        task = self._loop.create_task(self._connect(watcher, after))
        watcher.task = task

    async def _connect(self, watcher: "Watcher", after: float) -> None:
        await asyncio.sleep(after)
        while True:
            async with self._room:
                try:
                    host, port = random.choice(self._addresses)  # noqa: S311 - no secret
                    await self._loop.create_connection(lambda: watcher, host, port)
                except OSError:
                    self.broken += 1
                else:
                    await watcher.has_begun
                    return
            await asyncio.sleep(_pause())

    def mark(self, watcher: "Watcher", data: bytes) -> None:
        """Notes when the watcher was shown the votes of the marked option."""
        if self._mark is None or (found := self._mark.search(data)) is None:
            return
        now, votes = time.monotonic(), int(found[1])
        for number in range(watcher.marked + 1, votes + 1):
            self.arrivals.setdefault(number, []).append(now)
        watcher.marked = max(watcher.marked, votes)

    def has_come(self) -> None:
        self.coming -= 1
        if not self.coming:
            self.all_have_come.set_result(None)

    def report(self) -> None:
        newest = Counter(one.newest.decode() for one in self.watchers)
        said = Report(
            connected=sum(one.is_connected for one in self.watchers),
            newest=newest,
            events=self.events,
            ends=self.ends,
            broken=self.broken,
            arrivals=self.arrivals,
        )
        fields = {name: getattr(said, name) for name in Report.__slots__}
        print(json.dumps(fields), flush=True)


class Watcher(asyncio.Protocol):
    """One of them: it keeps the newest data, and what has come of an event that is not whole."""

    def __init__(self, all_of_them: Watchers) -> None:
        self._all = all_of_them
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._id = b""
        self._retry_seconds: float | None = None
        self.has_begun: asyncio.Future[None]
        self.task: asyncio.Task[None] | None = None
        self.newest = b""
        self.marked = 0

    @property
    def is_connected(self) -> bool:
        return self._transport is not None and bool(self.newest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._rest, self._retry_seconds = b"", None
        self.has_begun = asyncio.get_running_loop().create_future()
        known = b"\r\nLast-Event-ID: %b" % self._id if self._id else b""
        self._transport.write(b"%b%b\r\n\r\n" % (self._all.request, known))

    def data_received(self, data: bytes) -> None:
        if not self.has_begun.done():
            self.has_begun.set_result(None)
            if not data.startswith(b"HTTP/1.1 200 ") and self._transport is not None:
                self._transport.abort()  # refused: it comes again
                return
        whole = self._rest + data
        end = 0
        for event in EVENT.finditer(whole):
            end = event.end()
            self._take(*event.groups())
        self._rest = whole[end:] if end or len(whole) < 65_536 else b""

    def _take(self, retry: bytes | None, name: bytes, event_id: bytes | None, data: bytes) -> None:
        if retry:
            self._retry_seconds = int(retry) / 1000
        if name == b"end":
            self._all.ends[json.loads(data)["reason"]] += 1
            return
        self._all.events += 1
        self._all.mark(self, data)
        if not self.newest:
            self._all.has_come()
        self.newest, self._id = data, event_id or b""

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if not self.has_begun.done():
            self.has_begun.set_result(None)
        after = self._retry_seconds
        if after is None:
            self._all.broken += 1
            after = _pause()
        self._all.connect(self, after)


async def watch(size: int, path: str, marked: str, urls: Sequence[str]) -> None:
    """Reports when all have come, and for each line of standard input, until that ends."""
    watchers = Watchers(size, path, marked, urls)
    for one in watchers.watchers:
        watchers.connect(one)
    async with asyncio.timeout(START_SECONDS):
        await watchers.all_have_come
    watchers.report()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        watchers.report()
    os._exit(0)  # it has thousands of connections, and nothing to tidy


if __name__ == "__main__":
    count, wanted, option, *addresses = sys.argv[1:]
    most_connections(int(count))  # raises the limit of open files
    asyncio.run(watch(int(count), wanted, option, addresses))
