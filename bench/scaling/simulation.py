"""Votes on their way through processes, casters and shards, as ``storage/ballots.py`` sends them.

What is decided by the code is taken from the code: sizes of batches, conflicts, backoff, limits,
which sessions a process knows. What things cost is in ``costs.py``. Left out are the network
between voters and service, votes that are changed, reads, and everything that fails.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

from bench.scaling.costs import COSTS, Costs
from bench.scaling.events import (
    SWITCH_SECONDS,
    Clock,
    Host,
    Journal,
    Process,
    Steps,
    Then,
    Wait,
    start,
    together,
)
from storage.ballots import MAX_APART, MAX_BATCH, MAX_CONFLICTS
from storage.batching import MAX_WAITING, SHARED_FATE_SECONDS
from storage.client import BACKOFF_SECONDS, ROUND_TRIP_SECONDS
from storage.documents import SessionDocument
from storage.known_sessions import KnownSessions
from storage.turns import WAIT_SECONDS

US = 1e-6
MS = 1e-3
HAND_OVER_US = 10.0
"""CPU of a vote handed to a caster and back, on either side: assumed."""
TURN_US = 100.0
"""Of the event loop of a process that has waited for its turn: assumed."""
CLOSE_EVERY = 0.5

Key = tuple[int, int]
"""What a vote counts in: a session, and whose tally of it, or -1 for the session's document."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Votes come at ``rate`` a second, or over ``connections`` that wait for each answer.

    ``machines``: the processes of each cast in turns; 0 if each process has its own.
    ``has_casters``: each machine has one caster for all its processes. ``tallies``: each batcher
    counts in documents of its own. ``is_spread``: the ballots of a session lie on all shards, not
    with their session. ``is_by_shard``: a batcher for each shard. ``closes``: sessions are closed
    meanwhile. ``shared_cores``: all runs on so many, voters too.
    """

    processes: int = 1
    sessions: int = 1
    rate: float = 0.0
    connections: int = 0
    seconds: float = 10.0
    warmup: float = 2.0
    machines: int = 0
    has_casters: bool = False
    tallies: bool = False
    shards: int = 1
    is_spread: bool = False
    is_by_shard: bool = False
    closes: bool = False
    cores: int = 16
    shared_cores: int = 0
    costs: Costs = COSTS
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """What became of the votes, warm-up included where nothing else is said.

    ``use`` is the share of the time that each resource was busy; "documents" are those that votes
    are counted in, which one transaction holds at a time. Closes are in seconds; late
    ones had not ended after the 4 s that they may take.
    """

    cast: int = 0
    answered: int = 0
    refused: int = 0
    waiting: int = 0
    batches: int = 0
    retries: int = 0
    alone: int = 0
    """Transactions for the votes of a single session, after a batch conflicted too often."""
    hasty: int = 0
    """Batches that did not wait for their turn any longer."""
    seconds: float = 0.0
    votes: int = 0
    """Answered after the warm-up, as are the latencies."""
    latencies: list[float] = field(default_factory=list)
    closes: list[float] = field(default_factory=list)
    late_closes: int = 0
    use: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.votes / self.seconds

    def latency_ms(self, percent: float) -> float:
        return percentile(self.latencies, percent) / MS


def percentile(values: Sequence[float], percent: float) -> float:
    """0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0


class Vote(NamedTuple):
    came: float
    session: int
    worker: "Worker"


class Shard:
    """A primary: its cores, its journal, and who holds which document."""

    def __init__(self, clock: Clock, host: Host, journal: Journal) -> None:
        self._clock = clock
        self.host = host
        self.journal = journal
        self._holders: dict[Key, float] = {}
        self._changed: dict[Key, float] = {}
        self.held = 0.0
        self.keys: set[Key] = set()

    def claim(self, keys: Collection[Key], since: float) -> bool:
        """Whether none is held by another transaction, or was changed after ``since``."""
        if any(key in self._holders or self._changed.get(key, -1.0) > since for key in keys):
            return False
        self._holders.update(dict.fromkeys(keys, self._clock.now))
        return True

    def release(self, keys: Collection[Key]) -> None:
        self.keys.update(keys)
        for key in keys:
            self.held += self._clock.now - self._holders.pop(key)
            self._changed[key] = self._clock.now


