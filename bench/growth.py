"""What grows with the votes of one session: memory, and the CPU that each more vote takes."""

import statistics
from dataclasses import dataclass

from bench import contents
from bench.arena import Arena
from bench.load import Load
from bench.measuring import Course, Measurement, note
from bench.plan import FULL, Plan

MAX_RUNS = 200
"""Of loads, to cast ``long_votes``; a service so slow that these are not enough ends the run."""
WARM_SHARE = 0.1
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory after warm-up and at the end; CPU of a vote in an empty and a full session.

    ``database_…`` is the database server's share of the same votes.
    """

    votes: int
    start_mb: float
    end_mb: float
    empty_cpu_us: float
    full_cpu_us: float
    database_empty_cpu_us: float
    database_full_cpu_us: float


class TooSlow(Exception):
    """The votes could not be cast in any reasonable time."""


def grow(course: Course, arena: Arena, plan: Plan) -> Growth:
    """Casts ``plan.long_votes`` into one session; then, in turn, into empty ones and into that."""
    ours = arena.contenders["ours"]
    full = Load((contents.vote_path(contents.LONG_CONTENT),), is_votes=True)
    note(f"{plan.long_votes:,} votes in one session")
    votes, start_mb = 0, 0.0
    for _ in range(MAX_RUNS):
        if votes >= plan.long_votes:
            break
        measurement, good = course.run(ours, full, connections=FULL, seconds=plan.seconds)
        votes += good
        if votes >= plan.long_votes * WARM_SHARE and not start_mb:
            start_mb = measurement.resident_mb
    else:
        raise TooSlow(f"Only {votes:,} votes were cast in {MAX_RUNS} runs.")
    end_mb = ours.resident_mb()

    note("the same rate of votes in an empty session and in that one, in turn")
    in_empty: list[Measurement] = []
    in_full: list[Measurement] = []
    for number in contents.EMPTY_CONTENTS[:ROUNDS]:
        empty = Load((contents.vote_path(number),), is_votes=True)
        for load, seen in ((empty, in_empty), (full, in_full)):
            measurement, _ = course.run(ours, load, connections=FULL, seconds=2)
            seen.append(measurement)
    return Growth(
        votes=votes,
        start_mb=start_mb,
        end_mb=end_mb,
        empty_cpu_us=statistics.median(one.cpu_us for one in in_empty),
        full_cpu_us=statistics.median(one.cpu_us for one in in_full),
        database_empty_cpu_us=statistics.median(one.database_cpu_us for one in in_empty),
        database_full_cpu_us=statistics.median(one.database_cpu_us for one in in_full),
    )
