"""A change is decided on what the caller's rights were checked against, or on new rights."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest

from service.web import bodies, scope
from service.web.store_key import STORE
from storage import courses, polls, sessions
from storage.documents import EnrollmentDocument
from storage.voting import Cast, Vote
from tests.casting.test_casting_guards import once_before, once_in_thread
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    Headers,
    Run,
    another_session,
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
from tests.support.seeds import Json, a_poll, refused

pytestmark = pytest.mark.usefixtures("knowledge")

ELSEWHERE = COURSE + 1
ROUNDS = 15
BODY = json.dumps({"poll_submissions": [{"poll_choice_id": 2}]}).encode()


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


async def leave(api: Client, raw: Raw, course: int = COURSE) -> None:
    """Ends the only enrollment in a course."""
    [enrollment] = raw.enrollments.find({"course_id": course})
    url = f"/api/v1/courses/{course}/enrollments/{enrollment['number']}"
    await answered(await api.delete(url))


async def change_section(api: Client, raw: Raw) -> None:
    await leave(api, raw)
    await enroll(api, 7, section=3)


async def move_there_and_back(api: Client, raw: Raw, run: Run) -> None:
    await move(api, run, course_id=ELSEWHERE)
    await leave(api, raw)
    await move(api, run, course_id=COURSE)


@pytest.mark.parametrize("when", ["before the end of its body", "within its transaction"])
@pytest.mark.parametrize("is_revote", [False, True])
@pytest.mark.parametrize("change_enrollment", [leave, change_section])
async def test_a_vote_is_refused_when_the_enrollment_of_the_user_ends(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    monkeypatch: pytest.MonkeyPatch,
    change_enrollment: Callable[[Client, Raw], Awaitable[None]],
    is_revote: bool,
    when: str,
) -> None:
    run = await course_run(api, raw, section=2, allowRevote=True)
    await enroll(api, 7, section=2)
    who = await make_token(user_id=7, workspaces=[])
    if is_revote:
        await answered(await submit(api, run, 1, who=who))
    before = tally(raw, run)

    async def end() -> None:
        await change_enrollment(api, raw)
        await refused(await api.get(run.url, headers=who), 403)

    if when.startswith("before"):
        has_ended = asyncio.Event()

        async def all_but_the_end() -> AsyncIterator[bytes]:
            yield BODY[:-1]
            await has_ended.wait()
            yield BODY[-1:]

        async def end_and_tell() -> None:
            await end()
            has_ended.set()

        monkeypatch.setattr(bodies, "LATE_SECONDS", 60.0)
        once_before(monkeypatch, bodies, "_read_to_end", end_and_tell)
        headers = {**who, "Content-Type": "application/json"}
        answer = await api.post(run.submissions, data=all_but_the_end(), headers=headers)
    else:
        once_in_thread(monkeypatch, api.app[STORE].ballots, "_write", end)
        answer = await submit(api, run, 2, who=who)
    problem = await refused(answer, 403)
    assert problem["detail"] == "You do not have access to this poll session."
    assert tally(raw, run) == before


@pytest.mark.parametrize("service", ["an admin token", "a token with act"])
@pytest.mark.parametrize("change_enrollment", [leave, change_section])
async def test_a_vote_for_a_user_is_refused_when_the_enrollment_of_the_user_ends(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    monkeypatch: pytest.MonkeyPatch,
    change_enrollment: Callable[[Client, Raw], Awaitable[None]],
    service: str,
) -> None:
    run = await course_run(api, raw, section=2)
    await enroll(api, 7, section=2)
    limited = await make_token(user_id=99, actions=["act", "vote"], courses=[COURSE])
    who = None if service == "an admin token" else limited
    once_in_thread(
        monkeypatch, api.app[STORE].ballots, "_write", lambda: change_enrollment(api, raw)
    )
    answer = await submit(api, run, 2, who=who, acting=7, enrolls=False)
    problem = await refused(answer, 403)
    assert problem["detail"] == "You do not have access to this poll session."
    assert tally(raw, run) == {}


@pytest.mark.parametrize("when", ["before its transaction", "within its transaction"])
async def test_a_vote_counts_when_another_enrollment_ends(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    run = await course_run(api, raw)
    await enroll(api, 8)
    other = raw.enrollments.find_one()
    assert other is not None
    who = await a_student(api, make_token)

    async def end() -> None:
        await api.app[STORE].enrollments.delete(COURSE, other["number"])

    if when.startswith("before"):
        once_before(monkeypatch, api.app[STORE].ballots._casts, "_run", end)
    else:
        once_in_thread(monkeypatch, api.app[STORE].ballots, "_write", end)
    await answered(await submit(api, run, 1, who=who))
    assert tally(raw, run) == {"1": 1}


async def test_a_vote_is_refused_when_the_enrollment_ends_while_its_session_is_elsewhere(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw)
    who = await a_student(api, make_token)
    casts = api.app[STORE].ballots._casts
    once_before(monkeypatch, casts, "_run", lambda: move_there_and_back(api, raw, run))
    await refused(await submit(api, run, 1, who=who), 403)
    assert tally(raw, run) == {}


async def test_a_vote_is_refused_when_the_enrollment_ends_as_soon_as_it_was_read(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw)
    who = await a_student(api, make_token)
    stored = api.app[STORE].enrollments
    of_user = stored.of_user

    async def read_then_end(user_id: int) -> list[EnrollmentDocument]:
        found = await of_user(user_id)
        monkeypatch.undo()
        await leave(api, raw)
        return found

    monkeypatch.setattr(stored, "of_user", read_then_end)
    await refused(await submit(api, run, 1, who=who), 403)
    assert tally(raw, run) == {}


async def test_the_end_of_an_enrollment_reaches_a_session_that_comes_into_the_course_meanwhile(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction of that end begins before the session comes, and ends after."""
    run = await course_run(api, raw)
    await enroll_in(api, 7, ELSEWHERE)
    who = await make_token(user_id=7, workspaces=[])
    once_in_thread(monkeypatch, courses, "order", lambda: move(api, run, course_id=ELSEWHERE))
    await leave(api, raw, ELSEWHERE)
    session = raw.sessions.find_one({"_id": run.session})
    assert session is not None
    # Opened, moved, and told of the end.
    assert (session["course_id"], session["rights_changes"]) == (ELSEWHERE, 3)
    await refused(await submit(api, run, 1, who=who), 403)


