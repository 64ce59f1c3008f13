"""The tables on the terminal, and the same as JSON."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.growth import Growth
from bench.judging import Verdict, ratio, shown_ratio
from bench.logging_cost import LoggingCost
from bench.measuring import Answers, Case, Results
from bench.plan import CONNECTIONS, NAMES, WORKLOADS, Plan

DIRECTORY = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Report:
    plan: Plan
    results: Results
    logging: LoggingCost
    growth: Growth
    answers: Mapping[str, Answers]
    verdicts: Sequence[Verdict]

    def text(self) -> str:
        parts = [
            f"Rounds: {self.plan.rounds}, of {self.plan.seconds:g} s each; medians.",
            "Requests a second, and our rate as a multiple of the others'.",
            _table(_ratios(self.results)),
            "CPU of each process per request, and what the database server adds for ours.",
            _table(_costs(self.results)),
            "p50 / p99 in ms.",
            _table(_latencies(self.results)),
            _growth(self.growth),
            _table(_answers(self.answers)),
            _table(_verdicts(self.verdicts)),
        ]
        return "\n\n".join(parts)

    def write(self) -> Path:
        """As a file of its own in ``bench/results``."""
        now = datetime.now(UTC)
        DIRECTORY.mkdir(exist_ok=True)
        path = DIRECTORY / f"{now:%Y%m%dT%H%M%SZ}.json"
        whole = {
            "at": now.isoformat(),
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "plan": asdict(self.plan),
            "results": [{**asdict(case), **asdict(one)} for case, one in self.results.items()],
            "logging": asdict(self.logging),
            "growth": asdict(self.growth),
            "answers": {name: asdict(answers) for name, answers in self.answers.items()},
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }
        path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
        return path


Rows = list[list[str]]
NUMERIC = frozenset("0123456789>")


def _cases() -> list[tuple[str, int]]:
    return [(workload, connections) for workload in WORKLOADS for connections in CONNECTIONS]


def _ratios(results: Results) -> Rows:
    rows = [["workload", "conns", *NAMES, "/ bare", "/ plain", "/ f+b"]]
    for workload, connections in _cases():
        rates = [f"{results[Case(workload, connections, name)].rate:,.0f}" for name in NAMES]
        others = [shown_ratio(ratio(results, workload, connections, name)) for name in NAMES[1:]]
        rows.append([workload, str(connections), *rates, *others])
    return rows


def _costs(results: Results) -> Rows:
    rows = [["µs / request", "conns", *NAMES, "database", "MiB: ours", *NAMES[1:]]]
    for workload, connections in _cases():
        seen = [results[Case(workload, connections, name)] for name in NAMES]
        cpu = [f"{one.cpu_us:.0f}" for one in seen]
        memory = [f"{one.resident_mb:.0f}" for one in seen]
        database = f"{seen[0].database_cpu_us:.0f}"
        rows.append([workload, str(connections), *cpu, database, *memory])
    return rows


def _latencies(results: Results) -> Rows:
    rows = [["latency", "conns", *NAMES]]
    for workload, connections in _cases():
        seen = [results[Case(workload, connections, name)] for name in NAMES]
        shown = [f"{one.p50_ms:.1f} / {one.p99_ms:.1f}" for one in seen]
        rows.append([workload, str(connections), *shown])
    return rows


def _growth(growth: Growth) -> str:
    return (
        f"The database server's own CPU for a vote: {growth.database_empty_cpu_us:.0f} µs in an "
        f"empty session, {growth.database_full_cpu_us:.0f} µs after {growth.votes:,} votes."
    )


def _answers(answers: Mapping[str, Answers]) -> Rows:
    rows = [["answers", "2xx", "votes", "others", "none"]]
    for name, one in answers.items():
        counts = (one.good, one.good_votes, one.refused, one.broken)
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
