"""Once an answer has said that a session is closed, no vote changes its results any more."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from service.web.store_key import STORE
from storage import sessions
from storage.client import Transaction
from tests.casting.test_casting_guards import once_before, once_in_thread
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    CLOSED,
    Headers,
    Run,
    another_session,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    results,
    shown,
    submit,
    submitted,
    tally,
    vote,
)
from tests.support.seeds import Json, refused

pytestmark = pytest.mark.usefixtures("knowledge")

END = "2126-01-31T13:00:00Z"
ENDING = {"closePollOnEndDate": True, "endDate": END}
LATER = {"closePollOnEndDate": True, "endDate": "2126-01-31T14:00:00Z"}

Ask = Callable[[Client, Run, Headers], Awaitable[None]]


async def ending_run(api: Client, raw: Raw) -> Run:
    return await course_run(
        api, raw, public=True, closePollOnEndDate=True, endDate=END, allowRevote=True
    )


async def a_student(api: Client, make_token: TokenMaker, user: int = 7) -> Headers:
    await enroll(api, user)
    return await make_token(user_id=user, workspaces=[])


async def says_results(api: Client, run: Run, who: Headers) -> None:
    seen = await shown(api, run, who)
    assert seen["is_published"] is False
    assert seen["results"] == {"1": 0, "2": 0, "3": 0}


async def says_list_of_the_poll(api: Client, run: Run, _: Headers) -> None:
    listed = await answered(await api.get(f"{run.poll_url}/poll_sessions"))
    assert [one["is_published"] for one in listed["poll_sessions"]] == [False]


async def says_list_of_the_user(api: Client, run: Run, who: Headers) -> None:
    for state, expected in (("opened", []), ("closed", [run.session])):
        listed = await answered(await api.get(f"/api/v1/poll_sessions/{state}", headers=who))
        assert [one["id"] for one in listed["poll_sessions"]] == expected


async def says_export(api: Client, run: Run, _: Headers) -> None:
    export = await answered(await api.get(f"{run.url}/export", params={"format": "json"}))
    assert export["poll_session"]["is_published"] is False
    assert export["poll_session"]["participants"] == 0


async def says_refused_vote(api: Client, run: Run, _: Headers) -> None:
    problem = await refused(await submit(api, run, 1, acting=8), 403)
    assert problem["detail"] == CLOSED


async def says_refused_opening(api: Client, run: Run, _: Headers) -> None:
    await refused(await api.put(f"{run.url}/open"), 409)


ANSWERS: dict[str, Ask] = {
    "the session": says_results,
    "the sessions of the poll": says_list_of_the_poll,
    "the sessions of the user": says_list_of_the_user,
    "the export": says_export,
    "a refused vote": says_refused_vote,
    "a refused opening": says_refused_opening,
}


@pytest.mark.parametrize("ask", ANSWERS.values(), ids=list(ANSWERS))
async def test_no_vote_comes_after_any_answer_that_tells_of_the_end(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker, behind: Client, ask: Ask
) -> None:
    """Not even through a process whose clock has not come to the end yet."""
    run = await ending_run(api, raw)
    who = await a_student(api, make_token)
    clock.advance(hours=1)
    await ask(api, run, who)
    assert (await shown(behind, run, who))["is_published"] is False
    await refused(await submit(behind, run, 1, who=who), 403)
    await refused(await behind.put(f"{run.url}/open"), 409)
    assert tally(raw, run) == {}


@pytest.mark.parametrize("how", ["vote", "revote", "withdrawal"])
async def test_what_was_under_way_when_the_end_was_told_is_refused(
    api: Client, raw: Raw, clock: Clock, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The transaction of the cast has read the session, and decided, before the end."""
    run = await content_run(
        api, raw, closePollOnEndDate=True, endDate=END, allowRevote=True, saveParticipantNames=True
    )
    if how != "vote":
        await answered(await vote(api, run, "1", acting=7))
    seen: list[Json | None] = []

    async def tell() -> None:
        clock.advance(hours=1)
        seen.append(await results(api, run))

    once_in_thread(monkeypatch, api.app[STORE].ballots, "_write", tell)
    if how == "withdrawal":
        answer = await api.delete("/rest", params={**run.votes, "as_user_id": "7"})
    else:
        answer = await vote(api, run, "2", acting=7)
    await refused(answer, 409)
    [told] = seen
    assert told is not None
    assert told["closed"] is True
    assert await results(api, run) == told
    assert tally(raw, run) == ({} if how == "vote" else {"1": 1})


@pytest.mark.parametrize("what", ["vote", "opening"])
async def test_what_waits_until_the_end_has_passed_is_refused_and_no_vote_follows(
    api: Client,
    raw: Raw,
    clock: Clock,
    behind: Client,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    run = await ending_run(api, raw)

    async def wait() -> None:
        clock.advance(hours=1)

    if what == "vote":
        once_before(monkeypatch, api.app[STORE].ballots._casts, "_run", wait)
        await refused(await submit(api, run, 1, acting=7), 403)
    else:
        once_in_thread(monkeypatch, sessions, "_read", wait)
        await refused(await api.put(f"{run.url}/open"), 409)
    await refused(await submit(behind, run, 1, acting=8), 403)
    assert tally(raw, run) == {}


async def test_a_vote_whose_transaction_runs_again_after_the_end_is_refused(
    api: Client, raw: Raw, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await ending_run(api, raw)
    write = Transaction.bulk_write
    runs = []

    def conflict_once(*arguments: Any) -> int:
        runs.append(1)
        if len(runs) == 1:
            clock.advance(hours=1)
            labels = {"errorLabels": ["TransientTransactionError"]}
            raise OperationFailure("a write conflict", 112, labels)
        return write(*arguments)

    monkeypatch.setattr(Transaction, "bulk_write", conflict_once)
    await refused(await submit(api, run, 1, acting=7), 403)
    assert len(runs) > 1
    assert tally(raw, run) == {}


async def test_a_vote_that_was_decided_before_the_end_counts_and_is_in_what_is_told(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await ending_run(api, raw)
    clock.advance(minutes=59, seconds=59)
    await submitted(api, run, 1, acting=7)
    clock.advance(seconds=1)
    seen = await shown(api, run)
    assert (seen["is_published"], seen["results"]) == (False, {"1": 1, "2": 0, "3": 0})


async def test_another_end_date_opens_all_sessions_again_and_other_settings_do_not(
    api: Client, raw: Raw, clock: Clock, behind: Client
) -> None:
    run = await ending_run(api, raw)
    other = await another_session(api, run)
    clock.advance(hours=1)
    assert (await shown(api, run))["is_published"] is False
    # The end of the poll is that of all its sessions.
    assert (await shown(behind, other))["is_published"] is False
    await change(behind, run, **ENDING, hideAbsoluteNumbers=True)
    await refused(await submit(behind, run, 1, acting=7), 403)
    await change(api, run, **LATER)
    for session in (run, other):
        assert (await shown(api, session))["is_published"] is True
        await submitted(api, session, 1, acting=7)
    clock.advance(hours=1)
    await refused(await submit(api, run, 1, acting=8), 403)
    await change(api, run)
    await submitted(api, run, 1, acting=8)


async def test_reading_an_ended_session_writes_once(api: Client, raw: Raw, clock: Clock) -> None:
    run = await ending_run(api, raw)
    clock.advance(hours=1)
    await shown(api, run)
    noted = raw.sessions.find_one({"_id": run.session})
    for _ in range(3):
        await shown(api, run)
        await refused(await submit(api, run, 1, acting=7), 403)
    assert raw.sessions.find_one({"_id": run.session}) == noted
