"""``--workers``: a parent that listens and keeps the store, and the workers it starts, which serve.

The parent opens the sockets and never accepts from them. The workers inherit them, so connections
in the queue of the kernel are not lost with a worker that dies. Each worker has a channel, a pair
of sockets that close with either side. A worker says ``listening`` and, before it uses a session of
the driver, ``session ID``; the parent says ``drain`` and ``stop``.

A worker that was killed amid a transaction leaves it open in the database, for a minute in MongoDB,
and nobody else can write what it wrote. The parent ends the sessions of such a worker.
"""

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.server.listening import close_queue, open_sockets
from service.server.runner import STOP_SECONDS, asked_to_stop, base_url
from service.settings import EMBEDDED_URI, Settings
from storage.errors import StartupRefused
from storage.startup import open_store
from storage.store import Store

BACKOFF_SECONDS = (0.1, 5.0)
"""Before a restart, at least and at most; it doubles until a worker has lived for a while."""
STEADY_SECONDS = 10.0
MAX_FAILURES = 5
END_SESSIONS_SECONDS = (0.0, 0.3, 1.0, 4.0)
"""What a worker sent just before it died may reach the database, and open a transaction, later."""
ROOT = str(Path(__file__).resolve().parents[2])
GRACE_SECONDS = STOP_SECONDS + 15.0

EndSessions = Callable[[Collection[bytes]], Awaitable[None]]

log = structlog.get_logger(__name__)


async def run(settings: Settings, announce: Callable[[Store, str], Awaitable[None]]) -> None:
    """Serves with ``settings.workers`` processes until SIGTERM or SIGINT, and drains them all.

    ``announce`` gets the store and the base URL once all workers accept connections. Raises
    ``StartupRefused`` if the store cannot be opened, a first worker ends before it serves, or none
    can be kept alive, and ``OSError`` if the address cannot be listened on.
    """
    async with open_store(settings.location) as store:
        sockets = open_sockets(settings.host, settings.port)
        url = base_url(settings.host, sockets[0].getsockname()[1])
        numbers = ",".join(str(listening.fileno()) for listening in sockets)
        command = [sys.executable, "-P", "-m", "service.server.worker", numbers]
        with tempfile.TemporaryDirectory(prefix="polls-metrics-") as shared:
            environment = {
                # Not an argument, which every local user can read: it holds a password.
                EMBEDDED_URI: "" if settings.mongodb_uri else store.uri,
                "POLLS_METRICS_DIR": str(settings.metrics_dir or shared),
            }
            end_sessions = store.database.end_sessions
            workers = Workers(command, sockets, end_sessions, environment, shared=Path(shared))
            await workers.run(
                settings.workers,
                lambda: announce(store, url),
                drain_seconds=settings.drain_seconds,
            )


