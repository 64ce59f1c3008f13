"""Sessions of a poll: every route by what it does (docs/api.md, sections 4 and 5)."""

from typing import Any

import pytest

from tests.conftest import Client, Raw, TokenMaker
from tests.support.polling import (
    API,
    call,
    enroll,
    listed,
    make_choice,
    make_poll,
    make_session,
    seed_votes,
    stored_session,
    teacher_of,
)


async def test_a_new_session_is_shown_to_its_maker_with_all_members(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    teacher = await teacher_of(api, make_token, course_id=5)
    poll = await make_poll(api, "yes", "no", headers=teacher)
    body = {"poll_sessions": [{"course_id": 5, "course_section_id": "6", "is_published": True}]}
    path = f"{API}/polls/{poll['id']}/poll_sessions"
    made = await call(api, "POST", path, json=body, headers=teacher)
    shown = {
        "id": 1,
        "poll_id": poll["id"],
        "course_id": 5,
        "course_section_id": 6,
        "is_published": False,
        "created_at": "2126-01-31T12:00:00Z",
        "has_submitted": False,
        "poll_submissions": [],
        "has_public_results": False,
        "results": {"1": 0, "2": 0},
    }
    assert made == {"poll_sessions": [shown]}
    assert await call(api, "GET", f"{path}/1", headers=teacher) == made
    (row,) = await listed(api, path, headers=teacher)
    assert row == {**shown, "poll_submissions": None}
    included = await listed(api, path, headers=teacher, **{"include[]": "poll_submissions"})
    assert included == [shown]
    stored = stored_session(raw, 1)
    assert (stored["course_id"], stored["course_section_id"]) == (5, 6)
    assert stored["rules"]["options"] == ["1", "2"]
    assert stored["rules"]["settings"]["saveParticipantNames"] is True


@pytest.mark.parametrize(
    "request_body",
    [
        {"data": {"poll_sessions[][course_id]": "1", "poll_sessions[][has_public_results]": "1"}},
        {"data": {"poll_session[course_id]": "1", "poll_session[has_public_results]": "True"}},
        {"json": {"poll_session": {"course_id": "1", "has_public_results": "true"}}},
    ],
)
async def test_a_session_is_read_from_json_and_forms(
    api: Client, raw: Raw, request_body: dict[str, Any]
) -> None:
    await make_poll(api)
    made = await call(api, "POST", f"{API}/polls/1/poll_sessions", **request_body)
    assert made["poll_sessions"][0]["has_public_results"] is True
    assert stored_session(raw, 1)["has_public_results"] is True


@pytest.mark.parametrize(
    ("session", "field"),
    [
        ({}, "course_id"),
        ({"course_id": None}, "course_id"),
        ({"course_id": 0}, "course_id"),
        ({"course_id": True}, "course_id"),
        ({"course_id": "01"}, "course_id"),
        ({"course_id": 1.5}, "course_id"),
        ({"course_id": 2**53}, "course_id"),
        ({"course_id": 1, "course_section_id": "x"}, "course_section_id"),
        ({"course_id": 1, "has_public_results": "perhaps"}, "has_public_results"),
    ],
)
async def test_a_session_that_is_not_valid_is_refused_and_not_stored(
    api: Client, raw: Raw, session: dict[str, Any], field: str
) -> None:
    await make_poll(api)
    path = f"{API}/polls/1/poll_sessions"
    problem = await call(api, "POST", path, 400, json={"poll_sessions": [session]})
    assert [fault["field"] for fault in problem["errors"]] == [f"poll_sessions[0].{field}"]
    problem = await call(api, "POST", path, 400, json={})
    assert problem["detail"] == "poll_sessions is missing"
    assert raw.sessions.count_documents({}) == 0


async def test_a_session_is_made_only_in_a_course_that_its_maker_teaches(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    owner = await teacher_of(api, make_token, user_id=7, course_id=1)
    await enroll(api, 7, 2)  # a student there
    poll = await make_poll(api, headers=owner)
    path = f"{API}/polls/{poll['id']}/poll_sessions"
    for course_id in (2, 3):
        body = {"poll_sessions": [{"course_id": course_id}]}
        await call(api, "POST", path, 403, json=body, headers=owner)
    colleague = await teacher_of(api, make_token, user_id=8, course_id=1)
    body = {"poll_sessions": [{"course_id": 1}]}
    await call(api, "POST", path, 403, json=body, headers=colleague)
    await call(api, "GET", path, 403, headers=colleague)
    assert raw.sessions.count_documents({}) == 0


async def test_sessions_are_listed_by_id_for_their_poll_alone(api: Client, raw: Raw) -> None:
    first, second = await make_poll(api), await make_poll(api)
    made = [await make_session(api, poll["id"]) for poll in (first, second, first)]
    rows = await listed(api, f"{API}/polls/{first['id']}/poll_sessions")
    assert [row["id"] for row in rows] == [made[0]["id"], made[2]["id"]]
    elsewhere = f"{API}/polls/{first['id']}/poll_sessions/{made[1]['id']}"
    for method in ("GET", "PUT", "DELETE"):
        body = {"poll_sessions": [{"has_public_results": True}]}
        await call(api, method, elsewhere, 404, json=body)
    for action in ("open", "close"):
        await call(api, "GET", f"{elsewhere}/{action}", 404)
    for reference in ("0", "x", "01", str(2**53), str(2**70)):
        path = f"{API}/polls/{first['id']}/poll_sessions/{reference}"
        for method in ("GET", "DELETE"):
            await call(api, method, path, 404)
        await call(api, "GET", f"{path}/open", 404)
    assert raw.sessions.count_documents({"is_published": False}) == 3


async def test_a_put_changes_what_it_names_and_nothing_else(api: Client, raw: Raw) -> None:
    poll = await make_poll(api)
    session = await make_session(api, poll["id"], course_id=1, course_section_id=2)
    path = f"{API}/polls/{poll['id']}/poll_sessions/{session['id']}"
    before = stored_session(raw, session["id"])
    changed = await call(api, "PUT", path, json={"poll_sessions": {"has_public_results": True}})
    assert changed["poll_sessions"] == [{**session, "has_public_results": True}]
    after = stored_session(raw, session["id"])
    assert after == {**before, "has_public_results": True, "casts": after["casts"]}
    cleared = await call(api, "PUT", path, data={"poll_sessions[][course_section_id]": ""})
    assert cleared["poll_sessions"][0]["course_section_id"] is None
    assert cleared["poll_sessions"][0]["course_id"] == 1
    moved = await call(api, "PUT", path, json={"poll_sessions": {"course_id": 3, "id": 99}})
    assert moved["poll_sessions"][0]["course_id"] == 3
    unchanged = await call(api, "PUT", path, json={"poll_sessions": {"is_published": True}})
    assert unchanged == moved
    nothing = {"course_id": None, "course_section_id": None, "has_public_results": None}
    assert await call(api, "PUT", path, json={"poll_sessions": nothing}) == moved
    for wrong in ({"course_id": 0}, {"course_id": ""}, {"has_public_results": ""}):
        await call(api, "PUT", path, 400, json={"poll_sessions": wrong})
    stored = stored_session(raw, session["id"])
    assert (stored["course_id"], stored["course_section_id"]) == (3, None)
    assert stored["is_published"] is False


async def test_a_session_with_submissions_stays_in_its_course_and_section(
    api: Client, raw: Raw
) -> None:
    poll = await make_poll(api, "yes")
    session = await make_session(api, poll["id"], course_id=1, course_section_id=2)
    seed_votes(raw, session["id"], {"1": 1}, 1)
    path = f"{API}/polls/{poll['id']}/poll_sessions/{session['id']}"
    before = stored_session(raw, session["id"])
    for changes in (
        {"course_id": 3},
        {"course_section_id": 4},
        {"course_section_id": "", "has_public_results": True},
    ):
        await call(api, "PUT", path, 409, json={"poll_sessions": changes})
    assert stored_session(raw, session["id"]) == before
    same = {"course_id": 1, "course_section_id": 2, "has_public_results": True}
    kept = await call(api, "PUT", path, json={"poll_sessions": same})
    assert kept["poll_sessions"][0]["has_public_results"] is True
    assert kept["poll_sessions"][0]["results"] == {"1": 1}


async def test_a_session_moves_only_to_a_course_that_the_caller_teaches(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    owner = await teacher_of(api, make_token, user_id=7, course_id=1)
    await enroll(api, 7, 2)
    poll = await make_poll(api, headers=owner)
    session = await make_session(api, poll["id"], headers=owner)
    path = f"{API}/polls/{poll['id']}/poll_sessions/{session['id']}"
    before = stored_session(raw, session["id"])
    for course_id in (2, 3):
        body = {"poll_sessions": {"course_id": course_id}}
        await call(api, "PUT", path, 403, json=body, headers=owner)
    assert stored_session(raw, session["id"]) == before
    await teacher_of(api, make_token, user_id=7, course_id=3)
    moved = await call(api, "PUT", path, json=body, headers=owner)
    assert moved["poll_sessions"][0]["course_id"] == 3
    assert stored_session(raw, session["id"])["course_id"] == 3


async def test_a_deleted_session_is_gone_and_no_other_is(api: Client, raw: Raw) -> None:
    poll = await make_poll(api)
    gone, stays = [await make_session(api, poll["id"]) for _ in range(2)]
    path = f"{API}/polls/{poll['id']}/poll_sessions/{gone['id']}"
    await call(api, "DELETE", path, 204)
    for method in ("GET", "DELETE"):
        await call(api, method, path, 404)
    assert [session["_id"] for session in raw.sessions.find()] == [stays["id"]]


async def test_every_session_gets_a_new_choice_in_its_results(api: Client, raw: Raw) -> None:
    poll = await make_poll(api, "yes")
    sessions = [await make_session(api, poll["id"]) for _ in range(2)]
    seed_votes(raw, sessions[0]["id"], {"1": 4}, 4)
    await make_choice(api, poll["id"], text="no")
    rows = await listed(api, f"{API}/polls/{poll['id']}/poll_sessions")
    assert [row["results"] for row in rows] == [{"1": 4, "2": 0}, {"1": 0, "2": 0}]
    assert [one["rules"]["options"] for one in raw.sessions.find()] == [["1", "2"]] * 2


async def test_results_of_a_session_are_for_managers_and_for_all_where_they_are_public(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    poll = await make_poll(api, "yes", "no")
    hidden = await make_session(api, poll["id"])
    public = await make_session(api, poll["id"], has_public_results=True)
    for session in (hidden, public):
        seed_votes(raw, session["id"], {"1": 2, "2": 1}, 3)
    await enroll(api, 9, 1)
    student = await make_token(user_id=9, workspaces=[])
    path = f"{API}/polls/{poll['id']}/poll_sessions"
    (seen,) = await listed(api, f"{path}/{hidden['id']}", headers=student)
    assert not {"results", "has_public_results"} & set(seen)
    (seen,) = await listed(api, f"{path}/{public['id']}", headers=student)
    assert seen["results"] == {"1": 2, "2": 1}
    assert seen["has_public_results"] is True
    await call(api, "GET", path, 403, headers=student)
    # Where absolute numbers are hidden, shares take the place of counts.
    place = {"type": "polls", "workspace": "users", "content": "0", "container": str(poll["id"])}
    (content,) = await call(api, "GET", "/rest", params=place)
    body = {**content, "settings": {"hideAbsoluteNumbers": True}}
    await call(api, "PUT", "/rest", params={**place, "pollId": content["id"]}, json=body)
    (seen,) = await listed(api, f"{path}/{public['id']}", headers=student)
    assert "results" not in seen
    assert seen["result_shares"] == {"1": 67, "2": 33}
    (managed,) = await listed(api, f"{path}/{public['id']}")
    assert managed["results"] == {"1": 2, "2": 1}


async def test_a_content_poll_has_one_standing_session_that_can_be_closed_and_opened_only(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    place = {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"}
    body = {"title": "Tea?", "options": [{"title": "yes"}]}
    content = await call(api, "POST", "/rest", params=place, json=body)
    path = f"{API}/polls/{content['id']}/poll_sessions"
    (standing,) = await listed(api, path)
    assert (standing["course_id"], standing["course_section_id"]) == (None, None)
    assert standing["is_published"] is True
    assert standing["results"] == {"1": 0}
    writer = await make_token(user_id=5, workspaces=["PLAT"])
    assert await listed(api, path, headers=writer) == [standing]
    reader = await make_token(user_id=6, workspaces=["PLAT"], actions=["read"])
    await call(api, "GET", path, 403, headers=reader)
    one = f"{path}/{standing['id']}"
    (seen,) = await listed(api, one, headers=reader)
    assert seen["course_id"] is None

    before = stored_session(raw, standing["id"])
    changes = {"poll_sessions": {"has_public_results": True}}
    await call(api, "PUT", one, 409, json=changes)
    await call(api, "PUT", one, 409, json={"poll_sessions": {"course_id": 1}})
    await call(api, "DELETE", one, 409)
    assert stored_session(raw, standing["id"]) == before
    (closed,) = await listed(api, f"{one}/close")
    assert closed["is_published"] is False
    assert stored_session(raw, standing["id"])["is_published"] is False
    for state in ("opened", "closed"):
        assert await listed(api, f"{API}/poll_sessions/{state}", headers=writer) == []
    (opened,) = await listed(api, f"{one}/open", headers=writer)
    assert opened["is_published"] is True
    assert stored_session(raw, standing["id"])["is_published"] is True
