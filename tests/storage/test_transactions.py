"""Transactions are applied exactly once, whatever happens between the service and the store."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pymongo
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern
from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect, ConfigurationError, OperationFailure
from pymongo.monitoring import CommandListener, CommandStartedEvent

from storage.client import (
    Database,
    DuplicateKeyError,
    Transaction,
    round_trip,
    round_trips,
    set_time_limit,
    transaction_runner,
)
from storage.errors import Conflict, Unavailable
from storage.indexes import ensure_indexes
from tests.conftest import Raw
from tests.support.fleet import eventually
from tests.support.processes import failing, slow

TRANSIENT = "TransientTransactionError"
NO_SUCH_TRANSACTION = 251
COMMANDS = ("find", "update", "insert", "commitTransaction")
FAULTS: dict[str, dict[str, Any]] = {
    "a write conflict": {"errorCode": 112, "errorLabels": [TRANSIENT]},
    "a lock that was given up": {"errorCode": 24, "errorLabels": [TRANSIENT]},
    "a lost connection": {"closeConnection": True},
    "a slow answer": {"blockConnection": True, "blockTimeMS": 100},
}
"""What a server says while it is primary; how it stops to be one is tried in test_elections.py."""


@pytest.fixture
async def database(mongodb_uri: str) -> AsyncIterator[Database]:
    database = await Database.connect(mongodb_uri)
    await ensure_indexes(database)
    for name in ("counters", "entries"):
        await database.ensure(name, [])
    await database.collection("counters").insert_one({"_id": "a", "n": 0})
    yield database
    database.close()


@pytest.fixture
def admin(raw: Raw) -> pymongo.MongoClient[dict[str, Any]]:
    return raw.client


class Work:
    """Reads, changes one document and adds another: applied whole, or not at all."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, transaction: Transaction) -> int:
        self.runs += 1
        counter = transaction.find_one("counters", {"_id": "a"})
        assert counter is not None
        n: int = counter["n"] + 1
        transaction.update("counters", {"_id": "a"}, {"$set": {"n": n}})
        transaction.insert("entries", {"n": n})
        return n


def applied(raw: Raw) -> int:
    """How often it was applied; fails where a part of it was, or the mark is missing."""
    counter = raw.counters.find_one({"_id": "a"})
    assert counter is not None
    entries = sorted(entry["n"] for entry in raw.entries.find())
    assert entries == list(range(1, counter["n"] + 1))
    assert raw.attempts.count_documents({}) == len(entries)
    return len(entries)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_passes_is_no_concern_of_the_caller_and_the_work_is_done_once(
    database: Database,
    raw: Raw,
    admin: pymongo.MongoClient[Any],
    command: str,
    fault: str,
) -> None:
    with failing(admin, {"times": 1}, failCommands=[command], **FAULTS[fault]):
        assert await database.transaction(Work()) == 1
    assert applied(raw) == 1


@pytest.mark.parametrize("command", ["insert", "commitTransaction"])
async def test_several_lost_connections_do_not_matter(
    database: Database, raw: Raw, admin: pymongo.MongoClient[Any], command: str
) -> None:
    with failing(admin, {"times": 3}, failCommands=[command], closeConnection=True):
        assert await database.transaction(Work()) == 1
    assert applied(raw) == 1


def commits(monkeypatch: pytest.MonkeyPatch, failures: Iterator[str]) -> None:
    """Lets commits fail: ``stored`` and ``lost`` after the fact, ``aborted`` before it."""
    commit = ClientSession.commit_transaction

    def fail(session: ClientSession) -> None:
        failure = next(failures, "")
        if failure == "aborted":
            session.abort_transaction()
        else:
            commit(session)
        if failure == "lost":
            raise AutoReconnect("connection closed")
        if failure:
            answer = {"ok": 0, "code": NO_SUCH_TRANSACTION, "errorLabels": [TRANSIENT]}
            raise OperationFailure("no such transaction", NO_SUCH_TRANSACTION, answer)

    monkeypatch.setattr(ClientSession, "commit_transaction", fail)


@pytest.mark.parametrize("failures", [["stored"], ["lost"], ["lost", "stored"], ["lost"] * 5])
async def test_a_stored_commit_with_a_wrong_answer_is_a_success_and_not_done_again(
    database: Database,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    failures: list[str],
) -> None:
    commits(monkeypatch, iter(failures))
    work = Work()
    assert await database.transaction(work) == 1
    assert work.runs == 1
    assert applied(raw) == 1


