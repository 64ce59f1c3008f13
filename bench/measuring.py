"""Rounds: each contender in turn under the same load, and the medians of what was seen."""

import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import product

from bench import load
from bench.arena import Arena
from bench.load import Load, Users
from bench.plan import CONNECTIONS, HEATS, NAMES, WORKLOADS, Name, Plan
from bench.processes import Contender


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
    """How all requests of one contender were answered, warm-ups included."""

    good: int = 0
    good_votes: int = 0
    refused: int = 0
    broken: int = 0


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
        cpu = contender.cpu_seconds() - cpu
        database_cpu = database.cpu_seconds() - database_cpu
        # After a load in flight is another one's round: everybody starts on an idle machine.
        contender.settle()
        answers = self.answers.setdefault(contender.name, Answers())
        answers.good += outcome.good
        answers.good_votes += outcome.good if wanted.is_votes else 0
        answers.refused += outcome.refused
        answers.broken += outcome.broken
        each = 1e6 / max(outcome.good, 1)
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
    for wanted in WORKLOADS.values():
        for name in NAMES:
            course.run(arena.contenders[name], wanted, connections=64, seconds=plan.warmup_seconds)
    seen: dict[Case, list[Measurement]] = {}
    for round_number in range(1, plan.rounds + 1):
        for heat, (workload, wanted), connections in product(HEATS, WORKLOADS.items(), CONNECTIONS):
            note(f"round {round_number} of {plan.rounds}: {workload}, {connections}")
            for name in heat:
                measurement, _ = course.run(
                    arena.contenders[name],
                    wanted,
                    connections=connections,
                    seconds=plan.seconds,
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
