"""Which sessions change, told without a gap whatever happens to the stream of changes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import pytest
from pymongo.change_stream import ChangeStream
from pymongo.errors import AutoReconnect, OperationFailure

from storage import changes
from storage.errors import Unavailable
from storage.store import Store
from tests.conftest import Client, Raw
from tests.storage.test_faults import failing
from tests.support.casting import answered, content_run, vote
from tests.support.seeds import Json
from tests.support.watching import of_content, watching

HISTORY_LOST: Json = {"errorCode": 286}
"""As after an outage that was longer than the oplog: the driver cannot go on by itself."""
LOST_CONNECTION: Json = {"closeConnection": True}


async def told(store: Store) -> set[int] | None:
    async with asyncio.timeout(10):
        return await store.changes.next()


async def test_each_change_of_a_session_is_told_by_its_number(store: Store, raw: Raw) -> None:
    raw.sessions.insert_one({"_id": 1})
    await store.changes.open()
    await store.changes.open()
    raw.containers.insert_one({"_id": "elsewhere"})
    for change in (
        lambda: raw.sessions.insert_one({"_id": 2}),
        lambda: raw.sessions.update_one({"_id": 2}, {"$set": {"casts": 1}}),
        lambda: raw.sessions.delete_one({"_id": 2}),
    ):
        change()
        assert await told(store) == {2}
    store.changes.close()


async def test_where_the_stream_cannot_go_on_any_session_may_have_changed(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "BACKOFF_SECONDS", (0.01, 0.01))
    await store.changes.open()
    with failing(raw, ["getMore"], HISTORY_LOST):
        assert await told(store) is None
    await is_told_again(store, raw)


async def is_told_again(store: Store, raw: Raw) -> None:
    for number in count(1):
        raw.sessions.insert_one({"_id": number})
        # The fault may have broken more than one stream, and then that is told again.
        if (changed := await told(store)) is not None:
            break
    assert changed == {number}
    store.changes.close()


async def test_a_stream_that_breaks_for_no_reason_of_the_database_is_opened_afresh(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(_: object) -> None:
        raise RuntimeError("dictionary changed size during iteration")

    await store.changes.open()
    with monkeypatch.context() as broken:
        broken.setattr(ChangeStream, "try_next", break_off)
        assert await told(store) is None
    await is_told_again(store, raw)


async def test_a_stream_that_cannot_be_opened_is_unavailable(store: Store, raw: Raw) -> None:
    with failing(raw, ["aggregate"], {"errorCode": 13}), pytest.raises(Unavailable):
        await store.changes.open()
    await store.changes.open()
    store.changes.close()


@contextmanager
def killed(raw: Raw) -> Iterator[None]:
    with suppress(AutoReconnect, OperationFailure):  # it ends the session that asks for it, too
        raw.client.admin.command("killAllSessions", [])
    yield


WAYS: dict[str, Any] = {
    "killed": killed,
    "lost connections": lambda raw: failing(raw, ["getMore", "aggregate"], LOST_CONNECTION),
    "history lost": lambda raw: failing(raw, ["getMore", "aggregate"], HISTORY_LOST),
    "a database that is away": lambda raw: failing(
        raw, ["getMore", "aggregate", "find"], LOST_CONNECTION
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
async def test_no_vote_is_missed_while_changes_cannot_be_followed(
    api: Client, raw: Raw, way: Any
) -> None:
    run = await content_run(api, raw)
    async with watching(api, of_content(run)) as stream:
        assert (await stream.results())["results"]["participants"] == 0
        with way(raw):
            counted = {"$inc": {"participants": 1, "results.1": 1}}
            raw.sessions.update_one({"_id": run.session}, counted)
            await asyncio.sleep(0.6)  # for a request that waits for changes to be answered
        while (await stream.results())["results"]["participants"] < 1:
            pass
        await answered(await vote(api, run, "1", acting=1))
        while (await stream.results())["results"]["participants"] < 2:
            pass
