"""Starts ``python -m service`` as its users do, and leaves no process behind.

Processes are looked up in ``/proc``: these tests need Linux.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pymongo

from storage.embedded.directory import DataDirectory
from storage.embedded.engines import uri_of
from tests.support import engine

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.01


def until(condition: Callable[[], T | None], what: str, within: float = PATIENCE_SECONDS) -> T:
    """The first true value of ``condition``; fails where none comes within so many seconds."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(POLL_SECONDS)
    return value


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie: its parent may be slow to reap it."""
    try:
        state = _stat(pid)[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def children_of(pid: int, words: str) -> list[int]:
    """The child processes whose command lines hold ``words``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(_stat(int(entry.name))[1])
                if parent == pid and words in _command_line(int(entry.name)):
                    found.append(int(entry.name))
    return found


def child_of(pid: int, words: str) -> int | None:
    """The first of ``children_of``."""
    return next(iter(children_of(pid, words)), None)


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the state on: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def address_in(data_dir: Path) -> str:
    """Where the embedded server of the service that runs on ``data_dir`` is reached."""
    directory = DataDirectory(data_dir)
    endpoint = directory.read_endpoint()
    assert endpoint is not None, "no service runs on it"
    return uri_of(directory, endpoint["port"])


class Service:
    """A started ``python -m service``, its output, and its child processes."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, log: Path) -> None:
        self._process = process
        self._out = out
        self._log = log
        self._begun = time.time()
        self.pid = process.pid
        self.family: set[int] = {process.pid}

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def last_word_after(self) -> float:
        """Seconds from its begin to the last line of its log."""
        return self._log.stat().st_mtime - self._begun

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """Every line of the log; fails where one is no JSON object."""
        return [json.loads(line) for line in self.log.splitlines()]

    @property
    def url(self) -> str:
        return self._printed("Serving on ")

    @property
    def first_token(self) -> str:
        return self._printed("Admin token, shown this once: ")

    def _printed(self, start: str) -> str:
        for line in self.output.splitlines():
            if line.startswith(start):
                return line.removeprefix(start)
        raise AssertionError(f"it did not print {start!r}, but:\n{self.output}{self.log}")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def store_port(self) -> int:
        """That of the embedded server, as its guard says."""
        endpoint = until(self._endpoint, "the endpoint of the embedded server")
        return int(endpoint["port"])

    def _endpoint(self) -> dict[str, Any] | None:
        with contextlib.suppress(OSError):
            endpoint: dict[str, Any] = json.loads((self._directory / "endpoint.json").read_bytes())
            return endpoint
        return None

    @property
    def _directory(self) -> Path:
        """That of the embedded store, as its guard was told."""
        return Path(_command_line(self.guard_pid).split()[-2])

    @property
    def guard_pid(self) -> int:
        return self._relative(self.pid, "storage.embedded")

    @property
    def server_pid(self) -> int:
        return self._relative(self.guard_pid, str(self._directory))

    @property
    def worker_pids(self) -> list[int]:
        """Those that live; none where the service is its own worker."""
        found = children_of(self.pid, "service.server.worker")
        self.family |= set(found)
        return found

    def _relative(self, pid: int, words: str) -> int:
        found = until(lambda: child_of(pid, words), f"a child of {pid} that runs {words}")
        self.family.add(found)
        return found

    def await_serving(self) -> "Service":
        until(lambda: "Serving on " in self.output or not self.is_running, "the start")
        assert self.is_running, self.log
        if ", embedded, in " in self.output:
            assert self.server_pid  # so that the family is known
        assert all(self.worker_pids)
        return self

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Kills it as a crash would: ``kill -9``."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Sends SIGTERM; ``wait`` returns the exit status."""
        self._process.terminate()

    def wait(self, within: float = PATIENCE_SECONDS) -> int:
        return self._process.wait(within)

    def stop(self) -> int:
        self.terminate()
        return self.wait()

    def clear_away(self) -> list[int]:
        """Kills it if need be; tells which processes outlived their service by 5 s."""
        self.kill()
        deadline = time.monotonic() + 5
        while any(map(is_running, self.family)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        left = [pid for pid in self.family if is_running(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left


class Services:
    """Starts services and commands, by default all on one data directory of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.started: list[Service] = []

    def begin(
        self,
        *arguments: str,
        cwd: Path | None = None,
        module: str = "service",
        redirection: str = "",
        **environment: str,
    ) -> Service:
        """Starts a process and does not wait for it; ``redirection`` is what a shell is told."""
        out = self.home / f"out-{len(self.started)}.txt"
        log = self.home / f"log-{len(self.started)}.txt"
        with out.open("wb") as out_file, log.open("wb") as log_file:
            process = subprocess.Popen(
                [
                    *("/bin/sh", "-c", f'exec "$@" {redirection}', "sh"),
                    *(sys.executable, "-m", module, *arguments),
                ],
                cwd=cwd or self.home,
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=log_file,
                # So that Ctrl-C at the tests ends the tests, and they end it.
                start_new_session=True,
            )
        service = Service(process, out, log)
        self.started.append(service)
        return service

    def start(self, *, cwd: Path | None = None, **environment: str) -> Service:
        """A service that accepts requests."""
        return self.begin(cwd=cwd, **environment).await_serving()

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> "Finished":
        """Runs a command, or a start that is to fail, to its end."""
        started = time.monotonic()
        process = self.begin(*arguments, cwd=cwd, **environment)
        status = process.wait(30)
        return Finished(status, process.output, process.log, time.monotonic() - started)

    def raw(self) -> pymongo.MongoClient[dict[str, Any]]:
        """The embedded server of the running service, past the service."""
        return pymongo.MongoClient(address_in(self.data_dir), tz_aware=True)

    def _environment(self, given: dict[str, str]) -> dict[str, str]:
        """That of the tests, without what it says of other services."""
        ours = ("POLLS_", "SECANTUS_", "MONGODB_", "OTEL_")
        rest = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **rest,
            **engine.environment(),
            "PYTHONPATH": str(ROOT),
            "POLLS_PORT": "0",
            "POLLS_DATA_DIR": str(self.data_dir),
            **given,
        }

    def clear_away(self) -> None:
        left = [pid for service in self.started for pid in service.clear_away()]
        assert not left, f"these processes outlived their service: {left}"


def environment_without(home: Path, package: str) -> Path:
    """A virtual environment with all packages that there are here but one, and no programs."""
    environment = home / "environment"
    there = Path(sysconfig.get_path("purelib"))
    packages = environment / there.relative_to(sys.prefix)
    packages.mkdir(parents=True)
    for entry in there.iterdir():
        if entry.name != package:
            (packages / entry.name).symlink_to(entry)
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", environment)
    return environment


class Finished:
    """A process that has ended: its exit status, what it printed, and how long it took."""

    def __init__(self, status: int, out: str, err: str, seconds: float) -> None:
        self.status = status
        self.out = out
        self.err = err
        self.seconds = seconds

    @property
    def sentence(self) -> str:
        """The one line it ended with; fails where it said more, such as a traceback."""
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("polls: "), self.err
        return lines[0].removeprefix("polls: ")


@contextlib.contextmanager
def services_in(home: Path) -> Iterator[Services]:
    services = Services(home)
    try:
        yield services
    finally:
        services.clear_away()


@contextlib.contextmanager
def failing(
    client: pymongo.MongoClient[dict[str, Any]], mode: Any = "alwaysOn", **data: Any
) -> Iterator[None]:
    """Makes commands of a server fail, or wait, as ``failCommand`` of MongoDB describes it."""
    client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def slow(
    client: pymongo.MongoClient[dict[str, Any]], command: str, milliseconds: int
) -> contextlib.AbstractContextManager[None]:
    return failing(client, failCommands=[command], blockConnection=True, blockTimeMS=milliseconds)


async def eventually(
    condition: Callable[[], Awaitable[T | None]], what: str, within: float = PATIENCE_SECONDS
) -> T:
    """``until`` for a condition that is awaited."""
    deadline = time.monotonic() + within
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(POLL_SECONDS)
    return value
