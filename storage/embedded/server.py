"""The embedded server as a service or a command uses it."""

import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from structlog import get_logger

from storage.embedded.directory import DataDirectory, Endpoint, Holder, is_alive
from storage.embedded.engines import LOOPBACK, choose, uri_of
from storage.embedded.guard import START_SECONDS, STOP_SECONDS, Launch
from storage.errors import StartupRefused
from storage.location import ANY_ENGINE, EngineChoice

HANDOVER_SECONDS = 10.0
"""How long to wait for a directory held by a command, or by a dead service that still cleans up."""
FIRST_SECONDS, AGAIN_SECONDS = 60.0, 5.0
"""How long a server may take until it accepts writes. At a start, a mongod looks for itself for up
to 30 s if a program that does not answer has taken its old port."""
MAX_PORTS = 3
"""A port that was free a moment ago may be taken when the server asks for it."""
ROOT = str(Path(__file__).resolve().parents[2])

log = get_logger(__name__)


class DirectoryTaken(StartupRefused):
    """Another process holds the directory: ``endpoint`` says which, if that is known."""

    def __init__(self, directory: DataDirectory) -> None:
        self.endpoint = endpoint = directory.read_endpoint()
        holder = f"process {endpoint['pid']}" if endpoint else "another process"
        super().__init__(
            f"The data directory {directory.path} is in use by {holder}: stop that process, or "
            "set POLLS_DATA_DIR to another directory."
        )

    @property
    def is_for_long(self) -> bool:
        """A command ends in a moment, and so does the server of a service that was killed."""
        endpoint = self.endpoint
        return bool(endpoint and endpoint["holder"] == "service" and is_alive(endpoint["pid"]))


class SharedServer(NamedTuple):
    """The server of a service that runs on the directory; it is not ours to stop."""

    uri: str
    description: str

    def stop(self) -> None:
        """Leaves the server to the service."""