class Workers:
    """Keeps workers alive until it is asked to stop.

    ``command`` starts one; the descriptor of its channel is appended. ``sockets`` are inherited by
    it, and closed here. ``end_sessions`` is called with the sessions of a worker that died. The
    directory ``shared`` is made again for the next worker where a cleaner of ``/tmp`` has removed
    it.
    """

    def __init__(
        self,
        command: Sequence[str],
        sockets: Sequence[socket.socket],
        end_sessions: EndSessions,
        environment: Mapping[str, str] | None = None,
        *,
        shared: Path | None = None,
    ) -> None:
        self._shared = shared
        self._command = command
        self._environment = {**os.environ, "PYTHONPATH": ROOT, **(environment or {})}
        self._sockets = sockets
        self._end_sessions = end_sessions
        self._alive: set[_Worker] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._has_served = False
        self._failures = 0
        self._stopping = asyncio.Event()

    async def run(
        self, count: int, announce: Callable[[], Awaitable[None]], *, drain_seconds: float = 0
    ) -> None:
        """Returns when it was asked to stop and all have ended.

        Raises ``StartupRefused``, and what ``announce`` raises.
        """
        keepers = [asyncio.create_task(self._keep()) for _ in range(count)]
        announcing = asyncio.create_task(self._announce(count, announce))
        asked = asyncio.create_task(asked_to_stop())
        try:
            await asyncio.wait([asked, announcing, *keepers], return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                announcing.result()
                await asyncio.wait([asked, *keepers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            announcing.cancel()
            self._tell("drain")
            if asked.done():
                await asyncio.sleep(drain_seconds)
            asked.cancel()
            await self._stop(keepers)
        for keeper in keepers:
            keeper.result()  # or what made it give up

    async def _announce(self, count: int, announce: Callable[[], Awaitable[None]]) -> None:
        while sum(worker.is_listening for worker in self._alive) < count:  # noqa: ASYNC110 - once
            await asyncio.sleep(0.01)
        self._has_served = True
        await announce()

    async def _stop(self, keepers: Collection["asyncio.Task[None]"]) -> None:
        self._stopping.set()
        # Each worker accepts what the kernel has accepted until then, and closes its own.
        for listening in self._sockets:
            close_queue(listening)
            listening.close()
        self._tell("stop")
        _, late = await asyncio.wait(keepers, timeout=GRACE_SECONDS)
        if late:
            for worker in self._alive:
                log.error("worker killed, since it did not end", worker=worker.process.pid)
                worker.process.kill()
            await asyncio.wait(late)
        if self._ending:
            _, unended = await asyncio.wait(self._ending, timeout=END_SESSIONS_SECONDS[-1])
            for task in unended:
                task.cancel()

    def _tell(self, word: str) -> None:
        for worker in self._alive:
            worker.tell(word)

    async def _keep(self) -> None:
        """Starts a worker, and another in its place whenever it has ended."""
        loop = asyncio.get_running_loop()
        pause, longest = BACKOFF_SECONDS
        while not self._stopping.is_set():
            if self._shared is not None:
                self._shared.mkdir(mode=0o700, exist_ok=True)
            worker = await _start(self._command, self._sockets, self._environment)
            begun = loop.time()
            self._alive.add(worker)
            if self._stopping.is_set():
                worker.tell("stop")  # it was not there when the others were told
            status = await worker.ended()
            self._alive.discard(worker)
            self._has_served |= worker.is_listening
            if status != 0 and worker.sessions:
                task = asyncio.create_task(self._end_sessions_of(worker))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
            if self._stopping.is_set():
                return
            self._give_up_or_go_on(worker, status)
            if loop.time() - begun >= STEADY_SECONDS:
                pause = BACKOFF_SECONDS[0]
            log.warning("worker ended", worker=worker.process.pid, status=status, next_in=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(pause * 2, longest)

    def _give_up_or_go_on(self, worker: "_Worker", status: int) -> None:
        self._failures = 0 if worker.is_listening else self._failures + 1
        is_hopeless = self._failures >= MAX_FAILURES and not any(
            other.is_listening for other in self._alive
        )
        if self._failures and (is_hopeless or not self._has_served):
            raise StartupRefused(
                f"A worker ended with status {status} before it served; the log may say why."
            )

    async def _end_sessions_of(self, worker: "_Worker") -> None:
        for seconds in END_SESSIONS_SECONDS:
            await asyncio.sleep(seconds)
            try:
                await self._end_sessions(worker.sessions)
            except Exception:
                log.exception("sessions of a dead worker not ended", worker=worker.process.pid)


@dataclass(eq=False)
class _Worker:
    """A process that serves, and what it said over its channel."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sessions: set[bytes] = field(default_factory=set)
    is_listening: bool = False

    async def ended(self) -> int:
        """Reads from it until it has ended; the exit status, negative for a signal."""
        with contextlib.suppress(ConnectionError):  # it died before it had read everything
            async for line in self.reader:
                word, _, rest = line.decode().strip().partition(" ")
                if word == "listening":
                    self.is_listening = True
                elif word == "session":
                    self.sessions.add(bytes.fromhex(rest))
        self.writer.close()
        return await self.process.wait()

    def tell(self, word: str) -> None:
        self.writer.write(f"{word}\n".encode())


async def _start(
    command: Sequence[str], sockets: Sequence[socket.socket], environment: Mapping[str, str]
) -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(*command, str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
            pass_fds=[theirs.fileno(), *(listening.fileno() for listening in sockets)],
            # Ctrl-C is for the parent, which tells them.
            start_new_session=True,
        )
    return _Worker(process, *await asyncio.open_connection(sock=ours))