class Turn:
    """``storage/turns.py``: of the batchers of one machine, one casts at a time.

    They get the lock in the order in which they asked for it.
    """

    def __init__(self, clock: Clock, outcome: Outcome) -> None:
        self._clock = clock
        self._outcome = outcome
        self._holder: Process | None = None
        self._waiting: dict[Process, Then] = {}

    def take(self, process: Process) -> Wait:
        return partial(self._take, process)

    def _take(self, process: Process, then: Then) -> None:
        if self._holder is None:
            self._holder = process
            then()
            return
        has_begun = False

        def begin() -> None:
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                then()

        def give_up() -> None:
            self._outcome.hasty += not has_begun
            begin()

        self._waiting[process] = begin
        self._clock.after(WAIT_SECONDS, give_up)

    def end(self, process: Process) -> None:
        """As often as one likes."""
        self._waiting.pop(process, None)
        if self._holder is process:
            self._holder = next(iter(self._waiting), None)
            if self._holder is not None:
                self._holder.take(TURN_US * US, self._waiting.pop(self._holder))


class World:
    """All of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.costs = scenario.costs
        self.random = random.Random(scenario.seed)  # noqa: S311 - no secret
        self.clock = Clock()
        self.outcome = Outcome(seconds=scenario.seconds)
        self._closing: list[float] = []
        shared = Host(self.clock, scenario.shared_cores) if scenario.shared_cores else None
        machines = scenario.machines or scenario.processes
        casters = machines if scenario.has_casters else 0
        self.host = shared or Host(self.clock, scenario.processes + casters)
        seconds = self.costs.majority_ms * MS
        self.shards = [
            Shard(
                self.clock,
                shared or Host(self.clock, scenario.cores),
                Journal(self.clock, seconds),
            )
            for _ in range(scenario.shards)
        ]
        self.voters = Process(self.clock, self.host) if scenario.shared_cores else None
        self.casters = [Process(self.clock, self.host) for _ in range(casters)]
        turns = [self._turns() for _ in range(machines)]
        shared_batchers = [
            self._batchers(cpu, place, turns[place]) for place, cpu in enumerate(self.casters)
        ]
        self.workers: list[Worker] = []
        for place in range(scenario.processes):
            cpu = Process(self.clock, self.host)
            machine = place % machines
            if shared_batchers:
                batchers = shared_batchers[machine]
            else:
                batchers = self._batchers(cpu, place, turns[machine])
            self.workers.append(Worker(self, cpu, batchers))

    def _turns(self) -> list[Turn]:
        """Of one machine: for each batcher that a process has."""
        count = self.scenario.shards if self.scenario.is_by_shard else 1
        return [Turn(self.clock, self.outcome) for _ in range(count)]

    def _batchers(self, cpu: Process, place: int, turns: Sequence[Turn]) -> "list[Batcher]":
        owner = place if self.scenario.tallies else -1
        return [Batcher(self, cpu, owner, turn) for turn in turns]

    def shard_of(self, session: int) -> Shard:
        return self.shards[session % len(self.shards)]

    def run(self) -> Outcome:
        scenario, clock = self.scenario, self.clock
        if scenario.rate:
            for worker in self.workers:
                self._arrive(worker, scenario.rate / scenario.processes)
        for place in range(scenario.connections):
            self.ask(self.workers[place % scenario.processes])
        if scenario.closes:
            start(self._closes())
        clock.run(scenario.warmup)
        before = self._busy()
        clock.run(scenario.warmup + scenario.seconds)
        self.outcome.use = {
            name: (busy - before[name][0]) / scenario.seconds / room
            for name, (busy, room) in self._busy().items()
        }
        outcome = self.outcome
        outcome.waiting = outcome.cast - outcome.answered - outcome.refused
        late = clock.now - ROUND_TRIP_SECONDS
        outcome.late_closes = sum(began < late for began in self._closing)
        return outcome

    def _busy(self) -> dict[str, tuple[float, float]]:
        """Seconds of the busiest of each kind, and of how many cores or documents."""
        documents = max(len(self.shards[0].keys), 1)
        busy = {
            "service CPU": (max(worker.cpu.busy for worker in self.workers), 1.0),
            "database CPU": (max(one.host.busy for one in self.shards), self.shards[0].host.cores),
            "documents": (self.shards[0].held, documents),
        }
        if self.casters:
            busy["caster CPU"] = max(caster.busy for caster in self.casters), 1.0
        return busy

    def _arrive(self, worker: "Worker", rate: float) -> None:
        def come() -> None:
            self.cast(worker)
            self.clock.after(self.random.expovariate(rate), come)

        self.clock.after(self.random.expovariate(rate), come)

    def ask(self, worker: "Worker") -> None:
        """A caller over a connection casts the next vote."""
        if self.voters is None:
            self.cast(worker)
        else:
            self.voters.take(self.costs.client_us * US, partial(self.cast, worker))

    def cast(self, worker: "Worker") -> None:
        self.outcome.cast += 1
        session = self.random.randrange(self.scenario.sessions) if self.scenario.sessions > 1 else 0
        worker.receive(Vote(self.clock.now, session, worker))

    def answer(self, vote: Vote, *, is_stored: bool) -> None:
        outcome = self.outcome
        if is_stored:
            outcome.answered += 1
            if self.clock.now > self.scenario.warmup:
                outcome.votes += 1
                outcome.latencies.append(self.clock.now - vote.came)
        else:
            outcome.refused += 1
        if self.scenario.connections:
            self.ask(vote.worker)

    def _closes(self) -> Steps:
        """A session closed every half second, in today's way or tally by tally."""
        while True:
            yield self.clock.pause(CLOSE_EVERY)
            start(self._close(self.random.randrange(self.scenario.sessions)))

    def _close(self, session: int) -> Steps:
        began = self.clock.now
        self._closing.append(began)
        batchers = {id(one): one for worker in self.workers for one in worker.batchers}
        owners = {one.owner for one in batchers.values()}
        yield together(
            [partial(start, self._close_one((session, one), is_read=one < 0)) for one in owners]
        )
        self._closing.remove(began)
        self.outcome.closes.append(self.clock.now - began)

    def _close_one(self, key: Key, *, is_read: bool) -> Steps:
        """Until it is committed, however long that takes."""
        costs, shard = self.costs, self.shard_of(key[0])
        statement = costs.statement_us * US
        while True:
            since = self.clock.now
            for _ in range(1 + is_read):
                yield self.clock.pause(costs.trip_ms * MS)
                yield shard.host.use(statement)
            if shard.claim([key], since if is_read else self.clock.now):
                break
            pause = costs.trip_ms * MS + self.random.uniform(*BACKOFF_SECONDS)
            yield self.clock.pause(pause)
        for _ in range(2 if is_read else 0):  # the address of the poll, and the mark
            yield self.clock.pause(costs.trip_ms * MS)
            yield shard.host.use(statement)
        yield self.clock.pause(costs.trip_ms * MS)
        yield shard.host.use(costs.commit_us * US)
        shard.release([key])
        yield shard.journal.flush


