"""Votes in a session that a process knows: it is not read again, and yet nothing is assumed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from service.web.store_key import STORE
from storage.ballots import Ballots
from storage.client import Transaction
from storage.client.transaction_runner import TransactionRunner
from storage.documents import ContainerKey, SessionDocument
from storage.known_sessions import MAX_KNOWN, MAX_SKIPPED, KnownSessions
from storage.voting import Cast, RightsChanged, Vote
from tests.casting.test_casting_guards import once_before
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    OPTIONS,
    Run,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    submit,
    tally,
    vote,
)
from tests.support.faulty_wire import losing_commits
from tests.support.fleet import eventually
from tests.support.moving import a_line, imported, require_counted
from tests.support.moving import vote as poll_vote
from tests.support.seeds import UNKNOWN, a_poll, refused

KEY = ContainerKey("PLAT", "PLAT-1", "")
FREE = {"allowSelectionOfMultipleOptions": True, "allowRevote": True, "allowComment": True}


@pytest.fixture
def reads(api: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the size of each batch that reads its sessions and ballots."""
    sizes: list[int] = []
    ballots = api.app[STORE].ballots
    read = ballots._read

    def read_noted(transaction: Transaction, votes: Sequence[Vote]) -> Any:
        sizes.append(len(votes))
        return read(transaction, votes)

    monkeypatch.setattr(ballots, "_read", read_noted)
    return sizes


async def known_run(api: Client, raw: Raw, **settings: Any) -> Run:
    """A content poll with a vote of user 1, so that its session is known."""
    run = await content_run(api, raw, **settings)
    await answered(await vote(api, run, "1", acting=1))
    return run


@contextmanager
def keeping(monkeypatch: pytest.MonkeyPatch, ballots: Ballots) -> Iterator[list[Vote]]:
    """Gets the votes that are cast inside."""
    votes: list[Vote] = []
    cast = ballots.cast

    async def keep(one: Vote) -> Cast:
        votes.append(one)
        return await cast(one)

    with monkeypatch.context() as patched:
        patched.setattr(ballots, "cast", keep)
        yield votes


async def test_a_new_vote_in_a_known_session_reads_nothing_and_needs_no_mark(
    api: Client, raw: Raw, reads: list[int]
) -> None:
    run = await known_run(api, raw)
    marks = raw.attempts.count_documents({})
    for user_id in (2, 3):
        await answered(await vote(api, run, "2", acting=user_id, key=f"key-{user_id}"))
    assert reads == [1]
    assert raw.attempts.count_documents({}) == marks
    assert tally(raw, run) == {"1": 1, "2": 2}


async def close(api: Client, run: Run) -> None:
    await answered(await api.put(f"{run.url}/close"))


async def allow_one_option(api: Client, run: Run) -> None:
    await change(api, run, allowRevote=True, allowComment=True)


async def delete(api: Client, run: Run) -> None:
    await answered(await api.delete("/rest", params={"type": "polls", **run.query}))


CHANGES: dict[str, tuple[Callable[[Client, Run], Awaitable[None]], int]] = {
    "closed": (close, 409),
    "changed": (allow_one_option, 400),
    "deleted": (delete, 404),
}


@pytest.mark.parametrize(("make", "status"), CHANGES.values(), ids=list(CHANGES))
async def test_a_vote_is_refused_once_its_session_was(
    api: Client,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Client, Run], Awaitable[None]],
    status: int,
) -> None:
    """Changed by another process, which tells nobody."""
    run = await known_run(api, raw, **FREE)
    batcher = api.app[STORE].ballots._casts
    cast_all = batcher._run

    async def change_before(votes: Any) -> Any:
        await make(api, run)
        return await cast_all(votes)

    monkeypatch.setattr(batcher, "_run", change_before)
    fields: list[str | None] | None = ["optionIds"] if status == 400 else None
    await refused(await vote(api, run, "1", "2", acting=2), status, fields)
    assert raw.ballots.count_documents({"user_id": 2}) == 0
    assert raw.sessions.count_documents({"participants": {"$gt": 1}}) == 0


