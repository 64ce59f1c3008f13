"""Enrollments, users and courses (docs/api.md, section 4): bare objects, no envelopes."""

import asyncio
from typing import Any

import pytest
from yarl import URL

from tests.conftest import Client, Raw, TokenMaker
from tests.support.heard import Heard
from tests.support.polling import API, STUDENT, TA, TEACHER, call, enroll

COURSE = f"{API}/courses/5/enrollments"


async def test_an_enrollment_is_a_bare_object_with_all_members(api: Client, raw: Raw) -> None:
    body = {"enrollment": {"user_id": 9, "type": TA, "course_section_id": 3}}
    made = await call(api, "POST", COURSE, json=body)
    assert made == {
        "id": 1,
        "user_id": 9,
        "course_id": 5,
        "course_section_id": 3,
        "type": TA,
        "enrollment_state": "active",
    }
    stored = raw.enrollments.find_one({"number": 1})
    assert stored is not None
    assert (stored["user_id"], stored["course_id"], stored["course_section_id"]) == (9, 5, 3)
    assert await call(api, "GET", COURSE) == [made]


async def test_a_form_enrolls_a_student_unless_it_names_a_type(api: Client, raw: Raw) -> None:
    fields = {"enrollment[user_id]": "9", "enrollment[course_section_id]": ""}
    made = await call(api, "POST", COURSE, data=fields)
    assert (made["type"], made["course_section_id"]) == (STUDENT, None)
    assert raw.enrollments.count_documents({"user_id": 9, "type": STUDENT}) == 1


@pytest.mark.parametrize(
    ("enrollment", "field"),
    [
        ({}, "user_id"),
        ({"user_id": 0}, "user_id"),
        ({"user_id": 2**53}, "user_id"),
        ({"user_id": "self"}, "user_id"),
        ({"user_id": 9, "type": "ObserverEnrollment"}, "type"),
        ({"user_id": 9, "type": 5}, "type"),
        ({"user_id": 9, "course_section_id": -1}, "course_section_id"),
    ],
)
async def test_an_enrollment_that_is_not_valid_is_refused_and_not_stored(
    api: Client, raw: Raw, enrollment: dict[str, Any], field: str
) -> None:
    problem = await call(api, "POST", COURSE, 400, json={"enrollment": enrollment})
    assert [fault["field"] for fault in problem["errors"]] == [f"enrollments[0].{field}"]
    assert raw.enrollments.count_documents({}) == 0


async def test_a_repeated_post_returns_the_enrollment_there_is(api: Client, raw: Raw) -> None:
    first = await enroll(api, 9, 5)
    assert await enroll(api, 9, 5) == first
    others = [
        await enroll(api, 9, 5, TEACHER),
        await enroll(api, 9, 5, section=3),
        await enroll(api, 9, 6),
        await enroll(api, 10, 5),
    ]
    assert len({one["id"] for one in [first, *others]}) == 5
    assert raw.enrollments.count_documents({}) == 5


async def test_twenty_posts_at_once_make_one_enrollment(api: Client, raw: Raw) -> None:
    made = await asyncio.gather(*(enroll(api, 9, 5, TEACHER) for _ in range(20)))
    assert all(one == made[0] for one in made)
    assert [one["number"] for one in raw.enrollments.find()] == [made[0]["id"]]


async def test_a_thousand_are_enrolled_at_once_and_answered_in_order(
    heard: Heard, api: Client, raw: Raw
) -> None:
    before = await enroll(api, 17, 5)
    wanted: list[dict[str, Any]] = [{"user_id": user} for user in range(1_000, 0, -1)]
    wanted[3] = {"user_id": 17}
    wanted[7] = {**wanted[6], "course_section_id": None}
    heard.commands.clear()
    made = await call(api, "POST", COURSE, json={"enrollments": wanted})
    assert len(heard.commands) < 10
    assert [one["user_id"] for one in made] == [one["user_id"] for one in wanted]
    assert made[3] == before == made[1_000 - 17]
    assert made[7] == made[6]
    assert raw.enrollments.count_documents({}) == 998
    again = await call(api, "POST", COURSE, json={"enrollments": wanted})
    assert again == made
    assert raw.enrollments.count_documents({}) == 998
    problem = await call(api, "POST", COURSE, 400, json={"enrollments": [*wanted, wanted[0]]})
    assert problem["detail"] == "enrollments must have at most 1,000 objects"
    wanted[999] = {"user_id": 0}
    await call(api, "POST", COURSE, 400, json={"enrollments": wanted})
    assert raw.enrollments.count_documents({}) == 998


