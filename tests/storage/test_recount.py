"""``python -m service recount``: results against ballots, over the whole store."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiohttp import ClientResponse
from pymongo import monitoring

from service.settings import Settings
from service.web.store_key import STORE
from storage import recounts
from storage.client import Document, Transaction
from storage.location import Location
from storage.metrics import database_errors
from storage.recounts import Recount, Recounts
from storage.startup import open_store
from storage.store import Store
from tests.conftest import Client, Raw
from tests.support.casting import (
    Run,
    answered,
    content_run,
    course_run,
    seed_ballots,
    submitted,
    tally,
    vote,
)
from tests.support.processes import eventually
from tests.support.recounting import run_recount, seed_store
from tests.support.seeds import PAGE

VOTERS = 12


async def recount(settings: Settings, *options: str) -> tuple[int, list[str], str]:
    """Exit status, lines on standard output, standard error."""
    found = await run_recount(settings, *options)
    return found.status, found.lines, found.error


def spoil(raw: Raw, session_id: int, update: dict[str, Any]) -> None:
    raw.sessions.update_one({"_id": session_id}, update)


async def test_a_recount_tells_its_store_and_what_it_compared(
    api: Client, raw: Raw, settings: Settings
) -> None:
    run, other = await content_run(api, raw), await course_run(api, raw)
    for user_id in (1, 2):
        await answered(await vote(api, run, "1", acting=user_id))
    await submitted(api, other, 2)
    found = await run_recount(settings)
    sessions = raw.sessions.count_documents({})
    assert found.store == "Store: the MongoDB of MONGODB_URI."
    assert found.compared == f"Sessions: {sessions}. Ballots: 3. Differences: 0."
    spoil(raw, run.session, {"$inc": {"results.2": 4}})
    found = await run_recount(settings)
    assert found.compared == f"Sessions: {sessions}. Ballots: 3. Differences: 1."


async def test_what_differs_is_named_and_mended_and_then_nothing_differs(
    api: Client, raw: Raw, settings: Settings
) -> None:
    right = await content_run(api, raw, allowSelectionOfMultipleOptions=True)
    wrong_count = await content_run(api, raw)
    wrong_participants = await course_run(api, raw)
    lost_ballot = await content_run(api, raw)
    await answered(await vote(api, right, "1", "2"))
    await answered(await vote(api, wrong_count, "1"))
    await submitted(api, wrong_participants, 2)
    await answered(await vote(api, lost_ballot, "3"))
    assert await recount(settings) == (0, [], "")
    spoil(raw, wrong_count.session, {"$inc": {"results.2": 4}})
    spoil(raw, wrong_participants.session, {"$set": {"participants": 0}})
    raw.ballots.delete_one({"session_id": lost_ballot.session})
    spoiled = [wrong_count.session, wrong_participants.session, lost_ballot.session]
    before = list(raw.sessions.find())

    status, lines, error = await recount(settings)
    assert status == 1
    assert [line.partition(":")[0] for line in lines] == [f"session {one}" for one in spoiled]
    said = "results {'1': 1, '2': 4, '3': 0} of 1, counted {'1': 1, '2': 0, '3': 0} of 1"
    assert lines[0] == f"session {wrong_count.session}: {said}"
    assert error == "polls: 3 of 4 sessions differed from their ballots\n"
    assert list(raw.sessions.find()) == before

    assert await recount(settings, "--fix") == (1, lines, error)
    assert await recount(settings) == (0, [], "")
    assert [tally(raw, run) for run in (right, wrong_count, wrong_participants, lost_ballot)] == [
        {"1": 1, "2": 1},
        {"1": 1},
        {"2": 1},
        {},
    ]
    # What was mended is ordered against votes that are cast meanwhile.
    casts = {one["_id"]: one["casts"] for one in before}
    after = {one["_id"]: one["casts"] for one in raw.sessions.find()}
    assert {one for one in after if after[one] > casts[one]} == set(spoiled)


async def test_every_session_of_many_is_looked_at_once(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    [session] = raw.sessions.find()
    others = range(session["_id"] + 1, session["_id"] + 130)
    raw.sessions.insert_many({**session, "_id": number} for number in others)
    spoil(raw, others[-1], {"$set": {"results.3": 1}})
    recounts = api.app[STORE].recounts
    found = [one async for one in recounts.run(fix=False)]
    assert [one.session_id for one in found] == [run.session, *others]
    assert [one.session_id for one in found if not one.agrees] == [others[-1]]
    assert await recounts.total() == len(found)


async def test_a_session_of_more_ballots_than_fit_and_its_neighbours_are_looked_at_once(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_store(raw, 9, 900)
    # Alone it has more than one transaction is meant for; the others go two by two.
    raw.ballots.delete_many({"session_id": 5})
    spoil(raw, 5, {"$set": {"participants": 0, "results": dict.fromkeys("1234", 0)}})
    seed_ballots(raw, Run("", 0, 5, {}), 500)
    monkeypatch.setattr(recounts, "MAX_BALLOTS", 250)
    at_once = noted(store.recounts, monkeypatch)
    found = await all_of(store)
    assert [one.session_id for one in found] == list(range(1, 10))
    assert {one.session_id for one in found if not one.agrees} == set()
    assert sum(one.ballots for one in found) == raw.ballots.count_documents({}) > 1_200
    assert at_once == [[1, 2], [3, 4], [5], [6, 7], [8, 9], []]


def noted(looking: Recounts, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Which sessions are compared together."""
    compare = looking._compare
    at_once: list[list[int]] = []

    def note(transaction: Transaction, sessions: Sequence[Document], stored: int) -> list[Recount]:
        at_once.append([one["_id"] for one in sessions])
        return compare(transaction, sessions, stored)

    monkeypatch.setattr(looking, "_compare", note)
    return at_once


