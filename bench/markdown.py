"""The table of docs/figures.md, from what was measured."""

from bench.measuring import Case, Measurement, Results
from bench.plan import CASES, NAMES


def table(results: Results) -> str:
    """p50 at 1 connection; the rate, and the CPU of the process for each request, at more."""
    names = [name for name in NAMES if name in {case.name for case in results}]
    lines = [["", "connections", *names], ["---"] * (len(names) + 2)]
    for workload, connections in CASES:
        cases = [Case(workload, connections, name) for name in names]
        cells = [_cell(results[case], connections) if case in results else "" for case in cases]
        lines.append([workload, f"{connections:,}", *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(measured: Measurement, connections: int) -> str:
    if measured.rate == 0:
        return "none"
    if connections == 1:
        return f"{measured.p50_ms:.1f} ms"
    return f"{measured.rate:,.0f}/s, {measured.cpu_us:,.0f} µs"
