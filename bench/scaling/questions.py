"""A million votes in one minute: what each way of casting would do with them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bench.scaling.costs import COSTS, Costs, header
from bench.scaling.simulation import Outcome, Scenario, percentile, simulate
from storage.client import ROUND_TRIP_SECONDS

RATE = 1_000_000 / 60
PROCESSES = 100
MACHINES = 13
"""Of seven or eight processes each."""
APART = 0
"""Each process on a machine of its own, or where no turns are needed."""
MANY = 10_000
SHARDS = 4
CORES = 16
"""Of each machine that runs a primary: assumed, and each as fast as one here."""
NETWORK_MS = 0.5
"""There and back between machines of one data centre: assumed."""
FLOOD = 100
"""Callers of each process that ask again as soon as they are answered."""


@dataclass(frozen=True, slots=True)
class Question:
    name: str
    scenario: Scenario


def costs_between_machines(costs: Costs = COSTS) -> Costs:
    """What was measured on one machine, with a network in between."""
    return replace(
        costs,
        trip_ms=costs.trip_ms + NETWORK_MS,
        majority_ms=costs.majority_ms + NETWORK_MS,
    )


FLEET = Scenario(
    processes=PROCESSES,
    machines=MACHINES,
    rate=RATE,
    cores=CORES,
    closes=True,
    costs=costs_between_machines(),
)
SPREAD = replace(FLEET, sessions=MANY, seconds=8.0)


def one_session() -> Iterator[Question]:
    yield Question(f"as it is, {MACHINES} machines", replace(FLEET, seconds=8.0))
    yield Question(f"as it is, {PROCESSES} machines", replace(FLEET, machines=APART, seconds=8.0))
    yield Question("one caster a machine", replace(FLEET, has_casters=True, seconds=8.0))
    tallies = replace(FLEET, tallies=True)
    yield Question("tallies", replace(tallies, machines=APART, seconds=2.0))
    both = replace(tallies, has_casters=True, seconds=3.0)
    yield Question("tallies, one caster a machine", both)
    over = replace(FLEET, shards=SHARDS, is_spread=True, seconds=4.0)
    yield Question(f"ballots over {SHARDS} shards", over)


def many_sessions() -> Iterator[Question]:
    yield Question(f"as it is, {MACHINES} machines", SPREAD)
    yield Question(f"as it is, {PROCESSES} machines", replace(SPREAD, machines=APART))
    yield Question("one caster a machine", replace(SPREAD, has_casters=True))
    tallies = replace(SPREAD, has_casters=True, tallies=True)
    yield Question("tallies, one caster a machine", tallies)
    sharded = replace(SPREAD, shards=SHARDS)
    yield Question(f"{SHARDS} shards, batches over all", sharded)
    yield Question(f"{SHARDS} shards, a batcher for each", replace(sharded, is_by_shard=True))


def floods() -> Iterator[Question]:
    """As much as goes: each process has always so many callers."""
    flood = replace(FLEET, rate=0.0, connections=FLOOD * PROCESSES, closes=False, seconds=4.0)
    yield Question(f"one session, as it is, {MACHINES} machines", flood)
    yield Question(f"one session, as it is, {PROCESSES} machines", replace(flood, machines=APART))
    yield Question("one session, one caster a machine", replace(flood, has_casters=True))
    short = replace(flood, warmup=0.3, seconds=0.3, tallies=True)
    yield Question("one session, tallies", replace(short, machines=APART))
    both = replace(short, has_casters=True)
    yield Question("one session, tallies, one caster a machine", both)


ALL: dict[str, Callable[[], Iterator[Question]]] = {
    f"{PROCESSES} processes, {RATE:,.0f} votes a second, one session": one_session,
    f"{PROCESSES} processes, {RATE:,.0f} votes a second, {MANY:,} sessions": many_sessions,
    f"{PROCESSES} processes, {FLOOD} callers each, as fast as it goes": floods,
}


def table(asked: Iterator[Question]) -> Iterator[str]:
    """Line by line, as each is simulated."""
    yield header(
        *("", "votes/s", "refused", "p50, p99 ms", "votes a batch", "retries a batch"),
        *("begun without turn", "run alone"),
        *("closes within 4 s, p50", "document held", "database CPU", "busiest process"),
    )
    for question in asked:
        yield row(question.name, simulate(question.scenario))


def row(name: str, outcome: Outcome) -> str:
    batches = max(outcome.batches, 1)
    cells = (
        name,
        f"{outcome.rate:,.0f}",
        f"{outcome.refused / max(outcome.cast, 1):.0%}",
        f"{outcome.latency_ms(50):,.0f}, {outcome.latency_ms(99):,.0f}",
        f"{outcome.answered / batches:,.1f}",
        f"{outcome.retries / batches:,.2f}",
        f"{outcome.hasty / batches:.0%}",
        f"{outcome.alone / batches:.0%}",
        _closes(outcome),
        f"{outcome.use['documents']:.0%}",
        f"{outcome.use['database CPU']:.0%}",
        f"{max(outcome.use['service CPU'], outcome.use.get('caster CPU', 0.0)):.0%}",
    )
    return f"| {' | '.join(cells)} |"


def _closes(outcome: Outcome) -> str:
    count = len(outcome.closes) + outcome.late_closes
    within = [seconds for seconds in outcome.closes if seconds <= ROUND_TRIP_SECONDS]
    half = f", {percentile(within, 50) * 1e3:,.0f} ms" if within else ""
    return f"{len(within)} of {count}{half}" if count else "-"