@pytest.mark.parametrize(
    "moved",
    [
        {"course_id": COURSE + 1},
        {"course_section_id": 3},
        {"rights_changes": 99},
        {"poll_id": UNKNOWN},
    ],
    ids=["another course", "a section", "an enrollment less", "another poll"],
)
async def test_a_vote_is_decided_again_if_the_rights_in_its_session_have_changed(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    monkeypatch: pytest.MonkeyPatch,
    moved: dict[str, Any],
) -> None:
    """The caller's rights, too, were checked before another process made the change."""
    run = await course_run(api, raw)
    for user_id in (1, 2):
        await enroll(api, user_id)
    first, second = [await make_token(user_id=one, workspaces=[]) for one in (1, 2)]
    await answered(await submit(api, run, 1, who=first))
    ballots = api.app[STORE].ballots
    [session] = raw.sessions.find()
    with keeping(monkeypatch, ballots) as kept:
        await answered(await submit(api, run, 1, who=second))
    [sent] = kept
    raw.ballots.delete_one({"_id": sent.ballot_id})
    counts = {"results": session["results"], "participants": 1}
    raw.sessions.update_one({"_id": run.session}, {"$set": {**counts, **moved}})
    with pytest.raises(RightsChanged):
        await ballots.cast(sent)
    assert tally(raw, run) == {"1": 1}


@pytest.mark.parametrize("which", [1, 2], ids=["moved elsewhere", "another poll"])
async def test_no_vote_passes_to_the_poll_that_an_import_gave_the_number_of_the_session(
    api: Client, raw: Raw, which: int
) -> None:
    """The poll was purged, but this process knows its session, and the right was checked there."""
    line = a_line(1)
    await imported(api, line)
    assert await poll_vote(api, 1, line) == 200
    place = {name: line[name] for name in ("workspace", "content")}
    query = {**place, "pollId": line["id"], "now": "true"}
    await answered(await api.delete("/rest/polls", params=query))
    await eventually(lambda: not raw.purges.count_documents({}))
    other = a_line(which, workspace="OTHER", content="OTHER-1", sessions=[{"id": 201}])
    assert await imported(api, other) == ["created"]
    for _ in range(2):
        assert await poll_vote(api, 2, line) == 404
    assert raw.ballots.count_documents({}) == 0
    assert await poll_vote(api, 2, other) == 200
    assert require_counted(raw) == 1


@pytest.mark.parametrize("is_allowed", [False, True])
async def test_a_second_vote_in_a_known_session_is_found_out(
    api: Client, raw: Raw, is_allowed: bool
) -> None:
    run = await known_run(api, raw, allowRevote=is_allowed)
    if is_allowed:
        await answered(await vote(api, run, "2", acting=1))
        assert tally(raw, run) == {"2": 1}
    else:
        await refused(await vote(api, run, "2", acting=1), 409)
        assert tally(raw, run) == {"1": 1}


async def test_the_key_of_a_vote_that_was_withdrawn_meanwhile_casts_nothing(
    api: Client, raw: Raw, behind: Client
) -> None:
    """It was cast and withdrawn through another process."""
    run = await known_run(api, raw, allowRevote=True)
    await answered(await vote(behind, run, "2", acting=2, key="a-key"))
    withdrawn = await behind.delete("/rest", params={**run.votes, "as_user_id": "2"})
    await answered(withdrawn)
    problem = await refused(await vote(api, run, "2", acting=2, key="a-key"), 409)
    assert problem["code"] == "idempotency_key_outdated"
    assert tally(raw, run) == {"1": 1}


async def test_the_key_of_a_vote_that_is_known_to_be_withdrawn_casts_nothing(
    api: Client, raw: Raw
) -> None:
    run = await known_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "2", acting=2, key="a-key"))
    await answered(await api.delete("/rest", params={**run.votes, "as_user_id": "2"}))
    for user_id in (3, 4, 5):
        await answered(await vote(api, run, "1", acting=user_id))
    problem = await refused(await vote(api, run, "2", acting=2, key="a-key"), 409)
    assert problem["code"] == "idempotency_key_outdated"
    assert tally(raw, run) == {"1": 4}


@pytest.mark.parametrize("is_allowed", [False, True], ids=["final votes", "votes that may change"])
async def test_a_vote_in_a_known_session_whose_commit_is_not_answered_is_cast_once(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch, reads: list[int], is_allowed: bool
) -> None:
    run = await known_run(api, raw, allowRevote=is_allowed)
    with losing_commits(monkeypatch) as lost:
        await answered(await vote(api, run, "2", acting=2))
    assert lost == [1]
    assert reads == [1]
    assert tally(raw, run) == {"1": 1, "2": 1}


