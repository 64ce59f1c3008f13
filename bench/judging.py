"""What was measured, held against the floors and against what must be true of every vote."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.arena import Arena
from bench.crashing import Crash
from bench.growth import Growth
from bench.live import Live
from bench.logging_cost import LoggingCost
from bench.measuring import Answers, Case, Results
from bench.plan import (
    FLOORS,
    FULL,
    LEAST_SHARE_WATCHED,
    MEMORY_BAND,
    MOST_CPU_GROWTH,
    MOST_EVENT_MS,
    MOST_LATENCY,
    MOST_LOGGING_US,
    MOST_WATCHER_KIB,
    WORKLOADS,
    Name,
)
from bench.stores import tally


@dataclass(frozen=True, slots=True)
class Verdict:
    """``is_truth`` marks what no speed excuses: a vote lost, or an answer that was an error."""

    what: str
    measured: str
    wanted: str
    passed: bool
    is_truth: bool = False


def ratio(results: Results, workload: str, connections: int, other: Name) -> float:
    """Our rate as a multiple of another's, which may be none."""
    ours = results[Case(workload, connections, "ours")].rate
    others = results[Case(workload, connections, other)].rate
    return ours / others if others else math.inf


def judge_speed(results: Results) -> Iterator[Verdict]:
    for floor in FLOORS:
        reached = ratio(results, floor.workload, FULL, floor.other)
        yield Verdict(
            f"{floor.workload}, of {floor.other}, {FULL} connections",
            f"{reached:.2f}",
            f"≥ {floor.least:g}",
            reached >= floor.least,
        )
    for workload in WORKLOADS:
        plain = results[Case(workload, 1, "plain")].p50_ms
        slower = results[Case(workload, 1, "ours")].p50_ms / plain if plain else math.inf
        yield Verdict(
            f"{workload}, p50 of plain, 1 connection",
            f"{slower:.2f}",
            f"≤ {MOST_LATENCY:g}",
            slower <= MOST_LATENCY,
        )


def judge_logging(cost: LoggingCost) -> Iterator[Verdict]:
    yield Verdict(
        "CPU of request log and metrics, a request",
        f"{cost.difference_us:.1f} µs ({cost.with_us:.0f} with, {cost.without_us:.0f} without)",
        f"≤ {MOST_LOGGING_US} µs",
        cost.difference_us <= MOST_LOGGING_US,
    )


def judge_growth(growth: Growth) -> Iterator[Verdict]:
    change = growth.end_mb / growth.start_mb - 1
    yield Verdict(
        f"resident memory over {growth.votes:,} votes",
        f"{growth.start_mb:.1f} to {growth.end_mb:.1f} MiB ({change:+.1%})",
        f"± {MEMORY_BAND:.0%}",
        abs(change) <= MEMORY_BAND,
    )
    grown = growth.full_cpu_us / growth.empty_cpu_us
    yield Verdict(
        f"CPU of a vote after {growth.votes:,}, of one in an empty session",
        f"{grown:.2f} ({growth.full_cpu_us:.0f} of {growth.empty_cpu_us:.0f} µs)",
        f"≤ {MOST_CPU_GROWTH:g}",
        grown <= MOST_CPU_GROWTH,
    )


def judge_live(live: Live) -> Iterator[Verdict]:
    yield Verdict(
        f"votes into a session with {live.watchers:,} watchers, of those without",
        f"{live.share:.2f}",
        f"≥ {LEAST_SHARE_WATCHED:g}",
        live.share >= LEAST_SHARE_WATCHED,
    )
    for beside, milliseconds in (
        ("no others", live.quiet_p99_ms),
        ("as many as it takes", live.busy_p99_ms),
    ):
        yield Verdict(
            f"from a vote to its event at {live.watchers:,} watchers, p99, beside {beside}",
            f"{milliseconds:.0f} ms",
            f"≤ {MOST_EVENT_MS:,} ms",
            milliseconds <= MOST_EVENT_MS,
        )
    yield Verdict(
        "resident memory of an idle watcher",
        f"{live.idle_kib:.1f} KiB",
        f"≤ {MOST_WATCHER_KIB} KiB",
        live.idle_kib <= MOST_WATCHER_KIB,
    )
    yield Verdict(
        "votes that a watcher was not shown", str(live.untold), "0", not live.untold, is_truth=True
    )


def judge_truth(
    arena: Arena, answers: Mapping[str, Answers], crashes: Mapping[Name, Crash]
) -> Iterator[Verdict]:
    """Of our own service only; how the others answered is in the report."""
    ours, crash = answers["ours"], crashes["ours"]
    yield Verdict(
        "answers other than 2xx",
        f"{ours.refused} refused, {ours.broken} not answered",
        "0",
        ours.refused + ours.broken == 0,
        is_truth=True,
    )
    store = arena.contenders["ours"].launch.store
    stored = tally(store).ballots if store else 0
    answered = ours.good_votes + crash.answered
    yield Verdict(
        "ballots in the store",
        f"{stored:,}",
        f"≥ {answered:,} answered",
        stored >= answered,
        is_truth=True,
    )
    yield Verdict(
        "votes by which counts and ballots differ, after a load or a kill",
        f"{ours.apart}, {crash.apart}",
        "0, 0",
        ours.apart == crash.apart == 0,
        is_truth=True,
    )
    said = arena.recount()
    yield Verdict("recount", said or "no difference", "no difference", said is None, is_truth=True)
