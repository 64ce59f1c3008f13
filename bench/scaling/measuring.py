"""``--measure``: the unit costs on this machine, in under two minutes.

Minima of many short rounds, so that it also runs on a machine that has other work.
"""

import secrets
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pymongo
from pymongo import InsertOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from bench.processes import Process
from bench.scaling.costs import COSTS, Costs
from bench.scaling.nodes import Nodes, replica_set
from storage.indexes import INDEXES

Document = dict[str, Any]
Run = Callable[[ClientSession], None]
ROUNDS = 16
ROUND_SECONDS = 0.25
SESSIONS = 101
BATCH = 250
US = 1e6


@dataclass(frozen=True, slots=True)
class Kind:
    """What is done in a transaction, and whether it is committed."""

    work: Run
    is_committed: bool = True


class Server:
    """A client of a set of nodes, with the collections and indexes that casting writes."""

    def __init__(self, nodes: Nodes) -> None:
        self._client = pymongo.MongoClient[Document](nodes.uri)
        self._nodes = nodes.processes
        concern = pymongo.WriteConcern("majority", j=True)
        self.database = self._client.get_database("polls", write_concern=concern)
        for name in ("sessions", "ballots", "attempts"):
            self.database.create_collection(name)
            if INDEXES[name]:
                self.database[name].create_indexes(INDEXES[name])
        self.database.sessions.insert_many([_session(number) for number in range(SESSIONS)])

    def close(self) -> None:
        self._client.close()

    @property
    def primary(self) -> Process:
        return self._nodes[0]

    @property
    def secondary(self) -> Process:
        return self._nodes[-1]

    def transact(self, work: Run, *, is_committed: bool = True) -> float:
        """One transaction as ``storage/client/`` makes them; the seconds of its commit."""
        with self._client.start_session() as session:
            session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=pymongo.WriteConcern("majority", j=True),
            )
            work(session)
            began = time.perf_counter()
            if is_committed:
                session.commit_transaction()
            else:
                session.abort_transaction()
            return time.perf_counter() - began

    def update(self, session: ClientSession, numbers: range) -> None:
        """Sessions as known: the query holds what a decision depends on."""
        self.database.sessions.bulk_write(
            [
                UpdateOne(
                    {key: value for key, value in _session(number).items() if key != "results"},
                    {"$inc": {"results.3": 1, "casts": 1}},
                )
                for number in numbers
            ],
            session=session,
        )

    def insert(self, session: ClientSession, count: int) -> None:
        ballots: list[InsertOne[Document]] = [InsertOne(_ballot()) for _ in range(count)]
        self.database.ballots.bulk_write(ballots, session=session)

    def look_up(self, session: ClientSession, count: int) -> None:
        wanted = [secrets.token_hex(16) for _ in range(count)]
        query = {"_id": {"$in": wanted}}
        list(self.database.ballots.find(query, batch_size=count + 1, session=session))

    def oplog_bytes(self) -> int:
        stats = self._client.local.command("collStats", "oplog.rs")
        return int(stats["size"])


def _session(number: int) -> Document:
    settings = dict.fromkeys(("allowRevote", "allowComment", "saveParticipantNames"), False)
    return {
        "_id": number,
        "is_published": True,
        "rules": {"options": [str(one) for one in range(1, 6)], "settings": settings, "ends": None},
        "course_id": None,
        "results": {str(one): 0 for one in range(1, 6)},
    }


