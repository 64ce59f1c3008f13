"""What is measured, for how long, and the floors that it is held against."""

from dataclasses import dataclass
from typing import Literal

from bench import contents
from bench.load import Load

Name = Literal["ours", "bare", "plain", "fastapi+beanie"]
HEATS: tuple[tuple[Name, ...], ...] = (("ours", "bare"), ("plain", "fastapi+beanie"))
"""Who is measured in turn. A transaction for each vote leaves retries behind that go on when its
load has ended, so those who do that run after the others, round by round."""
NAMES: tuple[Name, ...] = tuple(name for heat in HEATS for name in heat)

CONNECTIONS = (1, 64, 256)
FULL = 256
"""The number of connections that the floors are for."""

WORKLOADS: dict[str, Load] = {
    "read one": Load((contents.read_path(contents.READ_CONTENT),)),
    "read 1,000": Load(tuple(contents.read_path(number) for number in range(contents.CONTENTS))),
    "cast one session": Load((contents.vote_path(contents.CROWDED_CONTENT),), is_votes=True),
    "cast 100 sessions": Load(
        tuple(contents.vote_path(number) for number in contents.SPREAD_CONTENTS), is_votes=True
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """``long_votes`` are cast into one session to see what grows with it."""

    rounds: int
    seconds: float
    warmup_seconds: float
    long_votes: int


WHOLE = Plan(rounds=3, seconds=4, warmup_seconds=2, long_votes=100_000)
QUICK = Plan(rounds=1, seconds=3, warmup_seconds=1, long_votes=10_000)


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
MEMORY_BAND = 0.10
MOST_CPU_GROWTH = 1.2
"""CPU of a vote in a session of ``long_votes`` votes, as a multiple of one in an empty session."""