async def test_those_that_are_enrolled_at_once_by_several_are_enrolled_once(
    api: Client, raw: Raw
) -> None:
    lists = [[{"user_id": user} for user in range(n, n + 200)] for n in (1, 101, 51, 1)]
    made = await asyncio.gather(
        *(call(api, "POST", COURSE, json={"enrollments": one}) for one in lists)
    )
    stored = {one["user_id"]: one["number"] for one in raw.enrollments.find()}
    assert stored.keys() == set(range(1, 301))
    for asked, answered in zip(lists, made, strict=True):
        assert [one["id"] for one in answered] == [stored[one["user_id"]] for one in asked]


async def test_a_list_is_a_bare_array_with_links_of_that_course_alone(
    api: Client, raw: Raw
) -> None:
    made = [await enroll(api, user_id, 5) for user_id in range(1, 4)]
    await enroll(api, 9, 6)
    answer = await api.get(COURSE, params={"per_page": "2"})
    assert answer.status == 200
    assert await answer.json() == made[:2]
    following = URL(answer.links["next"]["url"])
    answer = await api.get(following.relative())
    assert await answer.json() == made[2:]
    assert "next" not in answer.links
    assert await call(api, "GET", f"{API}/courses/7/enrollments") == []
    assert raw.enrollments.count_documents({}) == 4


async def test_deleting_an_enrollment_answers_with_it_and_ends_it(api: Client, raw: Raw) -> None:
    gone, stays = await enroll(api, 9, 5, TEACHER), await enroll(api, 10, 5)
    ended = await call(api, "DELETE", f"{COURSE}/{gone['id']}")
    assert ended == {**gone, "enrollment_state": "deleted"}
    assert [one["number"] for one in raw.enrollments.find()] == [stays["id"]]
    await call(api, "DELETE", f"{COURSE}/{gone['id']}", 404)
    again = await enroll(api, 9, 5, TEACHER)
    assert again["id"] > stays["id"]


@pytest.mark.parametrize("reference", ["2", "0", "x", str(2**53)])
async def test_an_enrollment_of_another_course_is_a_404_and_stays(
    api: Client, raw: Raw, reference: str
) -> None:
    await enroll(api, 9, 5)
    await enroll(api, 9, 6)
    await call(api, "DELETE", f"{COURSE}/{reference}", 404)
    await call(api, "DELETE", f"{API}/courses/x/enrollments/1", 404)
    assert raw.enrollments.count_documents({}) == 2


async def test_enrollments_are_for_admins(api: Client, raw: Raw, make_token: TokenMaker) -> None:
    there = await enroll(api, 7, 5, TEACHER)
    teacher = await make_token(user_id=7)
    await call(api, "GET", COURSE, 403, headers=teacher)
    body = {"enrollment": {"user_id": 9}}
    await call(api, "POST", COURSE, 403, headers=teacher, json=body)
    await call(api, "DELETE", f"{COURSE}/{there['id']}", 403, headers=teacher)
    # An acting caller has only the rights of the user.
    await call(api, "POST", COURSE, 403, params={"as_user_id": 7}, json=body)
    assert raw.enrollments.count_documents({}) == 1


async def test_users_are_shown_to_themselves_and_to_admins(
    api: Client, make_token: TokenMaker
) -> None:
    user = await make_token(user_id=7)
    shown = {"id": 7, "name": "User 7"}
    assert await call(api, "GET", f"{API}/users/self", headers=user) == shown
    assert await call(api, "GET", f"{API}/users/7", headers=user) == shown
    await call(api, "GET", f"{API}/users/8", 403, headers=user)
    assert await call(api, "GET", f"{API}/users/7") == shown
    assert await call(api, "GET", f"{API}/users/self", params={"as_user_id": 7}) == shown
    assert (await call(api, "GET", f"{API}/users/self"))["id"] == 0
    for reference in ("0", "%201", "u%0A", "u" * 129):
        await call(api, "GET", f"{API}/users/{reference}", 404)
    text = {**user, "Accept": "application/json+canvas-string-ids"}
    assert (await call(api, "GET", f"{API}/users/self", headers=text))["id"] == "7"


async def test_courses_are_read_by_enrolled_users_and_admins(
    api: Client, make_token: TokenMaker
) -> None:
    there = await enroll(api, 7, 5, section=2)
    user = await make_token(user_id=7)
    shown = {"id": 5, "name": "Course 5"}
    assert await call(api, "GET", f"{API}/courses/5", headers=user) == shown
    assert await call(api, "GET", f"{API}/courses/6") == {"id": 6, "name": "Course 6"}
    await call(api, "GET", f"{API}/courses/6", 403, headers=user)
    for reference in ("0", "x", str(2**53)):
        await call(api, "GET", f"{API}/courses/{reference}", 404, headers=user)
    await call(api, "DELETE", f"{COURSE}/{there['id']}")
    await call(api, "GET", f"{API}/courses/5", 403, headers=user)