async def test_a_vote_that_was_withdrawn_while_its_commit_was_not_answered_stays_withdrawn(
    api: Client, raw: Raw, behind: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await known_run(api, raw, allowRevote=True)

    async def withdraw() -> None:
        await answered(await behind.delete("/rest", params={**run.votes, "as_user_id": "2"}))

    once_before(monkeypatch, TransactionRunner, "_is_stored", withdraw)
    with losing_commits(monkeypatch) as lost:
        await answered(await vote(api, run, "2", acting=2))
    assert lost == [1]
    assert tally(raw, run) == {"1": 1}


async def test_after_a_vote_that_was_there_already_a_session_is_read_for_a_while(
    api: Client, raw: Raw, reads: list[int]
) -> None:
    """Where many votes are changed, trying in vain each time would cost more than reading."""
    run = await known_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "2", acting=1))
    reads.clear()
    for user_id in (2, 3):
        await answered(await vote(api, run, "2", acting=user_id))
    assert len(reads) == 1
    # And for no longer the next time, since the last one succeeded.
    await answered(await vote(api, run, "3", acting=1))
    for user_id in (4, 5):
        await answered(await vote(api, run, "2", acting=user_id))
    assert len(reads) == 3


async def test_a_vote_in_a_known_session_reads_no_poll(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await known_run(api, raw)
    monkeypatch.setattr(api.app[STORE], "polls", None)
    await answered(await vote(api, run, "2", acting=2))
    assert tally(raw, run) == {"1": 1, "2": 1}


async def test_a_vote_in_a_known_poll_that_was_deleted_is_a_404(api: Client, raw: Raw) -> None:
    run = await known_run(api, raw)
    await answered(await api.delete("/rest/polls", params=run.query))
    for _ in range(2):
        refusal = await answered(await vote(api, run, "2", acting=2), 404)
        assert refusal["detail"] == "There is no such poll."


async def test_a_vote_counts_in_the_poll_that_has_taken_the_id_of_a_known_one(
    api: Client, raw: Raw
) -> None:
    run = await known_run(api, raw)
    await answered(await api.delete("/rest/polls", params=run.query))
    body = a_poll(id=run.poll_id, options=OPTIONS)
    await answered(await api.post("/rest/polls", params=run.place, json=body))
    for user_id in (1, 2):
        await answered(await vote(api, run, "2", acting=user_id))
    [session] = raw.sessions.find({"poll_id": run.poll_id})
    assert (session["results"]["2"], session["participants"]) == (2, 2)


def a_session(number: int) -> SessionDocument:
    place = {"container": KEY.id, "poll_id": str(number), "course_id": None}
    return {"_id": number, **place}  # type: ignore[typeddict-item]


def test_the_sessions_that_are_known_are_bounded() -> None:
    known = KnownSessions()
    known.keep(map(a_session, range(MAX_KNOWN + 1)))
    assert known.find([0]) is None
    assert known.standing(KEY, "0") is None
    assert known.standing(KEY, "1") == 1
    assert known.find([1, MAX_KNOWN]) == {1: a_session(1), MAX_KNOWN: a_session(MAX_KNOWN)}
    known.keep([a_session(1), a_session(0)])
    assert known.find([2]) is None
    assert known.find([1]) is not None


def test_a_session_that_always_fails_is_tried_ever_less_often_and_again_once_it_does_not() -> None:
    known = KnownSessions()
    known.keep([a_session(1)])

    def skipped() -> int:
        return next(n for n in range(100) if known.find([1]) is not None)

    for expected in (1, 2, 4, 8, 16, 32, MAX_SKIPPED, MAX_SKIPPED):
        known.note([1], is_success=False)
        assert skipped() == expected
    known.note([1], is_success=True)
    assert skipped() == 0


async def test_a_key_of_a_withdrawn_vote_moves_no_vote_that_was_cast_without_a_key_since(
    api: Client, raw: Raw
) -> None:
    run = await known_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "2", acting=2, key="a-key"))
    await answered(await api.delete("/rest", params={**run.votes, "as_user_id": "2"}))
    for user_id in (3, 4, 5):
        await answered(await vote(api, run, "1", acting=user_id))
    await answered(await vote(api, run, "3", acting=2))
    problem = await refused(await vote(api, run, "2", acting=2, key="a-key"), 409)
    assert problem["code"] == "idempotency_key_outdated"
    assert tally(raw, run) == {"1": 4, "3": 1}


async def test_a_vote_that_is_changed_and_withdrawn_in_one_batch_is_gone(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await known_run(api, raw, allowRevote=True)
    ballots = api.app[STORE].ballots
    with keeping(monkeypatch, ballots) as kept:
        await answered(await vote(api, run, "2", acting=2))
    [second] = kept
    outcomes = await asyncio.gather(
        *(ballots.cast(one) for one in (second, second._replace(options=None)))
    )
    assert [outcome.ballot["choices"] for outcome in outcomes] == [["2"], ["2"]]
    assert raw.ballots.count_documents({"user_id": None, "choices": ["2"]}) == 0
    assert tally(raw, run) == {"1": 1}