class EmbeddedServer:
    """A running server of our own, at ``uri`` until ``stop``.

    To be made in the main thread: on Linux the guard dies with the *thread* that started it. Raises
    ``DirectoryTaken``, or ``StartupRefused`` if no server can be started.
    """

    def __init__(self, path: Path, holder: Holder, wanted: EngineChoice = ANY_ENGINE) -> None:
        self._directory = DataDirectory(path)
        self.path = self._directory.path
        self._holder: Holder = holder
        self._lock = os.fdopen(_claim(self._directory), "rb")
        self._guard = _Guard(self._directory, self._lock.fileno())
        try:
            self.engine, passed_over = choose(self._directory, wanted)
            self._port = self._launch()
            if self._directory.read_mark() is None:
                self._directory.write_mark(self.engine.mark)
            self._publish(FIRST_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.uri = self.engine.uri(self._directory, self._port)
        self.description = (
            f"{self.engine.title} {self.engine.version}, embedded, in {self.path}. "
            f"{self.engine.limits}" + "".join(f" ({reason}.)" for reason in passed_over)
        )
        """Which engine serves, where, what it is not for, and why no better one does."""

    def _launch(self) -> int:
        for _ in range(MAX_PORTS):
            with socket.socket() as probe:
                probe.bind((LOOPBACK, 0))
                port: int = probe.getsockname()[1]
            if self._guard.launch(self.engine.launch(self._directory, port)):
                return port
        raise StartupRefused(
            f"{self.engine.title} {self.engine.version} did not start in {self._directory.path}: "
            f"see {self._directory.log}."
        )

    def _publish(self, seconds: float) -> None:
        """Makes the server accept writes, and commands find it."""
        self._is_published = False
        self.engine.prepare(self._directory, self._port, seconds=seconds)
        endpoint = Endpoint(port=self._port, pid=os.getpid(), holder=self._holder)
        self._directory.write_endpoint(endpoint)
        self._is_published = True

    async def keep(self) -> None:
        """Restarts the guard, on the same port, whenever it has died; never returns."""
        while True:
            await asyncio.sleep(0.2)
            try:
                if self._guard.process.poll() is not None:
                    log.warning("the guard of the embedded server ended, and is restarted")
                    self._guard.end()
                    self._guard = _Guard(self._directory, self._lock.fileno())
                    await asyncio.to_thread(self._relaunch)
                if not self._is_published:
                    await asyncio.to_thread(self._publish, AGAIN_SECONDS)
            except Exception as error:
                # Nothing awaits this task: it would end, and the service never recover.
                log.warning("the embedded server is not ready yet", reason=str(error))
                await asyncio.sleep(1.0)

    def _relaunch(self) -> None:
        self._is_published = False
        launch = self.engine.launch(self._directory, self._port)
        # Whether or not it listens now, the guard keeps trying.
        self._guard.launch(Launch(**{**launch, "is_known": True}))

    def restart(self) -> None:
        """Ends the server and starts it again on its port; returns at once."""
        self._is_published = False
        self._guard.say({"restart": True})

    def stop(self) -> None:
        """Returns when guard and server have ended."""
        self._guard.end()
        self._lock.close()


class _Guard:
    """The process of ``storage.embedded.guard``, and the conversation with it."""

    def __init__(self, directory: DataDirectory, lock: int) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own module, our own arguments
            [
                *(sys.executable, "-P", "-m", "storage.embedded.guard"),
                *(str(lock), str(directory.path), str(os.getpid())),
            ],
            pass_fds=(lock,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": ROOT},
            start_new_session=True,
        )
        self._to_guard = cast("IO[bytes]", self.process.stdin)
        self._from_guard = cast("IO[bytes]", self.process.stdout)

    def launch(self, launch: Launch) -> bool:
        """Whether the server listens."""
        self.say(launch)
        poll = select.poll()  # select() fails if a thousand connections took the lower numbers
        poll.register(self._from_guard, select.POLLIN)
        ready = poll.poll((START_SECONDS + STOP_SECONDS) * 1000)
        line = self._from_guard.readline() if ready else b""
        return bool(json.loads(line or b"{}").get("listening"))

    def say(self, words: Any) -> None:
        # That a guard is dead is found out by ``keep``.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._to_guard.write(json.dumps(words).encode() + b"\n")
            self._to_guard.flush()

    def end(self) -> None:
        """Asks it to stop by closing its standard input, and returns when it has ended."""
        with contextlib.suppress(BrokenPipeError):
            self._to_guard.close()
        try:
            self.process.wait(STOP_SECONDS + 2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._from_guard.close()


def _claim(directory: DataDirectory) -> int:
    """The lock of the directory; raises ``DirectoryTaken`` or ``StartupRefused``."""
    try:
        lock = directory.claim()
    except BlockingIOError:
        raise DirectoryTaken(directory) from None
    except OSError as error:
        reason = str(error)
        if error.strerror:
            reason = f"{error.strerror}; set POLLS_DATA_DIR to another, or set MONGODB_URI"
        raise StartupRefused(
            f"The data directory {directory.path} cannot be used: {reason}."
        ) from error
    directory.remove_endpoint()
    return lock


def start(
    path: Path, wanted: EngineChoice = ANY_ENGINE, *, holder: Holder = "service"
) -> EmbeddedServer:
    """Starts a server, as soon as no command and no dead service holds the directory.

    Raises like ``EmbeddedServer``.
    """
    deadline = time.monotonic() + HANDOVER_SECONDS
    while True:
        try:
            return EmbeddedServer(path, holder, wanted)
        except DirectoryTaken as taken:
            if taken.is_for_long or time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


def start_or_share(path: Path, wanted: EngineChoice = ANY_ENGINE) -> EmbeddedServer | SharedServer:
    """The server for a command: that of the running service, else one of its own."""
    try:
        return start(path, wanted, holder="command")
    except DirectoryTaken as taken:
        if taken.endpoint is None or not taken.is_for_long:
            raise
        directory = DataDirectory(path)
        return SharedServer(
            uri_of(directory, taken.endpoint["port"]),
            f"the embedded server of a running service, in {directory.path}.",
        )
