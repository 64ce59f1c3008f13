"""What is measured, for how long, and the floors that it is held against."""

from dataclasses import dataclass
from typing import Literal

from bench import contents
from bench.load import Load

Name = Literal["ours", "bare", "fastify", "fastapi+beanie", "plain"]
NAMES: tuple[Name, ...] = ("ours", "bare", "fastify", "fastapi+beanie", "plain")
FULL = 256
"""The number of connections that the floors are for."""
RUSH = 1000
"""The number of voters that a rush is made of; only votes come in rushes, of twice the length."""

WORKLOADS: dict[str, Load] = {
    "read one": Load((contents.read_path(contents.READ_CONTENT),)),
    "read 1,000": Load(tuple(contents.read_path(number) for number in range(contents.CONTENTS))),
    "cast one session": Load((contents.vote_path(contents.CROWDED_CONTENT),), is_votes=True),
    "cast 100 sessions": Load(
        tuple(contents.vote_path(number) for number in contents.SPREAD_CONTENTS), is_votes=True
    ),
}
CASES = tuple(
    (workload, connections)
    for workload, load in WORKLOADS.items()
    for connections in ((1, 64, FULL, RUSH) if load.is_votes else (1, 64, FULL))
)


def takes_part(name: Name, workload: str, connections: int) -> bool:
    """Votes at once in one session are nothing for a transaction each: nearly all would conflict.

    So the plain service is asked for votes one at a time.
    """
    return name != "plain" or connections == 1 or not WORKLOADS[workload].is_votes


@dataclass(frozen=True, slots=True)
class Plan:
    """``long_votes`` are cast into one session to see what grows with it.

    ``kills``: how often each contender that counts votes is killed in the midst of them.
    """

    rounds: int
    seconds: float
    warmup_seconds: float
    long_votes: int
    kills: int


WHOLE = Plan(rounds=3, seconds=4, warmup_seconds=2, long_votes=100_000, kills=3)
QUICK = Plan(rounds=1, seconds=3, warmup_seconds=1, long_votes=10_000, kills=1)


@dataclass(frozen=True, slots=True)
class Floor:
    """Our rate, as a multiple of another's, at ``FULL`` connections."""

    workload: str
    other: Name
    least: float


FLOORS = (
    Floor("read one", "bare", 0.65),
    Floor("read one", "fastapi+beanie", 8),
    Floor("read 1,000", "bare", 0.55),
    Floor("read 1,000", "fastapi+beanie", 7),
    Floor("cast one session", "bare", 0.45),
    Floor("cast one session", "fastapi+beanie", 8),
    Floor("cast 100 sessions", "bare", 0.45),
    Floor("cast 100 sessions", "fastapi+beanie", 8),
)
MOST_LATENCY = 1.3
"""Our p50 at 1 connection, as a multiple of the plain version's."""
MOST_LOGGING_US = 25
"""CPU of a request's line in the log and of its metrics."""
WATCHERS = 1_000
"""Of one session, while votes come into it."""
LEAST_SHARE_WATCHED = 0.90
"""The rate of votes beside so many watchers, as a multiple of that without them."""
MOST_EVENT_MS = 1_000
"""From the answer to a vote to its event, at p99 of the watchers."""
MOST_WATCHER_KIB = 20
"""Resident memory of an idle watcher: 200 MiB for 10,000."""
MEMORY_BAND = 0.10
MOST_CPU_GROWTH = 1.2
"""CPU of a vote in a session of ``long_votes`` votes, as a multiple of one in an empty session."""