async def test_the_end_of_an_enrollment_reaches_a_session_that_is_opened_meanwhile(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw, opened=False)
    await enroll(api, 7)
    once_in_thread(monkeypatch, courses, "order", lambda: api.get(f"{run.url}/open"))
    await leave(api, raw)
    session = raw.sessions.find_one({"_id": run.session})
    assert session is not None
    assert (session["is_published"], session["rights_changes"]) == (True, 2)


async def test_a_vote_is_refused_when_the_enrollment_ends_while_its_session_is_closed(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw)
    who = await a_student(api, make_token)

    async def end_between_close_and_open() -> None:
        await answered(await api.get(f"{run.url}/close"))
        await leave(api, raw)
        await answered(await api.get(f"{run.url}/open"))

    casts = api.app[STORE].ballots._casts
    once_before(monkeypatch, casts, "_run", end_between_close_and_open)
    await refused(await submit(api, run, 1, who=who), 403)
    assert tally(raw, run) == {}


async def test_the_end_of_an_enrollment_writes_open_sessions_alone(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    """A course may have very many that are closed: more than one transaction can write in time."""
    closed = await course_run(api, raw, opened=False)
    opened = await another_session(api, closed)
    before = raw.sessions.find_one({"_id": closed.session})
    who = await a_student(api, make_token)
    await leave(api, raw)
    assert raw.sessions.find_one({"_id": closed.session}) == before
    await answered(await api.get(f"{closed.url}/open"))
    for run in (closed, opened):
        await refused(await submit(api, run, 1, who=who), 403)


@pytest.mark.parametrize("when", ["before the transaction", "within the transaction"])
@pytest.mark.parametrize("teaches_elsewhere", [False, True])
async def test_a_poll_is_made_by_those_who_are_teachers_when_it_is_stored(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    monkeypatch: pytest.MonkeyPatch,
    teaches_elsewhere: bool,
    when: str,
) -> None:
    await enroll_in(api, 7, COURSE, "TeacherEnrollment")
    if teaches_elsewhere:
        await enroll_in(api, 7, ELSEWHERE, "TaEnrollment")
    who = await make_token(user_id=7, workspaces=[])
    if when.startswith("before"):
        database = api.app[STORE].database
        once_before(monkeypatch, database, "transaction", lambda: leave(api, raw))
    else:
        once_in_thread(monkeypatch, courses, "order", lambda: leave(api, raw))
    answer = await api.post("/api/v1/polls", json={"polls": [{"question": "?"}]}, headers=who)
    if teaches_elsewhere:
        await answered(answer)
    else:
        problem = await refused(answer, 403)
        assert problem["detail"] == "Only teachers may create polls."
    assert raw.containers.count_documents({}) == int(teaches_elsewhere)


@pytest.mark.parametrize("when", ["before the transaction", "within the transaction"])
@pytest.mark.parametrize("what", ["post", "put"])
async def test_a_session_does_not_come_into_a_course_that_its_manager_no_longer_teaches(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    when: str,
) -> None:
    run = await course_run(api, raw)
    raw.containers.update_one({}, {"$set": {"owner_id": 7, "polls.0.owner_id": 7}})
    raw.sessions.update_one({}, {"$set": {"owner_id": 7}})
    await enroll_in(api, 7, ELSEWHERE, "TeacherEnrollment")
    who = await make_token(user_id=7, workspaces=[])

    async def end() -> None:
        await leave(api, raw, ELSEWHERE)

    if when.startswith("before"):
        once_before(monkeypatch, api.app[STORE].database, "transaction", end)
    else:
        once_in_thread(monkeypatch, courses, "order", end)
    url = run.url if what == "put" else f"{run.poll_url}/poll_sessions"
    body = {"poll_sessions": [{"course_id": ELSEWHERE}]}
    problem = await refused(await api.request(what, url, json=body, headers=who), 403)
    assert problem["detail"] == f"You do not teach the course {ELSEWHERE}."
    assert [one["course_id"] for one in raw.sessions.find()] == [COURSE]


async def test_a_vote_whose_rights_never_stop_changing_is_a_503_in_time(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw)
    who = await a_student(api, make_token)
    ballots = api.app[STORE].ballots
    cast, tries = ballots.cast, count()

    async def cast_changed(vote: Vote) -> Cast:
        next(tries)
        raw.sessions.update_one({"_id": run.session}, {"$inc": {"rights_changes": 1}})
        return await cast(vote)

    monkeypatch.setattr(ballots, "cast", cast_changed)
    monkeypatch.setattr(scope, "LIMIT_SECONDS", 0.3)
    await refused(await submit(api, run, 1, who=who), 503)
    assert next(tries) > 1
    assert tally(raw, run) == {}


async def test_of_a_vote_and_the_end_of_its_enrollment_at_once_the_vote_is_first_or_refused(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    who = await a_student(api, make_token)

    async def end_and_look() -> Json:
        await leave(api, raw)
        return tally(raw, run)

    for _ in range(ROUNDS):
        voted, seen = await asyncio.gather(submit(api, run, 1, who=who), end_and_look())
        assert (voted.status, seen) in [(200, {"1": 1}), (403, {})]
        assert tally(raw, run) == seen
        raw.ballots.delete_many({})
        start = {"results.1": 0, "participants": 0}
        raw.sessions.update_one({"_id": run.session}, {"$set": start})
        await enroll(api, 7)


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
