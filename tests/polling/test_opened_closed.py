"""Opening, closing, end dates, and the lists of opened and closed sessions."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.polling import (
    API,
    STUDENT,
    TA,
    TEACHER,
    Headers,
    call,
    enroll,
    listed,
    make_poll,
    make_session,
    stored_session,
    teacher_of,
)

END = "2126-01-31T18:00:00+01:00"
BEFORE_END = datetime(2126, 1, 31, 16, 59, 59, 999_999, UTC)
AT_END = datetime(2126, 1, 31, 17, 0, 0, tzinfo=UTC)


def everything(raw: Raw) -> dict[int, dict[str, Any]]:
    return {session["_id"]: session for session in raw.sessions.find()}


def noted_end(session: dict[str, Any]) -> dict[str, Any]:
    rules = {**session["rules"], "has_ended": True}
    return {**session, "rules": rules, "casts": session["casts"] + 1, "closed_at": AT_END}


async def found(api: Client, headers: Headers) -> tuple[list[int], list[int]]:
    """The ids of a user's opened and closed sessions."""
    opened = await listed(api, f"{API}/poll_sessions/opened", headers=headers)
    closed = await listed(api, f"{API}/poll_sessions/closed", headers=headers)
    assert all(session["is_published"] for session in opened)
    assert not any(session["is_published"] for session in closed)
    return [one["id"] for one in opened], [one["id"] for one in closed]


async def set_end(api: Client, number: int, **settings: Any) -> None:
    place = {"type": "polls", "workspace": "users", "content": "0", "container": str(number)}
    (poll,) = await call(api, "GET", "/rest", params=place)
    address = {**place, "pollId": poll["id"]}
    body = {**poll, "settings": {**poll["settings"], **settings}}
    await call(api, "PUT", "/rest", params=address, json=body)


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_opening_and_closing_touch_that_session_alone_and_may_be_repeated(
    api: Client, raw: Raw, clock: Clock, method: str
) -> None:
    poll = await make_poll(api, "yes")
    other = await make_poll(api)
    ids = [(await make_session(api, poll["id"]))["id"] for _ in range(3)]
    await make_session(api, other["id"])
    before = everything(raw)
    containers = list(raw.containers.find())
    one = f"{API}/polls/{poll['id']}/poll_sessions/{ids[1]}"
    for step, (action, is_published) in enumerate(
        (("open", True), ("open", True), ("close", False)) * 2
    ):
        (shown,) = (await call(api, method, f"{one}/{action}"))["poll_sessions"]
        assert (shown["id"], shown["is_published"]) == (ids[1], is_published)
        after = everything(raw)
        assert after.pop(ids[1]) == {
            **before[ids[1]],
            "is_published": is_published,
            "casts": stored_session(raw, ids[1])["casts"],
            "rights_changes": 1 + step // 3,  # each time that it is really opened
            **({} if is_published else {"closed_at": clock.now}),
        }
        assert after == {key: kept for key, kept in before.items() if key != ids[1]}
    assert list(raw.containers.find()) == containers


async def test_a_head_request_opens_and_closes_nothing(api: Client, raw: Raw) -> None:
    await make_poll(api)
    await make_session(api, 1)
    one = f"{API}/polls/1/poll_sessions/1"
    for action in ("open", "close"):
        before = everything(raw)
        answer = await api.head(f"{one}/{action}")
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, PUT"
        assert everything(raw) == before
        await call(api, "PUT", f"{one}/{action}")
    assert (await api.head(one)).status == 200


