"""``--compare``: what real workers do on this machine, beside what the simulation says of them."""

import asyncio
import os
import resource
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymongo

from bench import contents, load
from bench.load import Load, Users
from bench.processes import Contender, Launch, Process, running
from bench.scaling.costs import Costs, header
from bench.scaling.nodes import replica_set
from bench.scaling.simulation import Outcome, Scenario, simulate
from bench.stores import database_uri
from storage.location import Location

WORKERS = (1, 2, 3, 4)
CONNECTIONS = 256
STATEMENTS = 3
"""Of a batch of new votes."""
WARMUP_SECONDS = 2.0
SECONDS = 1.5
ROUNDS = 12
SPIN_SECONDS = 0.2
VOTES = Load((contents.vote_path(contents.CROWDED_CONTENT),), is_votes=True)
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """One load on some workers; ``slowness`` is how much longer a busy loop took than its CPU."""

    rate: float
    p50_ms: float
    p99_ms: float
    votes_a_batch: float
    retries_a_batch: float
    service_us: float
    client_us: float
    slowness: float


@dataclass(frozen=True, slots=True)
class Pair:
    workers: int
    real: Seen
    simulated: Outcome

    @property
    def off(self) -> float:
        """By how much the simulated rate differs from the real one."""
        return self.simulated.rate / self.real.rate - 1


class Bench:
    """A store on a ``mongod`` of its own, and loads on services before it."""

    def __init__(self, directory: Path, uri: str) -> None:
        self._directory = directory
        self._secret = secrets.token_urlsafe()
        self._uri = database_uri(uri, "polls")
        self._users = Users()
        asyncio.run(contents.fill(Location(self._uri, directory, self._secret)))

    @contextmanager
    def workers(self, count: int) -> Iterator[Contender]:
        environment = {
            "MONGODB_URI": self._uri,
            "POLLS_SECRET": self._secret,
            "POLLS_PORT": "0",
        }
        command = [sys.executable, "-m", "service", "serve", "--workers", str(count)]
        launch = Launch(f"workers-{count}", command, environment)
        with running(launch, self._directory) as started:
            self._load(started, CONNECTIONS, WARMUP_SECONDS)
            started.settle()
            yield started

    def _load(self, service: Contender, connections: int, seconds: float) -> load.Outcome:
        return load.run(
            VOTES,
            service.url,
            connections=connections,
            seconds=seconds,
            users=self._users,
            directory=self._directory,
        )

    def run(self, service: Contender, connections: int) -> Seen:
        transactions, slow = self._transactions(), _slowness()
        cpu, client = _family_cpu(service.pid), _children_cpu()
        outcome = self._load(service, connections, SECONDS)
        service.settle()
        cpu, client = _family_cpu(service.pid) - cpu, _children_cpu() - client
        now = self._transactions()
        batches = max(now["totalCommitted"] - transactions["totalCommitted"], 1)
        aborted = now["totalAborted"] - transactions["totalAborted"]
        return Seen(
            rate=outcome.rate,
            p50_ms=outcome.p50_ms,
            p99_ms=outcome.p99_ms,
            votes_a_batch=outcome.good / batches,
            retries_a_batch=aborted / batches,
            service_us=cpu / outcome.good * 1e6,
            client_us=client / outcome.requests * 1e6,
            slowness=(slow + _slowness()) / 2,
        )

    def _transactions(self) -> dict[str, int]:
        with pymongo.MongoClient[Document](self._uri) as client:
            found: dict[str, int] = client.admin.command("serverStatus")["transactions"]
            return found


def _family_cpu(pid: int) -> float:
    """Of a parent and its workers."""
    processes = [Path(f"/proc/{pid}")]
    processes += [one for one in Path("/proc").iterdir() if _parent(one) == pid]
    return sum(Process(int(one.name)).cpu_seconds() for one in processes)


def _parent(process: Path) -> int | None:
    if process.name.isdigit():
        with suppress(OSError):
            stat = (process / "stat").read_text("utf-8", "replace")
            return int(stat.rpartition(")")[2].split()[1])
    return None


def _children_cpu() -> float:
    """Of those that have ended: the load generators."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _slowness() -> float:
    """By how much other programs slow down one that could use a core of its own."""
    wall, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < SPIN_SECONDS:
        pass
    return (time.monotonic() - wall) / SPIN_SECONDS


@contextmanager
def _bench() -> Iterator[Bench]:
    with replica_set(1) as nodes:
        yield Bench(nodes.directory, nodes.uri)


def measure_worker(costs: Costs) -> Costs:
    """What a vote costs a worker beside the driver, and its caller: of many rounds the cheapest."""
    with _bench() as bench, bench.workers(1) as service:
        rounds = [bench.run(service, CONNECTIONS) for _ in range(ROUNDS)]
    least = min(rounds, key=lambda one: one.service_us)
    driver = STATEMENTS * costs.driver_us / least.votes_a_batch + costs.encode_us
    client = min(one.client_us for one in rounds)
    return replace(costs, vote_us=least.service_us - driver, client_us=client)


def compare(costs: Costs) -> list[Pair]:
    """One to four workers into one session, and the same simulated: of many rounds the fastest."""
    pairs = []
    with _bench() as bench:
        for count in WORKERS:
            with bench.workers(count) as service:
                rounds = [bench.run(service, CONNECTIONS) for _ in range(ROUNDS)]
            scenario = Scenario(
                processes=count,
                machines=1,
                connections=CONNECTIONS,
                shared_cores=os.cpu_count() or 1,
                costs=replace(costs, majority_ms=costs.journal_ms),
            )
            fastest = max(rounds, key=lambda one: one.rate)
            pairs.append(Pair(count, fastest, simulate(scenario)))
    return pairs


def table(pairs: list[Pair]) -> str:
    lines = [
        header(
            *("workers", "slowed by others", "votes/s: real", "simulated", "off"),
            *("p50 ms", "simulated", "votes a batch", "simulated", "retries a batch", "simulated"),
        )
    ]
    for one in pairs:
        real, simulated = one.real, one.simulated
        batches = max(simulated.batches, 1)
        lines.append(
            f"| {one.workers} | {real.slowness:.1f} | {real.rate:,.0f} | {simulated.rate:,.0f} "
            f"| {one.off:+.0%} | {real.p50_ms:.0f} | {simulated.latency_ms(50):.0f} "
            f"| {real.votes_a_batch:.0f} | {simulated.answered / batches:.0f} "
            f"| {real.retries_a_batch:.2f} | {simulated.retries / batches:.2f} |"
        )
    return "\n".join(lines)
