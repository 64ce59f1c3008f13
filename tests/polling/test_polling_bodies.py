"""Bodies of the polling API over HTTP: every notation means the same, all others are refused."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import FormData

from tests.conftest import Client, Raw

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=cut"}
MISSING = {"field": "poll_sessions", "message": "poll_sessions is missing"}

Problem = Callable[..., Awaitable[tuple[int, list[str]]]]
WRITTEN = [
    "poll_sessions[][{}]",
    "poll_session[][{}]",
    "poll_sessions[0][{}]",
    "poll_session[0][{}]",
    "poll_sessions[{}][]",
    "poll_session[{}][]",
    "poll_sessions[{}]",
    "poll_session[{}]",
]


@pytest.fixture
async def sessions(api: Client) -> str:
    """The path of the sessions of a poll."""
    created = await api.post("/api/v1/polls", json={"polls": [{"question": "Tea?"}]})
    poll = (await created.json())["polls"][0]
    return f"/api/v1/polls/{poll['id']}/poll_sessions"


@pytest.fixture
async def problem(api: Client, sessions: str, raw: Raw) -> Problem:
    """The status and the fields of the faults of a POST that is refused and stores nothing."""

    async def post(**request: Any) -> tuple[int, list[str]]:
        response = await api.post(sessions, **request)
        assert response.content_type == "application/problem+json"
        body = await response.json()
        assert raw.sessions.count_documents({}) == 0
        return response.status, [error["field"] for error in body["errors"]]

    return post


async def make(api: Client, sessions: str, **request: Any) -> dict[str, Any]:
    response = await api.post(sessions, **request)
    body = await response.json()
    assert response.status == 200, body
    [session] = body["poll_sessions"]
    assert isinstance(session, dict)
    return session


def shape(session: dict[str, Any]) -> tuple[Any, ...]:
    members = ("course_id", "course_section_id", "has_public_results", "is_published")
    return tuple(session[member] for member in members)


# One session, in every form --------------------------------------------------------------------


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
async def test_each_form_makes_the_same_session(
    api: Client, sessions: str, raw: Raw, written: str, kind: str
) -> None:
    members = {"course_id": "5", "course_section_id": "6", "has_public_results": "true"}
    fields = [(written.format(member), value) for member, value in members.items()]
    if kind == "urlencoded":
        session = await make(api, sessions, data=urlencode(fields), headers=FORM)
    else:
        form = FormData(default_to_multipart=True)
        for name, value in fields:
            form.add_field(name, value)
        session = await make(api, sessions, data=form)
    assert shape(session) == (5, 6, True, False)
    stored = raw.sessions.find_one({"_id": session["id"]})
    assert stored is not None
    assert (stored["course_id"], stored["course_section_id"]) == (5, 6)


@pytest.mark.parametrize(
    "body",
    [
        {"poll_sessions": [{"course_id": 5, "course_section_id": 6, "has_public_results": True}]},
        {"poll_session": {"course_id": "5", "course_section_id": "6", "has_public_results": "1"}},
        {"poll_sessions": {"course_id": 5, "course_section_id": "6", "has_public_results": "TRUE"}},
    ],
)
async def test_json_makes_the_same_session(api: Client, sessions: str, body: Any) -> None:
    assert shape(await make(api, sessions, json=body)) == (5, 6, True, False)


async def test_unknown_and_read_only_members_are_ignored(api: Client, sessions: str) -> None:
    body = {"course_id": 5, "id": 999, "poll_id": 3, "is_published": True, "results": {"1": 9}}
    session = await make(api, sessions, json={"poll_sessions": [{**body, "$set": {"a": 1}}]})
    assert session["id"] != 999
    assert shape(session) == (5, None, False, False)
    assert session["results"] == {}


async def test_a_session_can_be_sent_back_as_it_was_shown(api: Client, sessions: str) -> None:
    session = await make(api, sessions, json={"poll_sessions": [{"course_id": 5}]})
    path = f"{sessions}/{session['id']}"
    again = await api.put(path, json={"poll_sessions": [session]})
    assert await again.json() == {"poll_sessions": [session]}


# What is missing, and what a value may be ------------------------------------------------------


@pytest.mark.parametrize(
    "request_body",
    [
        {},
        {"data": "", "headers": FORM},
        {"data": "polls[][course_id]=5", "headers": FORM},
        {"data": "--cut--\r\n", "headers": MULTIPART},
        {"json": {}},
        {"json": {"poll_sessions": []}},
        {"json": {"polls": [{"course_id": 5}]}},
    ],
)
async def test_a_body_without_the_resource_is_refused_on_post_and_put(
    api: Client, sessions: str, request_body: dict[str, Any]
) -> None:
    session = await make(api, sessions, json={"poll_sessions": [{"course_id": 5}]})
    for method, path in (("POST", sessions), ("PUT", f"{sessions}/{session['id']}")):
        response = await api.request(method, path, **request_body)
        body = await response.json()
        assert response.status == 400
        assert body["errors"] == [MISSING]
        assert body["detail"] == MISSING["message"]


@pytest.mark.parametrize("course_id", [5, "5", 2**53 - 1, str(2**53 - 1)])
async def test_an_id_is_a_whole_number_as_number_or_text(
    api: Client, sessions: str, course_id: Any
) -> None:
    body = {"poll_sessions": [{"course_id": course_id}]}
    assert (await make(api, sessions, json=body))["course_id"] == int(course_id)


BAD_IDS: list[Any] = [True, False, 5.5, 0, -1, 2**53, 2**63, 2**64, 1e300, [], [5], {}, ""]
BAD_IDS += ["0", "-1", "05", "5.0", "+5", " 5", "5\n", "\u0665", "1e3", "x", str(2**53), "9" * 5000]


@pytest.mark.parametrize("member", ["course_id", "course_section_id"])
async def test_an_invalid_id_is_refused_under_its_path(problem: Problem, member: str) -> None:
    for value in BAD_IDS:
        session = {"course_id": 5, member: value}
        answer = await problem(json={"poll_sessions": [session]})
        assert (value, answer) == (value, (400, [f"poll_sessions[0].{member}"]))


async def test_a_session_needs_a_course_but_no_section(
    api: Client, sessions: str, problem: Problem
) -> None:
    for session in ({"course_id": None}, {"course_section_id": 6}, {}):
        answer = await problem(json={"poll_sessions": [session]})
        assert answer == (400, ["poll_sessions[0].course_id"])
    nothing = {"course_section_id": None, "has_public_results": None}
    body = {"poll_sessions": [{"course_id": 5, **nothing}]}
    assert shape(await make(api, sessions, json=body)) == (5, None, False, False)


async def test_every_fault_of_an_object_has_its_entry(problem: Problem) -> None:
    data = "poll_session[course_section_id]=x&poll_session[has_public_results]=yes"
    status, fields = await problem(data=data, headers=FORM)
    assert status == 400
    assert sorted(fields) == [
        "poll_sessions[0].course_id",
        "poll_sessions[0].course_section_id",
        "poll_sessions[0].has_public_results",
    ]


async def test_a_boolean_of_a_form_is_a_word_or_a_digit(api: Client, sessions: str) -> None:
    words = {"true": True, "TRUE": True, "tRue": True, "1": True}
    words |= {"false": False, "FALSE": False, "False": False, "0": False}
    for text, flag in words.items():
        data = f"poll_sessions[][course_id]=5&poll_sessions[][has_public_results]={text}"
        session = await make(api, sessions, data=data, headers=FORM)
        assert (text, session["has_public_results"]) == (text, flag)


async def test_no_other_word_is_a_boolean(problem: Problem) -> None:
    for value in ("yes", "on", "t", "2", "-1", "10", "null", "true "):
        data = urlencode({"poll_session[course_id]": 5, "poll_session[has_public_results]": value})
        answer = await problem(data=data, headers=FORM)
        assert (value, answer) == (value, (400, ["poll_sessions[0].has_public_results"]))


async def test_json_has_booleans_of_its_own(problem: Problem) -> None:
    values: list[Any] = [1, 0, 1.0, [], {}, "yes", ""]
    for value in values:
        body = {"poll_session": {"course_id": 5, "has_public_results": value}}
        answer = await problem(json=body)
        assert (value, answer) == (value, (400, ["poll_sessions[0].has_public_results"]))


async def test_an_empty_value_of_a_form_is_absent_in_a_post(
    api: Client, sessions: str, problem: Problem
) -> None:
    empty = "poll_session[course_id]=&poll_session[has_public_results]=true"
    assert await problem(data=empty, headers=FORM) == (400, ["poll_sessions[0].course_id"])
    data = "poll_session[course_id]=5&poll_session[course_section_id]="
    session = await make(
        api, sessions, data=f"{data}&poll_session[has_public_results]=", headers=FORM
    )
    assert shape(session) == (5, None, False, False)


async def test_a_form_is_utf_8_with_and_without_percent_encoding(
    api: Client, sessions: str
) -> None:
    path = sessions.removesuffix("/poll_sessions")
    for data in ("poll[question]=Thé+🍵?", urlencode({"poll[question]": "Thé 🍵?"})):
        poll = await put(api, path, data=data.encode(), headers=FORM)
        assert poll["question"] == "Thé 🍵?"


# PUT -------------------------------------------------------------------------------------------


@pytest.fixture
async def session_path(api: Client, sessions: str) -> str:
    """A session with everything that can be set."""
    body = {"course_id": 5, "course_section_id": 6, "has_public_results": True}
    session = await make(api, sessions, json={"poll_sessions": [body]})
    return f"{sessions}/{session['id']}"


async def put(api: Client, path: str, **request: Any) -> dict[str, Any]:
    response = await api.put(path, **request)
    body: dict[str, list[dict[str, Any]]] = await response.json()
    assert response.status == 200, body
    [[changed]] = body.values()
    return changed


async def test_a_put_changes_what_it_names_and_nothing_else(api: Client, session_path: str) -> None:
    async def change(**members: Any) -> tuple[Any, ...]:
        return shape(await put(api, session_path, json={"poll_session": members}))

    assert await change() == (5, 6, True, False)
    assert await change(has_public_results=False) == (5, 6, False, False)
    assert await change(course_section_id=7) == (5, 7, False, False)
    assert await change(course_id=8) == (8, 7, False, False)
    nothing = {"course_id": None, "course_section_id": None, "has_public_results": None}
    assert await change(**nothing) == (8, 7, False, False)
    assert await change(course_section_id="") == (8, None, False, False)
    assert await change(is_published=True, id=1, owner_id=2) == (8, None, False, False)


async def test_an_empty_value_of_a_form_clears_the_section_and_nothing_else(
    api: Client, session_path: str
) -> None:
    data = "poll_session[course_id]=&poll_session[has_public_results]="
    assert shape(await put(api, session_path, data=data, headers=FORM)) == (5, 6, True, False)
    data += "&poll_session[course_section_id]="
    assert shape(await put(api, session_path, data=data, headers=FORM)) == (5, None, True, False)


async def test_an_empty_value_of_a_form_clears_the_description_and_nothing_else(
    api: Client, sessions: str
) -> None:
    path = sessions.removesuffix("/poll_sessions")
    data = "poll[question]=Milk?&poll[description]=Warm."
    poll = await put(api, path, data=data, headers=FORM)
    assert (poll["question"], poll["description"]) == ("Milk?", "Warm.")
    poll = await put(api, path, data="poll[question]=", headers=FORM)
    assert (poll["question"], poll["description"]) == ("Milk?", "Warm.")
    poll = await put(api, path, data="poll[description]=", headers=FORM)
    assert (poll["question"], poll["description"]) == ("Milk?", "")


async def test_an_empty_value_of_a_form_leaves_a_choice_as_it_is(
    api: Client, sessions: str
) -> None:
    path = sessions.replace("poll_sessions", "poll_choices")
    data = "poll_choice[text]=yes&poll_choice[is_correct]=TRUE&poll_choice[position]=3"
    response = await api.post(path, data=data, headers=FORM)
    [choice] = (await response.json())["poll_choices"]
    assert (choice["text"], choice["is_correct"], choice["position"]) == ("yes", True, 3)
    empty = "poll_choice[text]=&poll_choice[is_correct]=&poll_choice[position]="
    assert await put(api, f"{path}/{choice['id']}", data=empty, headers=FORM) == choice


async def test_a_put_that_is_refused_changes_nothing(
    api: Client, session_path: str, raw: Raw
) -> None:
    before = raw.sessions.find_one()
    body = {"poll_session": {"has_public_results": False, "course_id": 0}}
    response = await api.put(session_path, json=body)
    assert response.status == 400
    assert [error["field"] for error in (await response.json())["errors"]] == [
        "poll_sessions[0].course_id"
    ]
    assert raw.sessions.find_one() == before
