"""The tables on the terminal, and the same as JSON."""

import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import markdown
from bench.crashing import Crash
from bench.growth import Growth
from bench.judging import Verdict, ratio
from bench.live import Live
from bench.logging_cost import LoggingCost
from bench.measuring import Answers, Case, Measurement, Results
from bench.plan import CASES, NAMES, WORKLOADS, Name, Plan

DIRECTORY = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Report:
    plan: Plan
    engine: str
    results: Results
    logging: LoggingCost
    growth: Growth
    live: Live
    answers: Mapping[str, Answers]
    crashes: Mapping[Name, Crash]
    left_out: Mapping[Name, str]
    verdicts: Sequence[Verdict]

    def text(self) -> str:
        parts = [
            f"On {self.engine}. Rounds: {self.plan.rounds}, of {self.plan.seconds:g} s; medians.",
            *(f"{name} is left out: {why}" for name, why in self.left_out.items()),
            "Requests a second, and our rate as a multiple of that of others.",
            _table(_rates(self.results)),
            "p50 in ms at 1 connection, where no batch helps.",
            _table(_latencies_alone(self.results)),
            "CPU of each process per request, and what the database server adds for ours.",
            _table(_costs(self.results)),
            "p50 / p99 in ms.",
            _table(_latencies(self.results)),
            _growth(self.growth),
            _live(self.live),
            "Answers, and the most votes by which counts and ballots differed after a load.",
            _table(_answers(self.answers)),
            "Killed under votes: how many were answered and lost, and how far apart counts are.",
            _table(_crashes(self.crashes)),
            _table(_verdicts(self.verdicts)),
            "The table of docs/figures.md:",
            markdown.table(self.results),
        ]
        return "\n\n".join(parts)

    def write(self) -> Path:
        """As a file of its own in ``bench/results``."""
        now = datetime.now(UTC)
        DIRECTORY.mkdir(exist_ok=True)
        path = DIRECTORY / f"{now:%Y%m%dT%H%M%SZ}.json"
        whole = {
            "at": now.isoformat(),
            "machine": {
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "database": self.engine,
            },
            "plan": asdict(self.plan),
            "results": [{**asdict(case), **asdict(one)} for case, one in self.results.items()],
            "logging": asdict(self.logging),
            "growth": asdict(self.growth),
            "live": asdict(self.live),
            "answers": {name: asdict(answers) for name, answers in self.answers.items()},
            "crashes": {name: asdict(crash) for name, crash in self.crashes.items()},
            "left_out": dict(self.left_out),
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }
        path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
        return path


Rows = list[list[str]]
NUMERIC = frozenset("0123456789-")
NONE = "-"
RATED: tuple[Name, ...] = ("bare", "fastify", "fastapi+beanie")
"""Those that our rate is shown as a multiple of."""


def _measured(results: Results, among: Sequence[Name] = NAMES) -> list[Name]:
    """In the order of all; without those that were left out."""
    seen = {case.name for case in results}
    return [name for name in among if name in seen]


def _cells(
    results: Results, workload: str, connections: int, show: Callable[[Measurement], str]
) -> list[str]:
    """One for each contender; not all take part in every case."""
    cases = (Case(workload, connections, name) for name in _measured(results))
    return [show(results[case]) if case in results else NONE for case in cases]


def _rates(results: Results) -> Rows:
    rated = _measured(results, RATED)
    rows = [["workload", "conns", *_measured(results), *(f"/ {name}" for name in rated)]]
    for workload, connections in CASES:
        rates = _cells(results, workload, connections, lambda one: f"{one.rate:,.0f}")
        others = [_shown(ratio(results, workload, connections, name)) for name in rated]
        rows.append([workload, str(connections), *rates, *others])
    return rows


def _shown(number: float) -> str:
    return f"{number:.2f}" if math.isfinite(number) else NONE


def _latencies_alone(results: Results) -> Rows:
    rows = [["p50", *_measured(results)]]
    for workload in WORKLOADS:
        shown = _cells(results, workload, 1, lambda one: f"{one.p50_ms:.2f}")
        rows.append([workload, *shown])
    return rows


def _costs(results: Results) -> Rows:
    names = _measured(results)
    rows = [["µs / request", "conns", *names, "database", "MiB: ours", *names[1:]]]
    for workload, connections in CASES:
        cpu = _cells(results, workload, connections, lambda one: f"{one.cpu_us:.0f}")
        memory = _cells(results, workload, connections, lambda one: f"{one.resident_mb:.0f}")
        database = f"{results[Case(workload, connections, 'ours')].database_cpu_us:.0f}"
        rows.append([workload, str(connections), *cpu, database, *memory])
    return rows


def _latencies(results: Results) -> Rows:
    rows = [["latency", "conns", *_measured(results)]]
    for workload, connections in CASES:
        shown = _cells(
            results, workload, connections, lambda one: f"{one.p50_ms:.1f} / {one.p99_ms:.1f}"
        )
        rows.append([workload, str(connections), *shown])
    return rows


def _growth(growth: Growth) -> str:
    return (
        f"The database server's own CPU for a vote: {growth.database_empty_cpu_us:.0f} µs in an "
        f"empty session, {growth.database_full_cpu_us:.0f} µs after {growth.votes:,} votes."
    )


def _live(live: Live) -> str:
    return (
        f"Votes into one session: {live.without_rate:,.0f}/s, {live.without_cpu_us:.0f} µs each; "
        f"with {live.watchers:,} watchers {live.with_rate:,.0f}/s, {live.with_cpu_us:.0f} µs, "
        f"{live.share:.2f} of it. From the answer to a vote to its event, p50 / p99: "
        f"{live.quiet_p50_ms:.0f} / {live.quiet_p99_ms:.0f} ms beside no other votes, "
        f"{live.busy_p50_ms:.0f} / {live.busy_p99_ms:.0f} ms beside those. "
        f"Resident memory of an idle watcher: {live.idle_kib:.1f} KiB."
    )


def _answers(answers: Mapping[str, Answers]) -> Rows:
    rows = [["answers", "2xx", "votes", "others", "none", "apart"]]
    for name, one in answers.items():
        counts = (one.good, one.good_votes, one.refused, one.broken, one.apart)
        rows.append([name, *(f"{count:,}" for count in counts)])
    return rows


def _crashes(crashes: Mapping[Name, Crash]) -> Rows:
    rows = [["killed", "times", "answered", "lost", "apart"]]
    for name, one in crashes.items():
        counts = (one.kills, one.answered, one.lost, one.apart)
        rows.append([name, *(f"{count:,}" for count in counts)])
    return rows


def _verdicts(verdicts: Sequence[Verdict]) -> Rows:
    rows = [["", "floor", "wanted", "measured"]]
    for verdict in verdicts:
        mark = "pass" if verdict.passed else "MISS"
        rows.append([mark, verdict.what, verdict.wanted, verdict.measured])
    return rows


def _table(rows: Rows) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    is_number = [all(row[place][:1] in NUMERIC for row in rows[1:]) for place in range(len(widths))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
