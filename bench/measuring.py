"""Rounds: each contender in turn under the same load, and the medians of what was seen."""

import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from bench import load
from bench.arena import Arena
from bench.load import Load, Users
from bench.plan import CASES, RUSH, WORKLOADS, Name, Plan, takes_part
from bench.processes import Contender
from bench.stores import tally


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one contender did in one round, or the median of several rounds.

    CPU is that of the process, and of the database server, divided by the requests.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    database_cpu_us: float
    resident_mb: float


@dataclass(frozen=True, slots=True, order=True)
class Case:
    workload: str
    connections: int
    name: Name


Results = dict[Case, Measurement]


@dataclass(slots=True)
class Answers:
    """How all requests of one contender were answered, warm-ups included.

    ``apart``: the most votes by which its counts and its ballots differed after a run.
    """

    good: int = 0
    good_votes: int = 0
    refused: int = 0
    broken: int = 0
    apart: int = 0


class Course:
    """Runs loads against the contenders of an arena, and keeps count of their answers."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._users = Users()
        self.answers: dict[str, Answers] = {name: Answers() for name in arena.contenders}

    def run(
        self, contender: Contender, wanted: Load, *, connections: int, seconds: float
    ) -> tuple[Measurement, int]:
        """What was seen, and how many requests were answered well."""
        database = self._arena.database
        cpu, database_cpu = contender.cpu_seconds(), database.cpu_seconds()
        outcome = load.run(
            wanted,
            contender.url,
            connections=connections,
            seconds=seconds,
            users=self._users,
            directory=self._arena.directory,
        )
        # wrk hangs up with a request in flight on each connection. They are worked at all the same,
        # which is not to be measured with the next contender.
        contender.settle()
        cpu = contender.cpu_seconds() - cpu
        database_cpu = database.cpu_seconds() - database_cpu
        answers = self.answers.setdefault(contender.name, Answers())
        answers.good += outcome.good
        answers.good_votes += outcome.good if wanted.is_votes else 0
        answers.refused += outcome.refused
        answers.broken += outcome.broken
        if wanted.is_votes and contender.launch.store:
            answers.apart = max(answers.apart, tally(contender.launch.store).apart)
        each = 1e6 / (outcome.requests + connections)
        measurement = Measurement(
            rate=outcome.rate,
            p50_ms=outcome.p50_ms,
            p99_ms=outcome.p99_ms,
            cpu_us=cpu * each,
            database_cpu_us=database_cpu * each,
            resident_mb=contender.resident_mb(),
        )
        return measurement, outcome.good


def race(course: Course, arena: Arena, plan: Plan) -> Results:
    """All contenders in turn, under each load, round by round; the medians."""
    for workload, wanted in WORKLOADS.items():
        for name, contender in arena.contenders.items():
            connections = 64 if takes_part(name, workload, 64) else 1
            course.run(contender, wanted, connections=connections, seconds=plan.warmup_seconds)
    seen: dict[Case, list[Measurement]] = {}
    for round_number in range(1, plan.rounds + 1):
        for workload, connections in CASES:
            note(f"round {round_number} of {plan.rounds}: {workload}, {connections}")
            for name, contender in arena.contenders.items():
                if not takes_part(name, workload, connections):
                    continue
                measurement, _ = course.run(
                    contender,
                    WORKLOADS[workload],
                    connections=connections,
                    seconds=plan.seconds * (2 if connections == RUSH else 1),
                )
                seen.setdefault(Case(workload, connections, name), []).append(measurement)
    return {case: median(measurements) for case, measurements in seen.items()}


def median(measurements: Iterable[Measurement]) -> Measurement:
    rows = [asdict(measurement) for measurement in measurements]
    names = [field.name for field in fields(Measurement)]
    return Measurement(**{name: statistics.median(row[name] for row in rows) for name in names})


def note(text: str) -> None:
    """Progress, for who watches."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
