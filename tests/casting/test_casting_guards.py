"""Each guard of casting, alone, in the one interleaving that it is for."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from service.web.store_key import STORE
from storage import polls
from storage.store import Store
from tests.conftest import Client, Raw
from tests.storage.test_faults import failing, make_poll, require_exact, session_of, vote
from tests.support.faulty_wire import losing_commits
from tests.support.fleet import Poll, eventually
from tests.support.seeds import Json, a_poll

pytestmark = pytest.mark.usefixtures("knowledge")

Hook = Callable[[], Awaitable[Any]]


def once_before(monkeypatch: pytest.MonkeyPatch, place: object, name: str, hook: Hook) -> None:
    """Runs ``hook`` before the first call of a method, within whatever it is called in."""
    wrapped = getattr(place, name)
    is_done = False

    async def run(*arguments: Any, **options: Any) -> Any:
        nonlocal is_done
        if not is_done:
            is_done = True
            await hook()
        return await wrapped(*arguments, **options)

    monkeypatch.setattr(place, name, run)


def once_in_thread(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str, hook: Hook, *, is_after: bool = False
) -> None:
    """Runs ``hook`` in the event loop, before or after the first call of what a thread calls."""
    wrapped, loop = getattr(place, name), asyncio.get_running_loop()
    is_done = False

    async def run_hook() -> None:
        await hook()

    def run(*arguments: Any, **options: Any) -> Any:
        nonlocal is_done
        is_first, is_done = not is_done, True
        if is_first and not is_after:
            asyncio.run_coroutine_threadsafe(run_hook(), loop).result(30)
        result = wrapped(*arguments, **options)
        if is_first and is_after:
            asyncio.run_coroutine_threadsafe(run_hook(), loop).result(30)
        return result

    monkeypatch.setattr(place, name, run)


def store_of(api: Client) -> Store:
    return api.app[STORE]


async def close(api: Client, poll: Poll, raw: Raw) -> None:
    closed = await api.put(poll.sessions(session_of(raw)["_id"], "close"))
    assert closed.status == 200


async def test_revotes_that_cross_are_refused_when_a_close_comes_between_reading_and_writing(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their counts cancel out: but for ``casts`` they would not touch the session at all."""
    poll = await make_poll(api, allowRevote=True)
    for user_id, option in ((1, "1"), (2, "2")):
        assert (await vote(api, poll, user_id, option)).status == 200
    before = list(raw.ballots.find().sort("_id"))
    ballots = store_of(api).ballots
    session_id = session_of(raw)["_id"]
    votes = []

    async def keep(batch: Any) -> Any:
        votes.extend(batch)
        return await cast_all(batch)

    cast_all = ballots._casts._run
    monkeypatch.setattr(ballots._casts, "_run", keep)
    for user_id, option in ((1, "1"), (2, "2")):
        assert (await vote(api, poll, user_id, option)).status == 200
    before = list(raw.ballots.find().sort("_id"))
    crossed = [
        one._replace(options=options) for one, options in zip(votes, (("2",), ("1",)), strict=True)
    ]

    async def closed() -> None:
        await store_of(api).sessions.set_published(session_id, is_published=False)

    once_in_thread(monkeypatch, ballots, "_write", closed)
    outcomes = await ballots._cast_all(crossed)
    assert [str(one) for one in outcomes] == ["This poll session is not open for submissions."] * 2
    assert list(raw.ballots.find().sort("_id")) == before
    require_exact(raw)


