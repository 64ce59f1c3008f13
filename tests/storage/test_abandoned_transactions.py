"""Transactions of processes that were killed, on MongoDB, which keeps them open for a minute."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pymongo
import pytest
from pymongo.client_session import ClientSession

from storage.client import Database, Transaction, transaction_runner
from storage.embedded.engines import Mongod
from storage.embedded.server import start
from storage.errors import Unavailable
from storage.location import EngineChoice
from tests.support import engine

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    choice = EngineChoice(Mongod.name, engine.mongod_binary())
    server = start(tmp_path_factory.mktemp("mongod") / "data", choice)
    yield server.uri
    server.stop()


@pytest.fixture
async def database(uri: str) -> AsyncIterator[Database]:
    database = await Database.connect(uri)
    await database.ensure("counters", [])
    await database.ensure("attempts", [])
    counter = {"_id": "a", "n": 0}
    await database.collection("counters").replace_one({"_id": "a"}, counter, upsert=True)
    yield database
    database.close()


@contextmanager
def abandoned(uri: str, *, app_name: str = "polls") -> Iterator[ClientSession]:
    """A transaction that has written to the counter, of a process that sends nothing more."""
    with (
        pymongo.MongoClient[dict[str, Any]](uri, appname=app_name) as client,
        client.start_session() as session,
    ):
        session.start_transaction()
        client.get_default_database("polls").counters.update_one(
            {"_id": "a"}, {"$inc": {"n": 100}}, session=session
        )
        yield session


async def test_what_a_killed_process_left_open_does_not_hold_up_others_for_a_minute(
    database: Database, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_runner, "ABANDONED_SECONDS", 0.2)
    monkeypatch.setattr(transaction_runner, "CONFLICT_SECONDS", 0.1)
    async with database.snapshot() as snapshot:
        read = partial(Transaction.find_one, name="counters", query={})
        assert await snapshot.read(read) == {"_id": "a", "n": 0}
        with abandoned(uri):
            await database.transaction(
                lambda transaction: transaction.update("counters", {"_id": "a"}, {"$inc": {"n": 1}})
            )
        # The reader of a snapshot may be slow.
        assert await snapshot.read(read) == {"_id": "a", "n": 0}
    assert await database.collection("counters").find_one() == {"_id": "a", "n": 1}


@pytest.mark.parametrize("whose", ["of a process that works", "of another application"])
async def test_other_transactions_are_left_alone(
    database: Database, uri: str, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    is_other = whose == "of another application"
    monkeypatch.setattr(transaction_runner, "ABANDONED_SECONDS", 0.0 if is_other else 3.0)
    monkeypatch.setattr(transaction_runner, "CONFLICT_SECONDS", 0.1)
    with abandoned(uri, app_name="other" if is_other else "polls") as session:
        with pytest.raises(Unavailable):
            await database.transaction(
                lambda transaction: transaction.update(
                    "counters", {"_id": "a"}, {"$inc": {"n": 1}}
                ),
                seconds=0.5,
            )
        session.commit_transaction()
    assert await database.collection("counters").find_one() == {"_id": "a", "n": 100}