async def all_of(store: Store, *, fix: bool = False) -> list[Recount]:
    return [one async for one in store.recounts.run(fix=fix)]


class Replies(monitoring.CommandListener):
    """How many documents come from the server, at once and in all, and how ballots are read."""

    def __init__(self) -> None:
        self.documents = self.most = 0
        self.hints: list[Any] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command.get("aggregate") == "ballots":
            self.hints.append(event.command.get("hint"))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        cursor = event.reply.get("cursor", {})
        here = len(cursor.get("firstBatch", cursor.get("nextBatch", [])))
        self.documents += here
        self.most = max(self.most, here)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
def replies() -> Iterator[Replies]:
    """Those to all clients that are made from now on."""
    listeners = monitoring._LISTENERS.command_listeners
    replies = Replies()
    monitoring.register(replies)
    yield replies
    listeners.remove(replies)


async def test_ballots_are_counted_by_the_server_and_never_come_here(
    raw: Raw, settings: Settings, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is flat: what comes depends on sessions and options, and comes some at a time."""
    location = Location(settings.mongodb_uri, settings.data_dir, settings.secret)
    monkeypatch.setattr(recounts, "DOCUMENTS_AT_A_TIME", 20)
    monkeypatch.setattr(recounts, "COUNTS_AT_A_TIME", 20)
    came = []
    async with open_store(location) as store:
        for ballots in (3_000, 12_000):
            seed_store(raw, 30, ballots)
            before = replies.documents
            assert all(one.agrees for one in await all_of(store))
            came.append(replies.documents - before)
            assert replies.most <= 20
            raw.sessions.delete_many({})
            raw.ballots.delete_many({})
    # A session each, a row for each of its four options.
    assert came == [30 * 5] * 2


async def test_no_more_counts_are_held_at_once_than_fit(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_store(raw, 30, 300)
    monkeypatch.setattr(recounts, "MAX_COUNTS", 60)
    at_once = noted(store.recounts, monkeypatch)
    assert all(one.agrees for one in await all_of(store))
    # Four options, and the session itself.
    assert at_once == [list(range(first, first + 12)) for first in (1, 13)] + [
        list(range(25, 31)),
        [],
    ]


@pytest.mark.parametrize("way", ["scan", "index"])
async def test_ballots_are_counted_alike_by_a_scan_and_by_the_index(
    raw: Raw, settings: Settings, replies: Replies, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    seed_store(raw, 40, 400)
    # Two sessions in forty are a small part; all of them are not.
    monkeypatch.setattr(recounts, "MAX_COUNTS", {"scan": 20_000, "index": 10}[way])
    location = Location(settings.mongodb_uri, settings.data_dir, settings.secret)
    async with open_store(location) as store:
        spoil(raw, 17, {"$inc": {"results.4": -1}})
        found = await all_of(store)
    assert [one.session_id for one in found if not one.agrees] == [17]
    assert set(map(str, replies.hints)) == {"{'$natural': 1}" if way == "scan" else "None"}


@pytest.mark.parametrize("wrong", [0, 1])
async def test_a_vote_between_a_session_and_its_ballots_makes_no_difference_and_hides_none(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=1))
    # What the vote below would make of a session that says one too many.
    spoil(raw, run.session, {"$inc": {"results.1": wrong, "participants": wrong}})
    store = api.app[STORE]
    compare, voters = store.recounts._compare, itertools.count(2)

    loop = asyncio.get_running_loop()

    async def vote_once() -> None:
        await answered(await vote(api, run, "1", acting=next(voters)))

    def compare_late(*arguments: Any) -> list[Recount]:
        asyncio.run_coroutine_threadsafe(vote_once(), loop).result(30)
        return compare(*arguments)

    monkeypatch.setattr(store.recounts, "_compare", compare_late)
    [found] = await all_of(store)
    assert (found.agrees, found.participants, found.ballots) == (not wrong, 1 + wrong, 1)
    assert found.counted == {"1": 1, "2": 0, "3": 0}
    assert raw.ballots.count_documents({}) == 3


async def test_a_vote_after_a_session_was_found_to_differ_is_in_what_is_mended(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=1))
    spoil(raw, run.session, {"$set": {"results.3": 5}})
    store = api.app[STORE]
    mend = store.recounts._fix

    async def mend_late(session_id: int) -> Recount | None:
        await answered(await vote(api, run, "2", acting=2))
        return await mend(session_id)

    monkeypatch.setattr(store.recounts, "_fix", mend_late)
    [found] = await all_of(store, fix=True)
    assert (found.results, found.ballots) == ({"1": 1, "2": 1, "3": 5}, 2)
    assert tally(raw, run) == {"1": 1, "2": 1}


async def test_votes_for_a_session_that_is_being_mended_come_after_it(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=1))
    spoil(raw, run.session, {"$set": {"participants": 7}})
    store = api.app[STORE]
    compare, compared = store.recounts._compare, itertools.count(1)
    voting: list[asyncio.Task[ClientResponse]] = []

    loop = asyncio.get_running_loop()

    async def vote_meanwhile() -> None:
        conflicts = database_errors["transient"]

        async def is_held_up() -> bool:
            return database_errors["transient"] > conflicts

        voting.append(asyncio.create_task(vote(api, run, "2", acting=2)))
        await eventually(is_held_up, "a conflict of the vote with the recount")
        assert not voting[0].done()

    def compare_long(*arguments: Any) -> list[Recount]:
        found = compare(*arguments)
        if next(compared) == 2:
            asyncio.run_coroutine_threadsafe(vote_meanwhile(), loop).result(30)
        return found

    monkeypatch.setattr(store.recounts, "_compare", compare_long)
    [found] = await all_of(store, fix=True)
    assert (found.participants, found.ballots) == (7, 1)
    await answered(await voting[0])
    # It was mended once, and no vote made it begin again.
    assert next(compared) == 4
    assert tally(raw, run) == {"1": 1, "2": 1}


async def test_a_session_that_is_deleted_meanwhile_is_passed_over(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, staying = await content_run(api, raw), await content_run(api, raw, place=PAGE)
    await answered(await vote(api, going, "1", acting=1))
    spoil(raw, going.session, {"$set": {"participants": 7}})
    store = api.app[STORE]
    mend = store.recounts._fix

    async def mend_late(session_id: int) -> Recount | None:
        await answered(await api.delete("/rest", params=going.query))
        return await mend(session_id)

    monkeypatch.setattr(store.recounts, "_fix", mend_late)
    assert [one.session_id for one in await all_of(store, fix=True)] == [staying.session]
    assert [one["_id"] for one in raw.sessions.find()] == [staying.session]


async def test_ballots_of_a_deleted_session_between_two_others_are_passed_over(
    store: Store, raw: Raw
) -> None:
    seed_store(raw, 3, 30)
    raw.sessions.delete_one({"_id": 2})
    found = await all_of(store, fix=True)
    assert [(one.session_id, one.agrees) for one in found] == [(1, True), (3, True)]
    assert raw.ballots.count_documents({}) == 30
    assert raw.sessions.count_documents({}) == 2


@pytest.mark.parametrize(
    "results",
    [
        {"$set": {"results.gone": 2}},
        {"$set": {"results.gone": 0}},
        {"$unset": {"results.2": ""}},
        {"$set": {"results": {}}},
    ],
    ids=["unknown", "unknown, without a vote", "missing", "emptied"],
)
async def test_an_option_that_only_results_or_only_the_poll_has_is_a_difference(
    api: Client, raw: Raw, results: dict[str, Any]
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=1))
    spoil(raw, run.session, results)
    store = api.app[STORE]
    [found] = await all_of(store, fix=True)
    assert not found.agrees
    assert tally(raw, run) == {"1": 1}
    assert [one.agrees for one in await all_of(store)] == [True]


@pytest.mark.parametrize(
    ("choices", "counted"),
    [(["gone"], {"1": 1, "2": 0, "3": 0, "gone": 1}), ([], {"1": 1, "2": 0, "3": 0})],
    ids=["unknown", "none"],
)
async def test_a_ballot_of_an_unknown_option_or_of_none_is_a_ballot_all_the_same(
    api: Client, raw: Raw, choices: list[str], counted: dict[str, int]
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=1))
    await answered(await vote(api, run, "2", acting=2))
    raw.ballots.update_one({"choices": ["2"]}, {"$set": {"choices": choices}})
    store = api.app[STORE]
    [found] = await all_of(store, fix=True)
    assert (found.agrees, found.counted, found.ballots) == (False, counted, 2)
    [again] = await all_of(store)
    assert (again.agrees, again.results, again.participants) == (True, counted, 2)


async def test_a_recount_amid_votes_is_exact_and_mends_what_differed(
    api: Client, raw: Raw, settings: Settings
) -> None:
    runs = [
        await content_run(api, raw, place={**PAGE, "container": f"macro-{n}"}, allowRevote=True)
        for n in range(4)
    ]
    done, votes = asyncio.Event(), Counter[int]()

    async def go_on_voting(user_id: int) -> None:
        for n in itertools.count(user_id):
            if done.is_set():
                return
            run = runs[n % len(runs)]
            await answered(await vote(api, run, str(1 + n % 3), acting=user_id))
            votes[run.session] += 1

    async def recount_amid_votes(*options: str) -> tuple[int, list[str], str]:
        before = votes.copy()
        found = await recount(settings, *options)
        assert all(votes[run.session] > before[run.session] for run in runs)
        return found

    async with asyncio.TaskGroup() as group:
        for user_id in range(1, VOTERS + 1):
            group.create_task(go_on_voting(user_id))
        try:
            assert await recount_amid_votes() == (0, [], "")
            spoil(raw, runs[1].session, {"$inc": {"results.2": 3}})
            spoil(raw, runs[3].session, {"$inc": {"participants": -2}})
            status, lines, error = await recount_amid_votes("--fix")
            assert (status, error) == (1, "polls: 2 of 4 sessions differed from their ballots\n")
            named = [line.partition(":")[0] for line in lines]
            assert named == [f"session {runs[n].session}" for n in (1, 3)]
            assert await recount_amid_votes() == (0, [], "")
        finally:
            done.set()
    for run in runs:
        tally(raw, run)
