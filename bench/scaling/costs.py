"""The unit costs that the simulation is fed with, and how each was measured."""

from dataclasses import dataclass, field, fields


def _cost(unit: str, how: str, value: float) -> float:
    """One line of the table."""
    return field(default=value, metadata={"unit": unit, "how": how})


OURS = "own process time"
DATABASE = "mongod's /proc/PID/stat"


@dataclass(frozen=True, slots=True)
class Costs:
    """Medians of three runs of ``--measure`` on the machine of docs/scaling.md."""

    vote_us: float = _cost("µs", "CPU of a worker for a vote, without what the driver takes", 267)
    driver_us: float = _cost("µs", f"driver CPU of a statement: {OURS}", 198)
    encode_us: float = _cost("µs", f"driver CPU of a ballot that is inserted: {OURS}", 11.3)
    client_us: float = _cost("µs", "CPU of the load generator for a vote: rusage of wrk", 22)
    trip_ms: float = _cost("ms", "a statement that finds nothing, without the CPU of both", 0.0)
    statement_us: float = _cost("µs", f"any statement in a transaction: {DATABASE}", 177)
    lookup_us: float = _cost("µs", f"a document looked up by _id: {DATABASE}", 0.31)
    session_us: float = _cost("µs", f"a session found as known, and updated: {DATABASE}", 53)
    ballot_us: float = _cost("µs", f"a ballot inserted, three indexes: {DATABASE}", 19.1)
    commit_us: float = _cost("µs", f"a commit, journal and majority: {DATABASE}", 626)
    conflict_us: float = _cost("µs", f"an update that conflicts, and its abort: {DATABASE}", 1175)
    majority_ms: float = _cost("ms", "a commit until a majority of three has it on disk", 3.15)
    journal_ms: float = _cost(
        "ms", "a commit until one node has it on disk, as where that is all", 0.17
    )
    apply_us: float = _cost("µs", "CPU of a secondary for a vote that it copies", 14.4)
    oplog_bytes: float = _cost("B", "a vote in the oplog: local.oplog.rs", 301)


COSTS = Costs()


def table(costs: Costs) -> str:
    lines = [header("cost", "", "how it was measured")]
    for one in fields(costs):
        value = f"{getattr(costs, one.name):,.4g} {one.metadata['unit']}"
        lines.append(f"| `{one.name}` | {value} | {one.metadata['how']} |")
    return "\n".join(lines)


def header(*names: str) -> str:
    """The first two lines of a table."""
    return f"| {' | '.join(names)} |\n{'|---' * len(names)}|"
