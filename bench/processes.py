"""The contenders as processes: started one by one, watched through /proc, ended by their ids."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
START_SECONDS = 30.0
STOP_SECONDS = 20.0
SETTLE_SECONDS = 10
LISTENING = re.compile(rb"(?:on|at) (http://127\.0\.0\.1:[0-9]+)")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LISTEN = "0A"
"""The state of a listening socket in ``/proc/net/tcp``."""


class DidNotStart(Exception):
    """A contender ended, or said nothing of an address in time; the text is what it said."""


class Process:
    """A process by its id: its CPU time and resident memory."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_seconds(self) -> float:
        """User and system time of all its threads."""
        fields = _stat(self.pid)
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1])
        return pages * PAGE_BYTES / 2**20

    def settle(self) -> None:
        """Returns when it has nothing left to do, or after 10 s.

        What a load left in flight goes on after wrk has hung up, and must not be measured with the
        next contender.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.3)
            if self.cpu_seconds() - before <= 0.02:
                return


@dataclass(frozen=True, slots=True)
class Launch:
    """How a contender is started. Passwords are in ``environment``: anybody may see arguments."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(repr=False)

    @property
    def store(self) -> str | None:
        """The URI of what it stores in; None of one that stores nothing."""
        return self.environment.get("MONGODB_URI")


class Contender(Process):
    """A running contender, and where it listens."""

    def __init__(self, launch: Launch, pid: int, url: str) -> None:
        super().__init__(pid)
        self.launch = launch
        self.url = url

    @property
    def name(self) -> str:
        return self.launch.name

    def kill(self) -> None:
        """Ends it as a crash does, in the midst of whatever it does."""
        os.kill(self.pid, signal.SIGKILL)


@contextmanager
def running(launch: Launch, directory: Path) -> Iterator[Contender]:
    """A process of its own, with all it says in ``directory``, until the block is left."""
    said = directory / f"{launch.name}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            launch.command,
            cwd=ROOT,
            env={**surroundings(), **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A Ctrl-C is for the bench, which ends them one by one.
            start_new_session=True,
        )
    try:
        yield Contender(launch, process.pid, _await_url(process, said))
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def surroundings() -> dict[str, str]:
    """Settings of another service must not reach the one that is measured."""
    ours = ("POLLS_", "MONGODB_", "SECANTUS_", "BENCH_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _await_url(process: subprocess.Popen[bytes], said: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = LISTENING.search(said.read_bytes())
        if found:
            return found[1].decode()
        time.sleep(0.05)
    raise DidNotStart(said.read_text(errors="replace")[-4000:])


def listening_on(port: int) -> Process:
    """The process that listens on a port of 127.0.0.1; raises ``LookupError``."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and sockets & set(_open_files(entry)):
            return Process(int(entry.name))
    raise LookupError(port)


def _listening_inodes(port: int) -> Iterator[str]:
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


def _open_files(process: Path) -> Iterator[str]:
    # It may end meanwhile, close some of them, or be another user's.
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                yield str(entry.readlink())


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold anything: state, parent and so on."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
