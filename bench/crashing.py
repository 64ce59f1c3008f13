"""What a crash in the midst of votes leaves behind: each contender, killed under load."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench import contents, load
from bench.arena import Arena
from bench.load import Load, Users
from bench.measuring import note
from bench.plan import Name, Plan
from bench.processes import Contender, Launch, running
from bench.stores import tally

NAMES: tuple[Name, ...] = ("ours", "fastify", "fastapi+beanie")
CONNECTIONS = 64
KILL_SECONDS = 2.0
LOAD_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Crash:
    """All kills of one contender together.

    At least ``lost`` votes were answered and are not stored. The counts and the ballots of their
    sessions differ by ``apart`` votes.
    """

    kills: int
    answered: int
    lost: int
    apart: int


def crash(arena: Arena, plan: Plan) -> Mapping[Name, Crash]:
    """Kills a second process of each contender, ``plan.kills`` times."""
    crashes: dict[Name, Crash] = {}
    for name in NAMES:
        launch = arena.contenders[name].launch if name in arena.contenders else None
        if launch is not None and launch.store is not None:
            note(f"{name}, killed under votes")
            crashes[name] = _kill_each_time(launch, launch.store, arena, plan.kills)
    return crashes


def _kill_each_time(launch: Launch, store: str, arena: Arena, kills: int) -> Crash:
    doomed = replace(launch, name=f"{launch.name}-killed")
    before, answered, lost = tally(store), 0, 0
    for number in contents.CRASH_CONTENTS[:kills]:
        votes = Load((contents.vote_path(number),), is_votes=True)
        stored = tally(store).ballots
        with running(doomed, arena.directory) as contender, _killed_in(KILL_SECONDS, contender):
            outcome = load.run(
                votes,
                contender.url,
                connections=CONNECTIONS,
                seconds=LOAD_SECONDS,
                users=Users(),
                directory=arena.directory,
            )
        # What it sent last may be at work in the database after its death.
        arena.database.settle()
        answered += outcome.good
        lost += max(outcome.good - (tally(store).ballots - stored), 0)
    return Crash(kills, answered, lost, tally(store).apart - before.apart)


@contextmanager
def _killed_in(seconds: float, contender: Contender) -> Iterator[None]:
    timer = threading.Timer(seconds, contender.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
