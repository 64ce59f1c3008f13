"""What request log and metrics cost: the CPU of a request with them, and without."""

import statistics
from dataclasses import dataclass

from bench.arena import Arena
from bench.measuring import Course, note
from bench.plan import FULL, WORKLOADS, Plan

ROUNDS = 5
"""A difference of a few microseconds needs more rounds than a rate."""


@dataclass(frozen=True, slots=True)
class LoggingCost:
    """CPU per request in µs: the median of all rounds, and of what the two of a round differ by."""

    with_us: float
    without_us: float
    difference_us: float


def measure_logging(course: Course, arena: Arena, plan: Plan) -> LoggingCost:
    note("with and without request log and metrics, in turn")
    seen: list[tuple[float, float]] = []
    for _ in range(ROUNDS * plan.rounds):
        logged, unlogged = (
            course.run(one, WORKLOADS["read one"], connections=FULL, seconds=2)[0].cpu_us
            for one in (arena.contenders["ours"], arena.unlogged)
        )
        seen.append((logged, unlogged))
    return LoggingCost(
        with_us=statistics.median(logged for logged, _ in seen),
        without_us=statistics.median(unlogged for _, unlogged in seen),
        difference_us=statistics.median(logged - unlogged for logged, unlogged in seen),
    )