class Worker:
    """A process of the service."""

    def __init__(self, world: World, cpu: Process, batchers: "Sequence[Batcher]") -> None:
        self._world = world
        self.cpu = cpu
        self.batchers = batchers
        costs = world.costs
        handed = HAND_OVER_US if world.casters else 0.0
        self._half = (costs.vote_us + handed) / 2 * US

    def receive(self, vote: Vote) -> None:
        batcher = self.batchers[vote.session % len(self.batchers)]
        self.cpu.take(self._half, partial(batcher.submit, vote))

    def answer(self, votes: Sequence[Vote], *, is_stored: bool) -> None:
        """In pieces, between which the driver's thread may have its turn."""
        size = max(int(SWITCH_SECONDS / self._half), 1) if self._half else len(votes)
        for begin in range(0, len(votes), size):
            piece = votes[begin : begin + size]
            told = partial(self._tell, piece, is_stored=is_stored)
            self.cpu.take(self._half * len(piece), told)

    def _tell(self, votes: Sequence[Vote], *, is_stored: bool) -> None:
        for vote in votes:
            self._world.answer(vote, is_stored=is_stored)


class Batcher:
    """``Ballots.cast``: one batch in flight, each a transaction; ``owner`` is that of tallies."""

    def __init__(self, world: World, cpu: Process, owner: int, turn: Turn) -> None:
        self._world = world
        self._clock = world.clock
        self._costs = world.costs
        self._cpu = cpu
        self.owner = owner
        self._turn = turn
        self._queue: deque[Vote] = deque()
        self._is_busy = False
        self._known = KnownSessions()
        handed = HAND_OVER_US if world.casters else 0.0
        self._encode = (world.costs.encode_us + handed) * US

    def submit(self, vote: Vote) -> None:
        if len(self._queue) >= MAX_WAITING:
            vote.worker.answer([vote], is_stored=False)
            return
        self._queue.append(vote)
        if not self._is_busy:
            self._is_busy = True
            start(self._send())

    def _send(self) -> Steps:
        while self._queue:
            yield self._turn.take(self._cpu)
            if batch := self._take():
                yield from self._cast_all(batch)
            self._turn.end(self._cpu)
        self._is_busy = False

    def _take(self) -> list[Vote]:
        batch: list[Vote] = []
        while self._queue and len(batch) < MAX_BATCH:
            vote = self._queue.popleft()
            if self._clock.now - vote.came > ROUND_TRIP_SECONDS:
                vote.worker.answer([vote], is_stored=False)
            else:
                batch.append(vote)
        return batch

    def _cast_all(self, batch: list[Vote]) -> Steps:
        by_session: dict[int, list[Vote]] = {}
        for vote in batch:
            by_session.setdefault(vote.session, []).append(vote)
        limit = MAX_CONFLICTS if len(by_session) > 1 else None
        is_stored = yield from self._cast(by_session, limit)
        if is_stored is None:
            yield from self._cast_apart(by_session)
            return
        if not is_stored:
            came_before = self._clock.now - SHARED_FATE_SECONDS
            while self._queue and self._queue[0].came <= came_before:
                batch.append(self._queue.popleft())
        self._settle(batch, is_stored=is_stored)

    def _cast_apart(self, by_session: Mapping[int, list[Vote]]) -> Steps:
        """The votes of each session in a transaction of their own, some at a time."""
        stored: list[Vote] = []
        refused: list[Vote] = []
        left = deque(by_session.items())

        def some() -> Steps:
            while left:
                session, votes = left.popleft()
                self._world.outcome.alone += 1
                is_stored = yield from self._cast({session: votes}, None)
                (stored if is_stored else refused).extend(votes)

        yield together([partial(start, some()) for _ in range(min(MAX_APART, len(left)))])
        self._settle(stored, is_stored=True)
        self._settle(refused, is_stored=False)

    def _settle(self, votes: Sequence[Vote], *, is_stored: bool) -> None:
        """The next batch is taken next; its thread then waits while the loop tells the callers."""
        by_worker: dict[int, list[Vote]] = {}
        for vote in votes:
            by_worker.setdefault(id(vote.worker), []).append(vote)
        for some in by_worker.values():
            some[0].worker.answer(some, is_stored=is_stored)

    def _cast(self, votes: Mapping[int, list[Vote]], limit: int | None) -> Steps:
        """True if they are stored, False if time is up, None after ``limit`` conflicts."""
        is_read = self._known.find(list(votes)) is None
        return (yield from self._transaction(votes, limit, is_read=is_read))

    def _transaction(
        self, votes: Mapping[int, list[Vote]], limit: int | None, *, is_read: bool
    ) -> Steps:
        deadline = self._clock.now + ROUND_TRIP_SECONDS
        runs = 0
        while True:
            is_stored = yield from self._attempt(votes, is_read=is_read)
            if is_stored:
                self._turn.end(self._cpu)
                self._world.outcome.batches += 1
                return True
            self._world.outcome.retries += 1
            runs += 1
            if runs == limit:
                return None
            if self._clock.now + BACKOFF_SECONDS[1] >= deadline:
                return False
            yield self._clock.pause(self._world.random.uniform(*BACKOFF_SECONDS))

    def _attempt(self, votes: Mapping[int, list[Vote]], *, is_read: bool) -> Steps:
        costs = self._costs
        held: dict[Shard, list[Key]] = {}
        ballots: Counter[Shard] = Counter()
        for session, some in votes.items():
            home = self._world.shard_of(session)
            held.setdefault(home, []).append((session, self.owner))
            if self._world.scenario.is_spread:
                shards = self._world.shards
                share, rest = divmod(len(some), len(shards))
                for place, shard in enumerate(shards):
                    ballots[shard] += share + (place < rest)
            else:
                ballots[home] += len(some)
        ballots = +ballots
        since = self._clock.now
        if is_read:
            look_up = costs.lookup_us
            yield from self._statement({one: len(held[one]) * look_up for one in held})
            since = self._clock.now - costs.trip_ms * MS / 2
            self._known.keep(_documents(votes))
            yield from self._statement({one: count * look_up for one, count in ballots.items()})
        update = {one: len(keys) * costs.session_us for one, keys in held.items()}
        if not (yield from self._update(update, held, since if is_read else None)):
            return False
        count = sum(map(len, votes.values()))
        yield self._cpu.thread(self._encode * count)
        yield from self._statement({one: n * costs.ballot_us for one, n in ballots.items()})
        if is_read:
            yield from self._statement({next(iter(held)): costs.ballot_us})
        yield from self._commit(held, list(held | ballots))
        return True

    def _statement(self, work: Mapping[Shard, float]) -> Steps:
        """Work in µs beside what any statement costs, on each shard that it goes to."""
        costs = self._costs
        yield self._cpu.thread(costs.driver_us / 2 * US)
        yield self._clock.pause(costs.trip_ms / 2 * MS)
        yield together([one.host.use((costs.statement_us + us) * US) for one, us in work.items()])
        yield self._clock.pause(costs.trip_ms / 2 * MS)
        yield self._cpu.thread(costs.driver_us / 2 * US)

    def _update(
        self, work: Mapping[Shard, float], held: Mapping[Shard, list[Key]], since: float | None
    ) -> Steps:
        """Whether no session was in conflict; if one was, nothing is held, and it was told."""
        costs = self._costs
        claimed: list[Shard] = []

        def claim(shard: Shard) -> None:
            if shard.claim(held[shard], self._clock.now if since is None else since):
                claimed.append(shard)

        yield self._cpu.thread(costs.driver_us / 2 * US)
        yield self._clock.pause(costs.trip_ms / 2 * MS)
        yield together([partial(self._claim, shard, us, claim) for shard, us in work.items()])
        yield self._clock.pause(costs.trip_ms / 2 * MS)
        yield self._cpu.thread(costs.driver_us / 2 * US)
        if len(claimed) == len(held):
            return True
        yield self._clock.pause(costs.trip_ms / 2 * MS)
        abort = max(costs.conflict_us - costs.statement_us - costs.session_us, 0.0)
        yield together([one.host.use(abort * US) for one in held])
        for shard in claimed:
            shard.release(held[shard])
        yield self._clock.pause(costs.trip_ms / 2 * MS)
        return False

    def _claim(self, shard: Shard, us: float, claim: Callable[[Shard], None], then: Then) -> None:
        def ended() -> None:
            claim(shard)
            then()

        shard.host.take((self._costs.statement_us + us) * US, ended)

    def _commit(self, held: Mapping[Shard, list[Key]], shards: Sequence[Shard]) -> Steps:
        """Documents are free once the commit is done; the answer waits for the majority.

        Over several shards, the coordinator stores who takes part, all prepare, and it stores the
        decision: each waits for a majority, and documents are held until all have been told.
        """
        costs, pause = self._costs, self._clock.pause
        trip = costs.trip_ms * MS
        work = [one.host.use(costs.commit_us * US) for one in shards]
        yield self._cpu.thread(costs.driver_us / 2 * US)
        yield pause(trip / 2)
        if len(shards) > 1:
            coordinator = shards[0].journal
            yield coordinator.flush
            yield pause(trip / 2)
            yield together(work)
            yield together([one.journal.flush for one in shards])
            yield pause(trip / 2)
            yield coordinator.flush
            yield pause(trip / 2)
        yield together(work)
        for shard, keys in held.items():
            shard.release(keys)
        yield together([one.journal.flush for one in shards])
        yield pause(trip / 2)
        yield self._cpu.thread(costs.driver_us / 2 * US)


def _documents(sessions: Collection[int]) -> list[SessionDocument]:
    """As much of sessions as ``KnownSessions`` looks at."""
    found: list[dict[str, Any]] = [
        {"_id": number, "course_id": None, "container": "", "poll_id": str(number)}
        for number in sessions
    ]
    return cast(list[SessionDocument], found)


def simulate(scenario: Scenario) -> Outcome:
    return World(scenario).run()