async def test_a_vote_is_refused_when_a_close_comes_between_reading_and_writing(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = await make_poll(api)
    ballots = store_of(api).ballots
    once_in_thread(monkeypatch, ballots, "_write", lambda: close(api, poll, raw))
    assert (await vote(api, poll, 1, "1")).status == 409
    assert raw.ballots.count_documents({}) == 0
    require_exact(raw)


async def test_a_vote_is_refused_when_a_close_comes_before_its_transaction(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = await make_poll(api)
    ballots = store_of(api).ballots
    once_before(monkeypatch, ballots._casts, "_run", lambda: close(api, poll, raw))
    assert (await vote(api, poll, 1, "1")).status == 409
    assert raw.ballots.count_documents({}) == 0
    require_exact(raw)


async def test_a_ballot_that_turns_up_between_reading_and_writing_is_read_again(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = await make_poll(api)
    assert (await vote(api, poll, 1, "1")).status == 200
    ballots = store_of(api).ballots
    read, reads = ballots._read, 0

    def overlook(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        tally = read(*arguments)
        if reads == 1:
            tally._ballots.clear()
            tally._ballots_before.clear()
        return tally

    monkeypatch.setattr(ballots, "_read", overlook)
    assert (await vote(api, poll, 1, "2")).status == 409
    assert reads == 2
    require_exact(raw)


async def new_session(api: Client, poll: Poll) -> Json:
    body = {"poll_sessions": {"course_id": 1}}
    made = await api.post(poll.sessions(), json=body)
    assert made.status == 200
    session: Json = (await made.json())["poll_sessions"][0]
    return session


CHANGED = a_poll(options=[{"id": "1", "title": "aye"}, {"id": "9", "title": "perhaps"}])


@pytest.mark.parametrize("first", ["the session", "the change"])
async def test_a_new_session_and_a_change_of_its_poll_at_once_end_with_the_new_rules(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    poll = await make_poll(api)

    async def change() -> None:
        assert (await api.put("/rest", params=poll.query, json=CHANGED)).status == 200

    async def create() -> None:
        await new_session(api, poll)

    # The other one has read the poll by then.
    if first == "the session":
        once_in_thread(monkeypatch, polls, "_read_poll", create, is_after=True)
        await change()
    else:
        once_in_thread(monkeypatch, polls, "_read_poll", change, is_after=True)
        await create()
    assert [session["rules"]["options"] for session in raw.sessions.find()] == [["1", "9"]] * 2
    assert [set(session["results"]) for session in raw.sessions.find()] == [{"1", "9"}] * 2


@pytest.mark.parametrize("allow_revote", [False, True])
async def test_a_vote_whose_commit_was_stored_but_is_unknown_afterwards_counts_once(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch, allow_revote: bool
) -> None:
    poll = await make_poll(api, allowRevote=allow_revote)
    with losing_commits(monkeypatch) as lost:
        assert (await vote(api, poll, 1, "1")).status == 200
    assert lost == [1]
    assert raw.ballots.count_documents({}) == 1
    assert session_of(raw)["casts"] == 1
    require_exact(raw)


async def test_a_transaction_whose_commit_is_refused_leaves_nothing(api: Client, raw: Raw) -> None:
    poll = await make_poll(api, allowRevote=True)
    conflict = {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}
    for number, option in enumerate(["1", "2", "1"], start=1):
        with failing(raw, ["commitTransaction"], conflict, times=1):
            assert (await vote(api, poll, 1, option)).status == 200
        assert session_of(raw)["casts"] == number
        require_exact(raw)
    with failing(raw, ["commitTransaction"], conflict, times=1):
        assert (await api.delete("/rest", params=poll.votes(1))).status == 200
    require_exact(raw)


@pytest.mark.parametrize("what", ["the session", "the poll"])
async def test_the_ballots_of_what_was_deleted_are_swept(api: Client, raw: Raw, what: str) -> None:
    poll = await make_poll(api)
    session_id = (await new_session(api, poll))["id"]
    assert (await api.put(poll.sessions(session_id, "open"))).status == 200
    body = {"poll_submissions": {"poll_choice_id": 1}}
    path = poll.sessions(session_id, "poll_submissions")
    assert (await api.post(path, json=body)).status == 200
    assert raw.ballots.count_documents({}) == 1
    if what == "the session":
        assert (await api.delete(poll.sessions(session_id))).status == 204
    else:
        assert (await api.delete("/rest", params={**poll.query, "now": "true"})).status == 200
    await eventually(lambda: raw.ballots.count_documents({}) == 0)
    await eventually(lambda: raw.purges.count_documents({}) == 0)


async def test_sweeping_goes_on_after_an_error_that_nobody_thought_of(
    api: Client, raw: Raw
) -> None:
    long_ago = datetime(1970, 1, 1, tzinfo=UTC)

    def is_swept() -> bool:
        # Each try takes a lease of half a minute; here that is over at once.
        raw.purges.update_many({}, {"$set": {"leased_until": long_ago}})
        store_of(api).purges.wake()
        return raw.purges.count_documents({}) == 0

    raw.ballots.insert_one({"_id": "77:x", "session_id": 77, "number": 1})
    with failing(raw, ["delete"], {"errorCode": 8}, times=1):
        raw.purges.insert_one({"_id": 77, "leased_until": long_ago})
        await eventually(is_swept)
    assert raw.ballots.count_documents({}) == 0
