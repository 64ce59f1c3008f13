"""A change is decided on what the caller's rights were checked against, or on new rights."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.web.store_key import STORE
from storage import polls, sessions
from tests.casting.test_casting_guards import once_before, once_in_thread
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    Headers,
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
from tests.support.polling import enroll as enroll_in
from tests.support.seeds import a_poll, refused

ELSEWHERE = COURSE + 1
ROUNDS = 15


async def a_student(api: Client, make_token: TokenMaker) -> Headers:
    await enroll(api, 7)
    return await make_token(user_id=7, workspaces=[])


async def move(api: Client, run: Run, **place: int) -> None:
    await answered(await api.put(run.url, json={"poll_sessions": [place]}))


MOVES = {"another course": {"course_id": ELSEWHERE}, "a section": {"course_section_id": 3}}


@pytest.mark.parametrize("place", MOVES.values(), ids=list(MOVES))
@pytest.mark.parametrize("when", ["before its transaction", "within its transaction"])
async def test_a_vote_is_refused_when_its_session_moves_to_where_the_user_may_not_vote(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    monkeypatch: pytest.MonkeyPatch,
    place: dict[str, int],
    when: str,
) -> None:
    run = await course_run(api, raw)
    who = await a_student(api, make_token)
    ballots = api.app[STORE].ballots
    if when.startswith("before"):
        once_before(monkeypatch, ballots._casts, "_run", lambda: move(api, run, **place))
    else:
        once_in_thread(monkeypatch, ballots, "_write", lambda: move(api, run, **place))
    problem = await refused(await submit(api, run, 1, who=who), 403)
    assert problem["detail"] == "You do not have access to this poll session."
    assert tally(raw, run) == {}


async def test_a_vote_counts_when_its_session_moves_to_where_the_user_may_vote_too(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw)
    who = await a_student(api, make_token)
    await enroll_in(api, 7, ELSEWHERE)
    once_before(
        monkeypatch,
        api.app[STORE].ballots._casts,
        "_run",
        lambda: move(api, run, course_id=ELSEWHERE),
    )
    await answered(await submit(api, run, 1, who=who))
    assert tally(raw, run) == {"1": 1}


async def test_of_a_vote_and_a_move_at_once_one_is_refused(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    who = await a_student(api, make_token)
    for _ in range(ROUNDS):
        body = {"poll_sessions": [{"course_id": ELSEWHERE}]}
        moved, voted = await asyncio.gather(
            api.put(run.url, json=body), submit(api, run, 1, who=who)
        )
        assert (moved.status, voted.status) in [(200, 403), (409, 200)]
        raw.ballots.delete_many({})
        start = {"results.1": 0, "participants": 0, "course_id": COURSE}
        raw.sessions.update_one({"_id": run.session}, {"$set": start})


@pytest.mark.parametrize("is_revote", [False, True])
async def test_a_vote_is_decided_by_the_settings_that_its_transaction_finds(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch, is_revote: bool
) -> None:
    run = await content_run(
        api, raw, allowSelectionOfMultipleOptions=True, allowRevote=True, allowComment=True
    )
    if is_revote:
        await answered(await vote(api, run, "1"))
    before = tally(raw, run)

    async def restrict() -> None:
        await change(api, run)

    once_in_thread(monkeypatch, api.app[STORE].ballots, "_write", restrict)
    if is_revote:
        await refused(await vote(api, run, "2"), 409)
    else:
        await refused(await vote(api, run, "1", "2"), 400, ["optionIds"])
    assert tally(raw, run) == before


async def test_a_session_is_not_moved_back_to_a_course_that_its_manager_does_not_teach(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The course in the body was the session's own when the request came."""
    run = await content_run(api, raw)
    body = {"poll_sessions": [{"course_id": COURSE}]}
    made = await answered(await api.post(f"{run.poll_url}/poll_sessions", json=body))
    session = Run(run.poll_id, run.number, made["poll_sessions"][0]["id"], run.place)
    manager = await make_token(user_id=7, workspaces=["PLAT"])
    await answered(await api.put(session.url, json=body, headers=manager))
    once_in_thread(monkeypatch, sessions, "_read", lambda: move(api, session, course_id=ELSEWHERE))
    await refused(await api.put(session.url, json=body, headers=manager), 403)
    stored = raw.sessions.find_one({"_id": session.session})
    assert stored is not None
    assert stored["course_id"] == ELSEWHERE


Change = Callable[[Client, Run], Awaitable[int]]


async def replaced(api: Client, run: Run) -> int:
    body = a_poll(title="Mine")
    return (await api.put("/rest", params={**run.query, "as_user_id": "7"}, json=body)).status


async def deleted(api: Client, run: Run) -> int:
    return (await api.delete("/rest", params={**run.query, "as_user_id": "7"})).status


async def renamed(api: Client, run: Run) -> int:
    body = {"polls": [{"question": "Mine"}]}
    url = f"/api/v1/polls/{run.poll_id}"
    return (await api.put(url, params={"as_user_id": "7"}, json=body)).status


async def removed(api: Client, run: Run) -> int:
    url = f"/api/v1/polls/{run.poll_id}"
    return (await api.delete(url, params={"as_user_id": "7"})).status


async def extended(api: Client, run: Run) -> int:
    body = {"poll_choices": [{"text": "mine"}]}
    url = f"/api/v1/polls/{run.poll_id}/poll_choices"
    return (await api.post(url, params={"as_user_id": "7"}, json=body)).status


async def started(api: Client, run: Run) -> int:
    await enroll_in(api, 7, COURSE, "TeacherEnrollment")
    body = {"poll_sessions": [{"course_id": COURSE}]}
    url = f"/api/v1/polls/{run.poll_id}/poll_sessions"
    return (await api.post(url, params={"as_user_id": "7"}, json=body)).status


CHANGES: list[Change] = [replaced, deleted, renamed, removed, extended, started]


@pytest.mark.parametrize("made", CHANGES, ids=lambda one: one.__name__)
async def test_a_poll_that_another_user_made_under_the_same_id_meanwhile_is_left_alone(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch, made: Change
) -> None:
    run = await content_run(api, raw)
    raw.containers.update_one({}, {"$set": {"polls.0.owner_id": 7}})
    anew = {"polls.0.owner_id": 8, "polls.0.number": run.number + 1, "polls.0.title": "Theirs"}

    async def make_anew() -> None:
        raw.containers.update_one({}, {"$set": anew})

    once_in_thread(monkeypatch, polls, "_read_poll", make_anew)
    assert await made(api, run) == 404
    [container] = raw.containers.find()
    assert [poll["title"] for poll in container["polls"]] == ["Theirs"]
    assert raw.sessions.count_documents({}) == 1