def _ballot() -> Document:
    now = datetime.now(UTC)
    return {
        "_id": f"1:{secrets.token_hex(16)}",
        "session_id": 1,
        "number": secrets.randbelow(2**53),
        "choices": ["3"],
        "comment": None,
        "user_id": None,
        "requests": [],
        "created_at": now,
        "updated_at": now,
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one run of a kind of transaction: CPU of three processes, and its times."""

    client_us: float
    primary_us: float
    secondary_us: float
    whole_ms: float
    end_ms: float
    runs: int


def _cpu_seconds(process: Process) -> float:
    """Exactly: ``/proc`` counts in hundredths of a second. See ``clock_getcpuclockid(3)``."""
    return time.clock_gettime(~process.pid << 3 | 2)


def _round(server: Server, kind: Kind, seconds: float) -> Seen:
    whole: list[float] = []
    ends: list[float] = []
    watched = server.primary, server.secondary
    before = [time.process_time(), *map(_cpu_seconds, watched)]
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        ends.append(server.transact(kind.work, is_committed=kind.is_committed))
        whole.append(time.perf_counter() - began)
    after = [time.process_time(), *map(_cpu_seconds, watched)]
    client, primary, secondary = (
        (new - old) / len(whole) * US for old, new in zip(before, after, strict=True)
    )
    return Seen(
        client_us=client,
        primary_us=primary,
        secondary_us=secondary,
        whole_ms=statistics.median(whole) * 1e3,
        end_ms=statistics.median(ends) * 1e3,
        runs=len(whole),
    )


def _least(server: Server, kinds: Mapping[str, Kind]) -> dict[str, Seen]:
    """Of many short rounds, all kinds in turn, the least of each figure: the least disturbed."""
    seen: dict[str, list[Seen]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, kind in kinds.items():
            seen[name].append(_round(server, kind, ROUND_SECONDS))
    return {
        name: Seen(*(min(getattr(one, figure) for one in rounds) for figure in Seen.__slots__))
        for name, rounds in seen.items()
    }


def measure() -> Costs:
    """Those of the database and the driver; what a worker costs, ``comparing`` measures."""
    with replica_set(1) as nodes, closing(Server(nodes)) as server:
        costs = _cpu(server)
    with replica_set(3) as nodes, closing(Server(nodes)) as server:
        return _majority(server, costs)


def _cpu(server: Server) -> Costs:
    """Differences of transactions that differ in one thing."""
    seen = _least(
        server,
        {
            "a read": Kind(partial(_reads, server, 1, 1), is_committed=False),
            "11 reads": Kind(partial(_reads, server, 11, 1), is_committed=False),
            "a large read": Kind(partial(_reads, server, 1, BATCH + 1), is_committed=False),
            "an update": Kind(partial(_writes, server, 1, 0)),
            "updates": Kind(partial(_writes, server, SESSIONS, 0)),
            "a ballot": Kind(partial(_writes, server, 1, 1)),
            "ballots": Kind(partial(_writes, server, 1, BATCH + 1)),
        },
    )

    def step(few: str, many: str, figure: str, count: int) -> float:
        more, less = (float(getattr(seen[name], figure)) for name in (many, few))
        return (more - less) / count

    statement = step("a read", "11 reads", "primary_us", 10)
    driver = step("a read", "11 reads", "client_us", 10)
    trip = step("a read", "11 reads", "whole_ms", 10) - (statement + driver) / 1e3
    session = step("an update", "updates", "primary_us", SESSIONS - 1)
    commit = seen["an update"].primary_us - statement - session
    return replace(
        COSTS,
        driver_us=driver,
        encode_us=step("a ballot", "ballots", "client_us", BATCH),
        trip_ms=max(trip, 0.0),
        statement_us=statement,
        lookup_us=step("a read", "a large read", "primary_us", BATCH),
        session_us=session,
        ballot_us=step("a ballot", "ballots", "primary_us", BATCH),
        commit_us=commit,
        journal_ms=max(seen["a ballot"].end_ms - trip - (driver + commit) / 1e3, 0.0),
        conflict_us=_conflict_us(server),
    )


def _reads(server: Server, count: int, size: int, session: ClientSession) -> None:
    for _ in range(count):
        server.look_up(session, size)


def _writes(server: Server, sessions: int, ballots: int, session: ClientSession) -> None:
    server.update(session, range(sessions))
    if ballots:
        server.insert(session, ballots)


def _conflict_us(server: Server) -> float:
    """Of updates of a session that another transaction holds, and their aborts."""

    def refused(session: ClientSession) -> None:
        with suppress(OperationFailure):
            server.update(session, range(1))
            raise AssertionError("it did not conflict")

    seen: list[Seen] = []

    def hold(session: ClientSession) -> None:
        server.update(session, range(1))
        seen.append(_least(server, {"": Kind(refused, is_committed=False)})[""])

    server.transact(hold, is_committed=False)
    return seen[0].primary_us


def _majority(server: Server, costs: Costs) -> Costs:
    begin = server.oplog_bytes()
    batch = Kind(partial(_writes, server, 1, BATCH + 1))
    runs = _round(server, batch, ROUND_SECONDS).runs
    size = (server.oplog_bytes() - begin) / runs / (BATCH + 1)
    seen = _least(server, {"a ballot": Kind(partial(_writes, server, 1, 1)), "ballots": batch})
    one, many = seen["a ballot"], seen["ballots"]
    return replace(
        costs,
        majority_ms=one.end_ms - costs.trip_ms - (costs.driver_us + costs.commit_us) / 1e3,
        apply_us=(many.secondary_us - one.secondary_us) / BATCH,
        oplog_bytes=size,
    )