async def test_a_commit_that_was_not_stored_is_done_again(
    database: Database, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits(monkeypatch, iter(["aborted", "aborted"]))
    work = Work()
    assert await database.transaction(work) == 1
    assert work.runs == 3
    assert applied(raw) == 1


async def test_a_commit_whose_outcome_nobody_can_say_is_reported_as_such(
    database: Database, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_runner, "OUTCOME_SECONDS", 0.3)
    commits(monkeypatch, iter(["lost"] * 1000))
    work = Work()
    with pytest.raises(Unavailable, match="not known yet whether the change was stored"):
        await database.transaction(work)
    assert work.runs == 1
    assert applied(raw) == 1


async def test_a_mark_that_cannot_be_read_for_a_while_is_asked_for_again(
    database: Database,
    raw: Raw,
    admin: pymongo.MongoClient[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commits(monkeypatch, iter(["stored"]))

    def work(transaction: Transaction) -> None:
        """Finds nothing, so that the next find is that of the mark."""
        transaction.insert("entries", {"n": 1})

    with failing(admin, {"times": 2}, failCommands=["find"], closeConnection=True):
        await database.transaction(work)
    assert raw.entries.count_documents({}) == 1


async def test_a_caller_that_is_cancelled_does_not_end_the_session_under_the_thread(
    database: Database, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, begun, goes_on = Work(), asyncio.Event(), threading.Event()
    loop, done, abort = asyncio.get_running_loop(), list[str](), transaction_runner._abort

    def wait(transaction: Transaction) -> None:
        work(transaction)
        loop.call_soon_threadsafe(begun.set)
        assert goes_on.wait(10)
        done.append("the work")

    def note_abort(*arguments: Any) -> None:
        done.append("the abort")
        abort(*arguments)

    monkeypatch.setattr(transaction_runner, "_abort", note_abort)
    running = asyncio.create_task(database.transaction(wait))
    await begun.wait()
    running.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done == ["the work", "the abort"]
    assert applied(raw) == 1  # it was sent, and so it is stored; but whole


@pytest.mark.parametrize("raised", [Conflict("no"), ValueError("no")])
async def test_what_the_work_raises_ends_the_transaction_and_nothing_is_stored(
    database: Database, raw: Raw, raised: BaseException
) -> None:
    work = Work()

    def broken(transaction: Transaction) -> None:
        work(transaction)
        raise raised

    with pytest.raises(type(raised)):
        await database.transaction(broken)
    assert work.runs == 1
    assert applied(raw) == 0
    started = time.monotonic()
    raw.counters.update_one({"_id": "a"}, {"$set": {"m": 1}})  # no lock was left behind
    assert time.monotonic() - started < 1


async def test_a_duplicate_is_the_caller_s_to_decide_on(database: Database, raw: Raw) -> None:
    raw.entries.insert_one({"_id": "there"})

    def work(transaction: Transaction) -> None:
        transaction.insert("counters", {"_id": "b"})
        transaction.insert("entries", {"_id": "there"})

    with pytest.raises(DuplicateKeyError):
        await database.transaction(work)
    assert raw.counters.count_documents({"_id": "b"}) == 0


@pytest.mark.parametrize("limits", [(0.5, 0.5), (60.0, 1.5)])
async def test_endless_conflicts_end_in_time(
    database: Database,
    raw: Raw,
    admin: pymongo.MongoClient[Any],
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[float, float],
) -> None:
    """The time for the statements is 4 s, within what the request has left; here 1.5."""
    seconds, used = limits
    assert round_trips.ROUND_TRIP_SECONDS == 4
    monkeypatch.setattr(round_trips, "ROUND_TRIP_SECONDS", 1.5)
    work = Work()
    started = time.monotonic()
    set_time_limit(seconds)
    with (
        failing(admin, failCommands=["insert"], errorCode=112, errorLabels=[TRANSIENT]),
        pytest.raises(Unavailable),
    ):
        await database.transaction(work)
    assert used - 0.2 < time.monotonic() - started < used + 0.5
    # Between two runs it rests: 5 ms at the least.
    assert 5 < work.runs < used / 0.005
    assert applied(raw) == 0


@pytest.mark.parametrize("command", ["find", "update", "insert"])
async def test_a_store_that_hangs_is_waited_for_within_the_time_limit(
    database: Database, raw: Raw, admin: pymongo.MongoClient[Any], command: str
) -> None:
    started = time.monotonic()
    set_time_limit(0.4)
    with slow(admin, command, 2000), pytest.raises(Unavailable):
        await database.transaction(Work())
    assert time.monotonic() - started < 1.4
    assert applied(raw) == 0


async def test_the_time_limit_is_for_all_round_trips_together(
    database: Database, admin: pymongo.MongoClient[Any]
) -> None:
    started = time.monotonic()
    set_time_limit(0.3)
    with slow(admin, "find", 2000):
        with pytest.raises(Unavailable), round_trip():
            await database.collection("counters").find_one({})
        with pytest.raises(Unavailable):
            await database.transaction(Work())
        # Here, since MongoDB lets go of the failpoint only when nobody waits in it.
        assert time.monotonic() - started < 1.2


async def test_a_commit_that_was_sent_is_not_cut_short_by_the_time_limit(
    database: Database, raw: Raw, admin: pymongo.MongoClient[Any]
) -> None:
    set_time_limit(0.5)
    with slow(admin, "commitTransaction", 600):
        assert await database.transaction(Work()) == 1
    assert applied(raw) == 1


async def test_a_caller_answered_before_its_commit_is_told_that_the_outcome_is_not_known(
    database: Database, raw: Raw, admin: pymongo.MongoClient[Any]
) -> None:
    started = time.monotonic()
    set_time_limit(0.3)
    with slow(admin, "commitTransaction", 1500):
        with pytest.raises(Unavailable, match="not known yet whether the change was stored"):
            await database.transaction(Work())
        assert time.monotonic() - started < 1.2
    await eventually(lambda: not database._transactions._unanswered)
    assert applied(raw) == 1


async def test_the_outcome_of_a_commit_is_asked_for_when_its_caller_has_gone(
    database: Database, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits(monkeypatch, iter(["lost"] * 40))
    work = Work()
    set_time_limit(0.2)
    with pytest.raises(Unavailable, match="not known yet whether the change was stored"):
        await database.transaction(work)
    await eventually(lambda: not database._transactions._unanswered)
    assert work.runs == 1
    assert applied(raw) == 1


async def test_of_two_transactions_that_cross_no_update_is_lost(
    database: Database, raw: Raw
) -> None:
    for _ in range(20):
        have_read = threading.Barrier(2)
        works = [Crossing(have_read) for _ in range(2)]
        await asyncio.gather(*map(database.transaction, works))
        assert sum(work.runs for work in works) > 2  # they did cross
    assert applied(raw) == 40


class Crossing(Work):
    """Waits, in its first run, until the other has read too."""

    def __init__(self, have_read: threading.Barrier) -> None:
        super().__init__()
        self._have_read = have_read

    def __call__(self, transaction: Transaction) -> int:
        if self.runs == 0:
            transaction.find_one("counters", {"_id": "a"})
            self._have_read.wait(10)
        return super().__call__(transaction)


class Heard(CommandListener):
    def __init__(self) -> None:
        self.commands: list[tuple[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append((event.command_name, event.command))

    def succeeded(self, event: object) -> None:
        """Nothing to note."""

    def failed(self, event: object) -> None:
        """Nothing to note."""

    def of(self, name: str) -> Any:
        return [command for said, command in self.commands if said == name]


async def test_what_is_answered_is_on_the_disks_of_a_majority(
    mongodb_uri: str,
) -> None:
    heard = Heard()
    client: Any = AsyncIOMotorClient(mongodb_uri, event_listeners=[heard], tz_aware=True)
    watched = Database(client, client.get_default_database().name)
    await ensure_indexes(watched)
    await watched.collection("counters").insert_one({"_id": "a", "n": 0})
    try:
        assert watched.collection("tokens").write_concern == WriteConcern("majority", j=True)
        await watched.transaction(Work())
        await watched.transaction(lambda transaction: transaction.next_number("polls"))
    finally:
        client.close()
    first, *_ = heard.of("find")
    assert first["startTransaction"] is True
    assert first["readConcern"]["level"] == "snapshot"
    sent, [number] = heard.of("commitTransaction"), heard.of("findAndModify")
    assert len(sent) == 2
    assert "autocommit" not in number  # it waits for no transaction, and none for it
    for command in (*sent, number):
        assert command["writeConcern"] == {"w": "majority", "j": True}


async def taken(database: Database, sequence: str) -> int:
    return await database.transaction(lambda transaction: transaction.next_number(sequence))


async def test_a_hundred_numbers_taken_at_once_are_1_to_100(database: Database) -> None:
    assert await taken(database, "polls") == 1
    numbers = await asyncio.gather(*(taken(database, "polls") for _ in range(99)))
    assert sorted(numbers) == list(range(2, 101))
    assert await taken(database, "sessions") == 1


async def test_the_first_numbers_of_all_are_unique_with_gaps_at_most(database: Database) -> None:
    for name in map(str, range(10)):
        numbers = await asyncio.gather(*(taken(database, name) for _ in range(100)))
        assert len(set(numbers)) == 100
        assert min(numbers) >= 1


@pytest.mark.parametrize("times", [1, 1000])
async def test_a_node_that_is_about_to_rejoin_its_replica_set_is_tried_again_or_unavailable(
    database: Database, raw: Raw, times: int
) -> None:
    """PyMongo says of such a node that its deployment has no sessions."""
    set_time_limit(0.5)
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        if runs <= times:
            raise ConfigurationError("Sessions are not supported by this MongoDB deployment")
        transaction.insert("entries", {"_id": "stored"})

    if times == 1:
        await database.transaction(work)
    else:
        with pytest.raises(Unavailable):
            await database.transaction(work)
    assert runs > 1
    assert raw.entries.count_documents({}) == int(times == 1)
