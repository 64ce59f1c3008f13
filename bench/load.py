"""wrk, the load generator: one thread, so many connections, for so many seconds."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench import contents

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS = 30
"""How long an answer may take before it counts as none; wrk's own default is 2."""
MISSING = "bench: wrk is needed to make load: apt-get install wrk (Debian, Ubuntu)."


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: one of ``paths`` at random, by POST where it is votes."""

    paths: tuple[str, ...]
    is_votes: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """``refused`` were answered with another status than 2xx; ``broken`` were not answered."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float

    @property
    def good(self) -> int:
        return self.requests - self.refused

    @property
    def rate(self) -> float:
        """From the first answers on.

        All connections wait for their first for as long as an answer takes. Counted in, that would
        take a fifth of its rate from a slow contender at many connections.
        """
        return self.good / max(self.seconds - self.p50_ms / 1e3, self.seconds / 2)


class NoResult(Exception):
    """wrk ended without telling what it did."""


def find_wrk() -> str | None:
    return shutil.which("wrk")


class Users:
    """Gives each run of votes users who have never voted before."""

    def __init__(self) -> None:
        self._runs = 0

    def next_block(self) -> int:
        """The first of ten million."""
        self._runs += 1
        return self._runs * 10_000_000


def run(
    load: Load, url: str, *, connections: int, seconds: float, users: Users, directory: Path
) -> Outcome:
    """Asks ``url`` for ``load``; raises ``NoResult``."""
    paths = directory / "paths"
    paths.write_text("\n".join(load.paths) + "\n", "ascii")
    secret = contents.ADMIN if load.is_votes else contents.READER
    command = [
        find_wrk() or "wrk",
        *("--threads", "1", "--connections", str(connections)),
        *("--duration", f"{seconds:.0f}s", "--timeout", f"{TIMEOUT_SECONDS}s"),
        *("--script", str(SCRIPT), "--header", f"Authorization: Bearer {secret}"),
    ]
    if load.is_votes:
        command += ["--header", "Content-Type: application/json"]
    first_user = users.next_block() if load.is_votes else 0
    finished = subprocess.run(
        [*command, url, "--", str(paths), str(first_user)],
        env={**os.environ, "BENCH_BODY": contents.VOTE.decode()},
        capture_output=True,
        text=True,
        timeout=seconds + 2 * TIMEOUT_SECONDS,
        check=False,
    )
    for line in finished.stdout.splitlines():
        if line.startswith("RESULT "):
            return Outcome(**json.loads(line.removeprefix("RESULT ")))
    raise NoResult(f"wrk gave no result: {finished.stdout}{finished.stderr}")
