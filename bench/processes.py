"""The contenders as processes: started one by one, watched through /proc, ended by their ids."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
START_SECONDS = 30.0
STOP_SECONDS = 20.0
SETTLE_SECONDS = 10
LISTENING = re.compile(rb"on (http://127\.0\.0\.1:[0-9]+)")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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

    def descendant(self, name: str) -> "Process":
        """The process of that name below this one; raises ``LookupError``."""
        wanted = {self.pid}
        while True:
            below = {pid for pid, parent in _parents() if parent in wanted} - wanted
            for pid in below:
                if Path(f"/proc/{pid}/comm").read_text().strip() == name[:15]:
                    return Process(pid)
            if not below:
                raise LookupError(name)
            wanted |= below


class Contender(Process):
    """A running contender, and where it listens."""

    def __init__(self, name: str, pid: int, url: str) -> None:
        super().__init__(pid)
        self.name = name
        self.url = url


@contextmanager
def running(
    name: str, module: list[str], environment: Mapping[str, str], directory: Path
) -> Iterator[Contender]:
    """``python -m module``, with all it says in ``directory``, until the block is left."""
    said = directory / f"{name}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env={**surroundings(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A Ctrl-C is for the bench, which ends them one by one.
            start_new_session=True,
        )
    try:
        yield Contender(name, process.pid, _await_url(process, said))
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


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), int(_stat(int(entry.name))[1])
            except OSError:
                continue  # it has ended meanwhile


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold anything: state, parent and so on."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
