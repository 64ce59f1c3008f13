"""Each step of an erasure is whole: others go on after any of them, and nothing is doubled."""

import asyncio
from itertools import product
from typing import Any

import pytest

from service.web.store_key import STORE
from storage import erasures, handovers, user_data
from storage.audit import Action, Actor
from storage.documents import ErasureDocument, UserId
from storage.erasures import LEASE_SECONDS, SCAN_SECONDS, Erasures
from storage.store import Store
from tests.conftest import SECRET, Client, Clock, Raw
from tests.people.conftest import Live, counted_exactly
from tests.people.test_erasure import ANN, traces
from tests.support.casting import Run, answered, content_run, tally, vote
from tests.support.heard import Heard


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service of the tests erases nobody by itself."""
    monkeypatch.setattr(erasures, "LOOK_AGAIN_SECONDS", 3600.0)
    monkeypatch.setattr(Erasures, "run", asyncio.sleep)


def little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_data, "SESSIONS_AT_A_TIME", 1)
    monkeypatch.setattr(erasures, "VOTES_AT_A_TIME", 1)
    monkeypatch.setattr(handovers, "POLLS_AT_A_TIME", 1)


class Died(Exception):
    """A process ended."""


def process(store: Store, clock: Clock, *, steps: int | None = None) -> Erasures:
    """Another process that erases; it dies after so many steps."""
    access = store.erasures._access._replace(forget_tokens=lambda: None)
    ready = store.listings.require_filled
    other = Erasures(store.database, SECRET.encode(), access, ready, clock)
    if steps is not None:
        do = other._do
        left = [steps]

        async def dying(task: ErasureDocument, work: Any) -> ErasureDocument:
            after = await do(task, work)
            left[0] -= 1
            if not left[0]:
                raise Died
            return after

        other._do = dying  # type: ignore[method-assign] # dies where a real one could
    return other


@pytest.mark.parametrize("votes", ["anonymize", "withdraw"])
async def test_whatever_dies_after_each_step_others_go_on_and_every_count_is_exact_throughout(
    api: Client,
    raw: Raw,
    clock: Clock,
    live: Live,
    monkeypatch: pytest.MonkeyPatch,
    votes: Any,
) -> None:
    little_at_a_time(monkeypatch)
    store = api.app[STORE]
    life = await live(ANN)
    begun = await store.erasures.begin(ANN, votes)
    deaths = 0
    while "user_id" in (await store.erasures.get(begun["_id"])):
        assert await counted_exactly(api)
        with pytest.raises(Died):
            await process(store, clock, steps=1).erase_one()
        assert not await process(store, clock).erase_one()
        clock.advance(seconds=SCAN_SECONDS + LEASE_SECONDS)
        deaths += 1
    done = await store.erasures.get(begun["_id"])
    assert done["counts"] == {
        "enrollments": 2,
        "tokens": 2,
        "polls": 5,
        "votes": 5,
        "sessions": raw.sessions.count_documents({}) + raw.deleted_sessions.count_documents({}),
    }
    assert deaths > 15
    assert traces(raw, ANN) == []
    await answered(await api.post("/rest/restore", params={"pollId": life.gone.poll_id}))
    left = 1 if votes == "withdraw" else 2
    assert [sum(tally(raw, run).values()) for run in (*life.runs, life.gone)] == [left] * 5


async def test_a_process_whose_lease_another_has_taken_does_not_do_its_step(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    await answered(await vote(api, run, "1", acting=42))
    store = api.app[STORE]
    begun = await store.erasures.begin(42, "withdraw")
    slow = process(store, clock)
    do = slow._do
    taken: list[ErasureDocument] = []

    async def late(task: ErasureDocument, work: Any) -> ErasureDocument:
        if task["step"] == "votes" and not taken:
            clock.advance(seconds=LEASE_SECONDS)
            with pytest.raises(Died):
                await process(store, clock, steps=1).erase_one()
            taken.append(await store.erasures.get(begun["_id"]))
        return await do(task, work)

    slow._do = late  # type: ignore[method-assign] # slow where a real one could be
    assert await slow.erase_one() is True
    assert (taken[0]["counts"]["sessions"], taken[0]["counts"]["votes"]) == (1, 1)
    assert await store.erasures.get(begun["_id"]) == taken[0]
    assert tally(raw, run) == {}
    assert await counted_exactly(api)


async def test_a_process_that_looks_through_very_many_records_is_not_overtaken(
    api: Client, clock: Clock
) -> None:
    store = api.app[STORE]
    begun = await store.erasures.begin(42, "withdraw")
    slow = process(store, clock)
    look = slow._records_of
    others: list[bool] = []

    async def long(user_id: UserId) -> Any:
        clock.advance(seconds=SCAN_SECONDS)
        others.append(await process(store, clock).erase_one())
        return await look(user_id)

    slow._records_of = long  # type: ignore[method-assign] # as slow as a real one may be
    await slow.erase_one()
    assert others == [False]
    assert (await store.erasures.get(begun["_id"]))["step"] is None


async def test_records_are_looked_through_once_however_long_the_audit_is(
    heard: Heard, api: Client, raw: Raw, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasures, "RECORDS_AT_A_TIME", 2)
    store = api.app[STORE]
    for _ in range(9):
        await store.audit.write(Actor(42, "desk", clock()), Action.POLL_EXPORTED)
    await store.erasures.begin(42, "withdraw")
    heard.commands.clear()
    await process(store, clock).erase_one()
    assert raw.audit.count_documents({"user_id": 42}) == 0
    assert [one.get("find") for one in heard.commands].count("idempotency") == 1


async def test_erasures_that_begin_at_once_are_one(api: Client, raw: Raw) -> None:
    erasures = api.app[STORE].erasures
    for user in (42, 43, 44):
        begun = await asyncio.gather(*(erasures.begin(user, "withdraw") for _ in range(20)))
        assert len({one["_id"] for one in begun}) == 1
    assert raw.erasures.count_documents({}) == 3


async def test_two_processes_and_two_erasures_of_one_user_at_once(
    api: Client, raw: Raw, clock: Clock, live: Live
) -> None:
    store = api.app[STORE]
    life = await live(ANN)
    await store.erasures.begin(ANN, "anonymize")
    await store.erasures.begin(ANN, "withdraw")
    assert [*await asyncio.gather(*(process(store, clock).erase_one() for _ in range(2)))] == [
        True,
        True,
    ]
    assert [tally(raw, run) for run in life.runs] == [{"2": 1}, {"1": 1}, {"3": 1}, {"2": 1}]
    assert traces(raw, ANN) == []
    assert await counted_exactly(api)


@pytest.mark.parametrize("votes", ["anonymize", "withdraw"])
async def test_votes_of_and_for_the_user_that_are_cast_meanwhile_are_erased_or_come_after(
    api: Client, raw: Raw, clock: Clock, votes: Any
) -> None:
    store = api.app[STORE]
    runs: list[Run] = [
        await content_run(api, raw, saveParticipantNames=True, allowRevote=True) for _ in range(6)
    ]
    for run in runs[::2]:
        await answered(await vote(api, run, "1", acting=42))
    await store.erasures.begin(42, votes)

    async def cast(run: Run, user: int, option: str) -> None:
        await answered(await vote(api, run, option, acting=user))

    async with asyncio.TaskGroup() as group:
        group.create_task(process(store, clock).erase_one())
        for number in range(60):
            for user in (42, 100 + number):
                group.create_task(cast(runs[number % 6], user, "123"[number % 3]))
    assert await counted_exactly(api)
    assert [sum(tally(raw, run).values()) for run in runs] >= [10] * 6
    await store.erasures.begin(42, votes)
    while await process(store, clock).erase_one():
        pass
    assert raw.ballots.count_documents({"user_id": 42}) == 0
    assert raw.ballots.count_documents({"user_id": {"$gt": 42}}) == 60
    assert await counted_exactly(api)


async def toggle(api: Client, run: Run) -> None:
    """Deletes a poll, or restores it."""
    if (await api.delete("/rest", params=run.query)).status == 404:
        await answered(await api.post("/rest/restore", params={"pollId": run.poll_id}))


async def test_polls_that_are_deleted_and_restored_meanwhile_pass_on_with_exact_counts(
    api: Client, raw: Raw, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    little_at_a_time(monkeypatch)
    store = api.app[STORE]
    runs = [await content_run(api, raw, saveParticipantNames=True) for _ in range(3)]
    for run, user in product(runs, (42, 43)):
        await answered(await vote(api, run, "1", acting=user))
    for name in ("addresses", "sessions"):
        raw[name].update_many({}, {"$set": {"owner_id": 42}})
    raw.containers.update_many({}, {"$set": {"polls.$[].owner_id": 42}})

    begun = await store.erasures.begin(42, "withdraw")
    turn = 0
    while "user_id" in (await store.erasures.get(begun["_id"])):
        with pytest.raises(Died):
            await process(store, clock, steps=1).erase_one()
        for place, run in enumerate(runs):
            if (turn + place) % 2:
                await toggle(api, run)
        clock.advance(seconds=SCAN_SECONDS + LEASE_SECONDS)
        turn += 1
    for run in runs:
        if raw.deleted_polls.find_one({"poll_id": run.poll_id}):
            await toggle(api, run)
    assert [tally(raw, run) for run in runs] == [{"1": 1}] * 3
    assert {one["owner_id"] for one in raw.sessions.find()} == {0}
    assert raw.ballots.count_documents({"user_id": 42}) == 0
    assert raw.addresses.count_documents({"owner_id": 42}) == 0
    assert await counted_exactly(api)
