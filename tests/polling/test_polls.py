"""Polls of the polling API: every route by what it does (docs/api.md, section 4)."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.polling import (
    API,
    STUDENT,
    call,
    enroll,
    listed,
    make_poll,
    make_session,
    seed_votes,
    stored_poll,
    teacher_of,
)

STRING_IDS = {"Accept": "application/json+canvas-string-ids"}
DEFAULTS = {
    "allowSelectionOfMultipleOptions": False,
    "resultsVisibility": "alwaysPublic",
    "endDate": "",
    "hideAbsoluteNumbers": False,
    "allowRevote": False,
    "saveParticipantNames": True,
    "closePollOnEndDate": False,
    "allowComment": False,
}


async def test_a_new_poll_is_shown_to_its_maker_with_all_members(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    clock.now = datetime(2014, 1, 7, 16, 16, 18, 900_000, timezone(timedelta(hours=1)))
    teacher = await teacher_of(api, make_token, user_id=7)
    poll = await make_poll(api, headers=teacher, question="Tea?", description="or coffee")
    assert poll == {
        "id": 1,
        "question": "Tea?",
        "description": "or coffee",
        "created_at": "2014-01-07T15:16:18Z",
        "user_id": 7,
        "total_results": {},
    }
    assert type(poll["id"]) is int
    stored = stored_poll(raw, 1)
    assert (stored["title"], stored["description"], stored["owner_id"]) == (
        "Tea?",
        "or coffee",
        7,
    )
    assert raw.sessions.count_documents({}) == 0  # no standing session


async def test_a_poll_made_here_saves_names_and_has_the_other_settings_at_their_defaults(
    api: Client, raw: Raw
) -> None:
    poll = await make_poll(api)
    stored = stored_poll(raw, poll["id"])
    assert stored["settings"] == DEFAULTS
    assert stored["closes_at"] is None
    assert stored["options"] == []
    assert poll["description"] == ""


async def test_every_id_is_a_string_for_clients_that_accept_string_ids(api: Client) -> None:
    poll = await make_poll(api, "yes")
    session = await make_session(api, poll["id"], course_id=5, course_section_id=6)
    path = f"{API}/polls/{poll['id']}"
    shown = await call(api, "GET", path, headers=STRING_IDS)
    assert (shown["polls"][0]["id"], shown["polls"][0]["user_id"]) == ("1", "0")
    choices = await listed(api, f"{path}/poll_choices", headers=STRING_IDS)
    assert (choices[0]["id"], choices[0]["poll_id"]) == ("1", "1")
    assert choices[0]["position"] == 1
    sessions = await listed(api, f"{path}/poll_sessions", headers=STRING_IDS)
    ids = ("id", "poll_id", "course_id", "course_section_id")
    assert [sessions[0][name] for name in ids] == [str(session["id"]), "1", "5", "6"]
    enrollment = {"enrollment": {"user_id": 9}}
    enrolled = await call(
        api, "POST", f"{API}/courses/5/enrollments", json=enrollment, headers=STRING_IDS
    )
    assert (enrolled["id"], enrolled["user_id"], enrolled["course_id"]) == ("1", "9", "5")
    assert enrolled["course_section_id"] is None


async def test_numbers_are_small_and_rise_and_no_delete_makes_them_come_again(
    api: Client, raw: Raw
) -> None:
    first = [(await make_poll(api))["id"] for _ in range(3)]
    assert first == [1, 2, 3]
    for number in (3, 2):
        await call(api, "DELETE", f"{API}/polls/{number}", 204)
    assert (await make_poll(api))["id"] == 4
    sessions = [(await make_session(api, 1))["id"] for _ in range(2)]
    assert sessions == [1, 2]
    await call(api, "DELETE", f"{API}/polls/1/poll_sessions/2", 204)
    assert (await make_session(api, 1))["id"] == 3
    assert raw.containers.count_documents({}) == 2


@pytest.mark.parametrize(
    ("poll", "field"),
    [
        ({}, "polls[0].question"),
        ({"question": ""}, "polls[0].question"),
        ({"question": None}, "polls[0].question"),
        ({"question": "x" * 256}, "polls[0].question"),
        ({"question": 5}, "polls[0].question"),
        ({"question": "Tea?", "description": "x" * 4001}, "polls[0].description"),
    ],
)
async def test_a_poll_that_is_not_valid_is_refused_and_not_stored(
    api: Client, raw: Raw, poll: dict[str, Any], field: str
) -> None:
    body = await call(api, "POST", f"{API}/polls", 400, json={"polls": [poll]})
    assert [fault["field"] for fault in body["errors"]] == [field]
    assert raw.containers.count_documents({}) == 0


@pytest.mark.parametrize("body", [{}, {"polls": []}, {"questions": "Tea?"}])
async def test_a_body_without_a_poll_is_refused_by_name(
    api: Client, raw: Raw, body: dict[str, Any]
) -> None:
    problem = await call(api, "POST", f"{API}/polls", 400, json=body)
    assert problem["errors"] == [{"field": "polls", "message": "polls is missing"}]
    assert raw.containers.count_documents({}) == 0


@pytest.mark.parametrize(
    "request_body",
    [
        {"json": {"polls": {"question": "Tea?", "id": 99, "user_id": 3, "colour": "red"}}},
        {"json": {"poll": [{"question": "Tea?", "choices": ["yes"]}]}},
        {"data": {"polls[][question]": "Tea?", "polls[][description]": ""}},
        {"data": {"poll[question]": "Tea?"}},
    ],
)
async def test_a_poll_is_read_from_json_and_forms_and_other_members_are_ignored(
    api: Client, raw: Raw, request_body: dict[str, Any]
) -> None:
    made = await call(api, "POST", f"{API}/polls", **request_body)
    assert [(poll["id"], poll["question"], poll["user_id"]) for poll in made["polls"]] == [
        (1, "Tea?", 0)
    ]
    assert raw.containers.count_documents({}) == 1


async def test_a_poll_is_found_by_number_and_by_uuid_in_either_case(api: Client, raw: Raw) -> None:
    poll = await make_poll(api)
    identifier = stored_poll(raw, poll["id"])["id"]
    for reference in (poll["id"], identifier, identifier.upper()):
        assert await call(api, "GET", f"{API}/polls/{reference}") == {"polls": [poll]}


@pytest.mark.parametrize(
    "reference",
    [
        "2",
        "0",
        "01",
        "-1",
        "1.0",
        str(2**53),
        "9" * 30,
        "x",
        "0b5a4b1c-3d2e-4f60-8a7b-9c0d1e2f3a4b",
        "%00",
    ],
)
async def test_a_path_that_names_no_poll_is_a_404_for_every_route(
    api: Client, raw: Raw, reference: str
) -> None:
    await make_poll(api)
    path = f"{API}/polls/{reference}"
    body = {"polls": [{"question": "Coffee?"}]}
    for method in ("GET", "PUT", "DELETE"):
        await call(api, method, path, 404, json=body)
    for method in ("GET", "POST"):
        await call(api, method, f"{path}/poll_choices", 404, json=body)
        await call(api, method, f"{path}/poll_sessions", 404, json=body)
    assert stored_poll(raw, 1)["title"] == "Tea?"


async def test_a_put_changes_what_it_names_and_nothing_else(api: Client, raw: Raw) -> None:
    poll = await make_poll(api, "yes", description="hot")
    path = f"{API}/polls/{poll['id']}"
    before = stored_poll(raw, poll["id"])
    changed = await call(api, "PUT", path, json={"polls": [{"question": "Coffee?"}]})
    assert changed["polls"] == [{**poll, "question": "Coffee?", "total_results": {"1": 0}}]
    after = stored_poll(raw, poll["id"])
    assert after == {
        **before,
        "title": "Coffee?",
        "version": before["version"] + 1,
        "stamp": after["stamp"],
    }
    cleared = await call(api, "PUT", path, data={"polls[][description]": ""})
    assert cleared["polls"][0]["description"] == ""
    assert stored_poll(raw, poll["id"])["title"] == "Coffee?"
    kept = await call(api, "PUT", path, data={"polls[][question]": "", "polls[][id]": "9"})
    assert kept["polls"][0]["question"] == "Coffee?"


async def test_a_null_changes_nothing(api: Client) -> None:
    poll = await make_poll(api, description="hot")
    session = await make_session(api, poll["id"], course_section_id=3)
    path = f"{API}/polls/{poll['id']}"
    changed = await call(api, "PUT", path, json={"polls": [{"description": None}]})
    assert changed["polls"][0]["description"] == "hot"
    nothing = {"poll_sessions": [{"course_section_id": None}]}
    changed = await call(api, "PUT", f"{path}/poll_sessions/{session['id']}", json=nothing)
    assert changed["poll_sessions"][0]["course_section_id"] == 3


@pytest.mark.parametrize("changes", [{"question": ""}, {"question": 5}, {"description": 5}])
async def test_a_put_that_is_not_valid_changes_nothing(
    api: Client, raw: Raw, changes: dict[str, Any]
) -> None:
    await make_poll(api)
    before = stored_poll(raw, 1)
    await call(api, "PUT", f"{API}/polls/1", 400, json={"polls": [changes]})
    assert stored_poll(raw, 1) == before


async def test_a_deleted_poll_is_gone_with_its_sessions_and_no_other_poll_is(
    api: Client, raw: Raw
) -> None:
    gone, stays = await make_poll(api), await make_poll(api)
    for poll in (gone, stays):
        await make_session(api, poll["id"])
    await call(api, "DELETE", f"{API}/polls/{gone['id']}", 204)
    for method in ("GET", "DELETE"):
        await call(api, method, f"{API}/polls/{gone['id']}", 404)
    assert await listed(api, f"{API}/polls") == [stays]
    assert [one["polls"][0]["number"] for one in raw.containers.find()] == [stays["id"]]
    assert raw.sessions.distinct("poll_number") == [stays["id"]]


async def test_a_list_has_the_callers_own_polls_newest_first(
    api: Client, make_token: TokenMaker
) -> None:
    ada = await teacher_of(api, make_token, user_id=7)
    bob = await teacher_of(api, make_token, user_id=8)
    mine = [await make_poll(api, headers=ada) for _ in range(3)]
    other = await make_poll(api, headers=bob)
    assert await listed(api, f"{API}/polls", headers=ada) == mine[::-1]
    assert await listed(api, f"{API}/polls", headers=bob) == [other]
    assert await listed(api, f"{API}/polls", as_user_id=7) == mine[::-1]
    place = {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"}
    elsewhere = {"title": "Elsewhere?", "options": [{"title": "yes"}]}
    await call(api, "POST", "/rest", params={**place, "as_user_id": 7}, json=elsewhere)
    assert await listed(api, f"{API}/polls", headers=ada) == mine[::-1]


async def test_only_teachers_and_admins_make_polls(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    await enroll(api, 9, 1, STUDENT)
    student = await make_token(user_id=9)
    body = {"polls": [{"question": "Tea?"}]}
    await call(api, "POST", f"{API}/polls", 403, json=body, headers=student)
    assert raw.containers.count_documents({}) == 0
    assert await listed(api, f"{API}/polls", headers=student) == []


async def test_a_poll_is_managed_by_its_owner_and_read_without_results_by_readers_of_a_session(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    owner = await teacher_of(api, make_token, user_id=7)
    poll = await make_poll(api, "yes", headers=owner)
    colleague = await teacher_of(api, make_token, user_id=8)
    stranger = await teacher_of(api, make_token, user_id=9, course_id=2)
    path = f"{API}/polls/{poll['id']}"
    await call(api, "GET", path, 403, headers=colleague)
    await make_session(api, poll["id"], headers=owner)
    seen = await call(api, "GET", path, headers=colleague)
    assert set(seen["polls"][0]) == {"id", "question", "description", "created_at"}
    await call(api, "GET", path, 403, headers=stranger)
    before = stored_poll(raw, poll["id"])
    for headers in (colleague, stranger):
        await call(api, "PUT", path, 403, headers=headers, json={"polls": [{"question": "x"}]})
        await call(api, "DELETE", path, 403, headers=headers)
    assert stored_poll(raw, poll["id"]) == before


async def test_total_results_sum_over_all_sessions_the_standing_one_included(
    api: Client, raw: Raw
) -> None:
    place = {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"}
    content_poll = {"title": "Tea?", "options": [{"title": "yes"}, {"id": "a-b", "title": "no"}]}
    await call(api, "POST", "/rest", params=place, json=content_poll)
    session = await make_session(api, 1)
    seed_votes(raw, 1, {"1": 3, "a-b": 1}, 4)
    seed_votes(raw, session["id"], {"1": 2}, 2)
    seen = await call(api, "GET", f"{API}/polls/1")
    assert seen["polls"][0]["total_results"] == {"1": 5, "a-b": 1}
    own = await make_poll(api, "yes", "no")
    first, second = [await make_session(api, own["id"]) for _ in range(2)]
    seed_votes(raw, first["id"], {"1": 1}, 1)
    seed_votes(raw, second["id"], {"1": 2, "2": 4}, 6)
    polls = await listed(api, f"{API}/polls")
    assert [poll["total_results"] for poll in polls] == [{"1": 3, "2": 4}]
