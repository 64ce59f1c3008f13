"""Idempotency-Keys of votes are gone 24 hours after they were sent, whether or not anyone votes."""

import asyncio
import time
from typing import Any

import pytest

from service.web.store_key import STORE
from storage import keys
from storage.keys import SWEEP_EVERY, Keys
from storage.store import Store
from tests.conftest import Client, Clock, Raw
from tests.support.casting import Run, answered, content_run, tally, vote

GONE_SECONDS = 20.0


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOOK_SECONDS", 0.02)


def kept(raw: Raw) -> list[list[dict[str, Any]]]:
    """The keys of every ballot and of every withdrawn vote."""
    return [one["requests"] for name in ("ballots", "idempotency") for one in raw[name].find()]


async def forgotten(raw: Raw) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while any(kept(raw)) or raw.idempotency.count_documents({"requests": []}):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def two_votes(api: Client, raw: Raw, *, named: bool) -> Run:
    """One that stands, and one that was withdrawn, each with a key."""
    run = await content_run(api, raw, allowRevote=True, saveParticipantNames=named)
    await answered(await vote(api, run, "1", key="of the one", acting=7))
    await answered(await vote(api, run, "1", key="of the other", acting=8))
    await answered(await api.delete("/rest", params={**run.votes, "as_user_id": "8"}))
    return run


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
async def test_the_service_forgets_keys_after_24_hours_and_none_before(
    api: Client, raw: Raw, clock: Clock, named: bool
) -> None:
    run = await two_votes(api, raw, named=named)
    before = kept(raw)
    assert [len(one) for one in before] == [1, 1]
    [ballot] = raw.ballots.find({}, {"requests": 0})
    clock.advance(hours=24, seconds=-1)
    await api.app[STORE].keys.forget()
    assert kept(raw) == before
    assert (await vote(api, run, "1", key="of the other", acting=8)).status == 409
    clock.advance(seconds=1)
    raw.meta.delete_one({"_id": "keys"})
    await forgotten(raw)
    assert raw.idempotency.count_documents({}) == 0
    assert list(raw.ballots.find({}, {"requests": 0})) == [ballot]
    await answered(await vote(api, run, "2", key="of the other", acting=8))
    assert tally(raw, run) == {"1": 1, "2": 1}


async def test_a_key_that_is_sent_again_while_the_old_one_is_forgotten_is_kept(
    api: Client, raw: Raw, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "1", key="k"))
    clock.advance(hours=24)
    store = api.app[STORE]
    ballots = store.database.collection("ballots")
    forgetting = Keys(store.database, b"", clock)
    # As if it had read the ballot before: with the key of yesterday.
    [before] = raw.ballots.find()
    await answered(await vote(api, run, "2", key="k"))
    raw.ballots.update_one({}, {"$push": {"requests": before["requests"][0]}})
    monkeypatch.setattr(keys, "is_expired", lambda one, *_: one == before["requests"][0])
    await forgetting._forget_in(ballots, clock())
    [after] = raw.ballots.find()
    assert len(after["requests"]) == 1
    assert after["requests"] != before["requests"]


async def test_of_all_processes_one_looks_at_a_time(store: Store, raw: Raw, clock: Clock) -> None:
    raw.meta.delete_one({"_id": "keys"})  # a service that has just stopped may have left it
    several = [Keys(store.database, b"", clock) for _ in range(3)]
    for _ in range(2):
        turns = await asyncio.gather(*(one.take_turn() for one in several))
        assert sorted(turns) == [False, False, True]
        clock.advance(seconds=SWEEP_EVERY.total_seconds() - 1)
        assert not await several[0].take_turn()
        clock.advance(seconds=1)


async def test_a_clock_that_was_far_ahead_does_not_put_work_off_for_years(
    store: Store, raw: Raw, clock: Clock
) -> None:
    raw.meta.delete_one({"_id": "keys"})
    ahead = Clock()
    ahead.advance(days=3650)
    assert await Keys(store.database, b"", ahead).take_turn()
    several = [Keys(store.database, b"", clock) for _ in range(3)]
    turns = await asyncio.gather(*(one.take_turn() for one in several))
    assert sorted(turns) == [False, False, True]
    # Clocks that differ a little still take turns.
    ahead.now = clock.now
    ahead.advance(seconds=SWEEP_EVERY.total_seconds() / 2)
    clock.advance(seconds=SWEEP_EVERY.total_seconds())
    assert await Keys(store.database, b"", ahead).take_turn() is False
    assert await several[0].take_turn()


async def test_votes_without_keys_are_not_looked_at(
    api: Client, raw: Raw, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1"))
    await answered(await vote(api, run, "1", key="k", acting=8))
    clock.advance(hours=25)
    looked: list[Any] = []
    monkeypatch.setattr(keys, "is_expired", lambda *of: looked.append(of))
    await api.app[STORE].keys.forget()
    assert len({ballot for _, _, ballot, _ in looked}) == 1
    plan = raw.ballots.find({"requests.at": {"$lte": clock()}}).explain()
    assert "COLLSCAN" not in str(plan)