async def test_only_managers_whose_token_may_write_open_and_close(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    owner = await teacher_of(api, make_token, user_id=7)
    poll = await make_poll(api, headers=owner)
    session = await make_session(api, poll["id"], headers=owner)
    colleague = await teacher_of(api, make_token, user_id=8)
    reading = await make_token(user_id=7, actions=["read"])
    before = everything(raw)
    for headers in (colleague, reading):
        for action in ("open", "close"):
            path = f"{API}/polls/{poll['id']}/poll_sessions/{session['id']}/{action}"
            for method in ("GET", "PUT"):
                await call(api, method, path, 403, headers=headers)
    assert everything(raw) == before
    await call(api, "GET", path.replace("close", "open"), headers=owner)
    assert stored_session(raw, session["id"])["is_published"] is True


async def test_from_its_end_date_on_a_session_reads_as_closed_and_opening_is_refused(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    student = await make_token(user_id=9)
    await enroll(api, 9, 1)
    poll = await make_poll(api, "yes")
    ended, unopened = [await make_session(api, poll["id"]) for _ in range(2)]
    path = f"{API}/polls/{poll['id']}/poll_sessions"
    await call(api, "GET", f"{path}/{ended['id']}/open")
    await set_end(api, poll["id"], closePollOnEndDate=True, endDate=END)

    clock.now = BEFORE_END
    (shown,) = await listed(api, f"{path}/{ended['id']}")
    assert shown["is_published"] is True
    assert await found(api, student) == ([ended["id"]], [unopened["id"]])
    await call(api, "PUT", f"{path}/{ended['id']}/open")

    clock.now = AT_END
    before = everything(raw)
    (shown,) = await listed(api, f"{path}/{ended['id']}")
    assert shown["is_published"] is False
    assert [row["is_published"] for row in await listed(api, path)] == [False, False]
    assert await found(api, student) == ([], [ended["id"], unopened["id"]])
    for session in (ended, unopened):
        for method in ("GET", "PUT"):
            await call(api, method, f"{path}/{session['id']}/open", 409)
    # No job has run, and the requests have noted the end, once.
    assert everything(raw) == {number: noted_end(session) for number, session in before.items()}
    (shown,) = await listed(api, f"{path}/{ended['id']}/close")
    assert shown["is_published"] is False


async def test_an_end_date_that_closes_nothing_is_only_shown(
    api: Client, raw: Raw, clock: Clock
) -> None:
    poll = await make_poll(api)
    session = await make_session(api, poll["id"])
    await set_end(api, poll["id"], closePollOnEndDate=False, endDate=END)
    clock.now = AT_END
    one = f"{API}/polls/{poll['id']}/poll_sessions/{session['id']}"
    (shown,) = await listed(api, f"{one}/open")
    assert shown["is_published"] is True
    assert stored_session(raw, session["id"])["rules"]["closes_at"] is None


async def test_a_changed_end_date_moves_the_sessions_that_are_there(
    api: Client, raw: Raw, clock: Clock
) -> None:
    poll = await make_poll(api)
    session = await make_session(api, poll["id"])
    path = f"{API}/polls/{poll['id']}/poll_sessions/{session['id']}"
    await call(api, "GET", f"{path}/open")
    clock.now = AT_END
    for end, is_open in (
        (END, False),
        ("2126-01-31T17:00:01Z", True),
        ("2126-01-31T16:59:59Z", False),
    ):
        await set_end(api, poll["id"], closePollOnEndDate=True, endDate=end)
        (shown,) = await listed(api, path)
        assert shown["is_published"] is is_open
    await set_end(api, poll["id"], closePollOnEndDate=False)
    (shown,) = await listed(api, path)
    assert shown["is_published"] is True
    assert stored_session(raw, session["id"])["rules"]["closes_at"] is None


async def test_opened_and_closed_follow_the_enrollments(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    await make_poll(api, "yes")
    course, section_1, section_2, elsewhere = [
        (await make_session(api, 1, course_id=course_id, course_section_id=section))["id"]
        for course_id, section in ((1, None), (1, 11), (1, 12), (2, None))
    ]
    for session_id in (course, section_1, elsewhere):
        await call(api, "PUT", f"{API}/polls/1/poll_sessions/{session_id}/open")
    # Section 12 was never opened: it counts as closed.
    expected: dict[tuple[str, int | None], tuple[list[int], list[int]]] = {
        (STUDENT, None): ([course], []),
        (STUDENT, 11): ([course, section_1], []),
        (STUDENT, 12): ([course], [section_2]),
        (TEACHER, None): ([course, section_1], [section_2]),
        (TA, None): ([course, section_1], [section_2]),
        (TEACHER, 11): ([course, section_1], []),
        (TA, 12): ([course], [section_2]),
    }
    for user_id, ((kind, section), sessions) in enumerate(expected.items(), start=20):
        user = await make_token(user_id=user_id, workspaces=[])
        assert await found(api, user) == ([], [])
        enrollment = await enroll(api, user_id, 1, kind, section)
        assert await found(api, user) == sessions, (kind, section)
        reached = {session_id for state in sessions for session_id in state}
        for session_id in (course, section_1, section_2, elsewhere):
            status = 200 if session_id in reached else 403
            path = f"{API}/polls/1/poll_sessions/{session_id}"
            await call(api, "GET", path, status, headers=user)
        await call(api, "DELETE", f"{API}/courses/1/enrollments/{enrollment['id']}")
        assert await found(api, user) == ([], [])
    assert raw.enrollments.count_documents({}) == 0


async def test_two_enrollments_reach_what_either_reaches(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    await make_poll(api)
    for course_id, section in ((1, 11), (1, 12), (1, 13), (2, 21), (3, None)):
        await make_session(api, 1, course_id=course_id, course_section_id=section)
    user = await make_token(user_id=9)
    for course_id, kind, section in ((1, STUDENT, 11), (1, TA, 13), (2, STUDENT, 99)):
        await enroll(api, 9, course_id, kind, section)
    assert await found(api, user) == ([], [1, 3])
    await enroll(api, 9, 1, TEACHER)
    assert await found(api, user) == ([], [1, 2, 3])
    assert raw.sessions.count_documents({"is_published": True}) == 0


async def test_submissions_are_null_in_these_lists_unless_they_are_included(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    await make_poll(api, "yes")
    await make_session(api, 1, has_public_results=True)
    await enroll(api, 9, 1)
    user = await make_token(user_id=9)
    path = f"{API}/poll_sessions/closed"
    (row,) = await listed(api, path, headers=user)
    assert row["poll_submissions"] is None
    assert row["has_submitted"] is False
    assert row["results"] == {"1": 0}
    (row,) = await listed(api, path, headers=user, **{"include[]": "poll_submissions"})
    assert row["poll_submissions"] == []
    (row,) = await listed(api, path, headers=user, **{"include[]": "results"})
    assert row["poll_submissions"] is None
    assert stored_session(raw, 1)["participants"] == 0
