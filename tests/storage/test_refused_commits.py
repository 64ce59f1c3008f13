"""A commit that is refused must not leave its transaction open: it would hold what it wrote."""

from typing import Any

import pymongo
import pytest

from storage.client import Database, Transaction, transaction_runner
from storage.indexes import ensure_indexes
from tests.conftest import Raw
from tests.support.processes import failing


async def test_after_a_refused_commit_the_next_run_does_not_meet_the_first(
    mongodb_uri: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that happens to use the same server session again would end the transaction."""
    database = await Database.connect(mongodb_uri)
    await ensure_indexes(database)
    counters = database.collection("meta")
    await counters.insert_one({"_id": "counter", "n": 0})
    admin: pymongo.MongoClient[Any] = raw.client
    held: list[Any] = []
    pause = transaction_runner._pause

    async def pause_while_others_use_the_session() -> None:
        held.append(await database._client.start_session())
        await counters.find_one({"_id": "counter"}, session=held[-1])
        await pause()

    def work(transaction: Transaction) -> None:
        transaction.update("meta", {"_id": "counter"}, {"$inc": {"n": 1}})

    monkeypatch.setattr(transaction_runner, "_pause", pause_while_others_use_the_session)
    with failing(admin, {"times": 1}, failCommands=["commitTransaction"], errorCode=24):
        await database.transaction(work)
    stored = raw.meta.find_one({"_id": "counter"})
    assert stored is not None
    assert stored["n"] == 1
    for session in held:
        await session.end_session()
    database.close()
