"""The members of polls, choices and sessions that each role can see."""

from typing import Any

import pytest
from multidict import CIMultiDict

from tests.conftest import Client, Raw, TokenMaker
from tests.support import classroom
from tests.support.casting import answered, course_run
from tests.support.classroom import ACTING, ROLES, Classroom, Target
from tests.support.polling import listed

POLL = {"id", "question", "description", "created_at"}
CHOICE = {"id", "poll_id", "text", "position"}
SESSION = {
    "id",
    "poll_id",
    "course_id",
    "course_section_id",
    "is_published",
    "created_at",
    "has_submitted",
    "poll_submissions",
}
MANAGERS = {"owner", ACTING + "owner", "admin"}
READERS = {"colleague", "assistant", "student", ACTING + "colleague", ACTING + "student"}


@pytest.fixture
async def room(api: Client, make_token: TokenMaker) -> Classroom:
    room = Classroom(api, make_token)
    await room.fill()
    return room


@pytest.fixture
async def target(room: Classroom, raw: Raw) -> Target:
    """Counts as if three of eight had chosen the one choice, in the session of the course."""
    target = await room.target()
    counted = {"results": {str(target.choice_id): 3}, "participants": 8}
    raw.sessions.update_one({"_id": target.whole_id}, {"$set": counted})
    return target


async def shown(room: Classroom, role: str, path: str) -> dict[str, Any]:
    status, body = await room.ask(role, "GET", path)
    assert (role, status) == (role, 200)
    [[one]] = body.values()
    assert isinstance(one, dict)
    return one


async def test_owner_and_totals_of_a_poll_are_for_managers(room: Classroom, target: Target) -> None:
    path = f"/polls/{target.poll_id}"
    for role in MANAGERS:
        poll = await shown(room, role, path)
        assert poll.keys() == POLL | {"user_id", "total_results"}
        assert poll["user_id"] == classroom.OWNER
        assert poll["total_results"] == {str(target.choice_id): 3}
    for role in READERS:
        assert (await shown(room, role, path)).keys() == POLL


async def test_the_right_answer_is_for_managers(room: Classroom, target: Target) -> None:
    choices = f"/polls/{target.poll_id}/poll_choices"
    for path in (choices, f"{choices}/{target.choice_id}"):
        for role in MANAGERS:
            choice = await shown(room, role, path)
            assert choice.keys() == CHOICE | {"is_correct"}
            assert choice["is_correct"] is True
        for role in READERS:
            assert (await shown(room, role, path)).keys() == CHOICE


async def test_results_that_are_not_public_are_for_managers(
    room: Classroom, target: Target
) -> None:
    path = f"/polls/{target.poll_id}/poll_sessions/{target.whole_id}"
    for role in MANAGERS:
        session = await shown(room, role, path)
        assert session.keys() == SESSION | {"has_public_results", "results"}
        assert session["results"] == {str(target.choice_id): 3}
        assert session["poll_submissions"] == []
    for role in READERS:
        session = await shown(room, role, path)
        assert session.keys() == SESSION
        assert (session["has_submitted"], session["poll_submissions"]) == (False, [])


async def test_public_results_are_for_all_readers(room: Classroom, target: Target) -> None:
    path = f"/polls/{target.poll_id}/poll_sessions/{target.whole_id}"
    await room.ask("owner", "PUT", path, json={"poll_session": {"has_public_results": True}})
    for role in MANAGERS | READERS:
        session = await shown(room, role, path)
        assert session.keys() == SESSION | {"has_public_results", "results"}
        assert session["has_public_results"] is True
        assert session["results"] == {str(target.choice_id): 3}


async def test_where_numbers_are_hidden_only_managers_learn_them(
    room: Classroom, target: Target
) -> None:
    place = {"type": "polls", "workspace": "users", "content": str(classroom.OWNER)}
    place["container"] = str(target.poll_id)
    listed = await room.api.get("/rest", params=place)
    [poll] = await listed.json()
    poll["settings"]["hideAbsoluteNumbers"] = True
    replaced = await room.api.put("/rest", params={**place, "pollId": poll["id"]}, json=poll)
    assert replaced.status == 200
    path = f"/polls/{target.poll_id}/poll_sessions/{target.whole_id}"
    await room.ask("owner", "PUT", path, json={"poll_session": {"has_public_results": True}})
    for role in MANAGERS:
        session = await shown(room, role, path)
        assert session.keys() == SESSION | {"has_public_results", "results"}
        assert session["results"] == {str(target.choice_id): 3}
    for role in READERS:
        session = await shown(room, role, path)
        assert session.keys() == SESSION | {"has_public_results", "result_shares"}
        # 37.5 percent: halves are rounded up.
        assert session["result_shares"] == {str(target.choice_id): 38}


async def test_lists_show_each_role_what_the_session_itself_shows(
    room: Classroom, target: Target
) -> None:
    path = f"/polls/{target.poll_id}/poll_sessions/{target.whole_id}"
    for list_name, action in (("closed", None), ("opened", "open"), ("closed", "close")):
        if action is not None:
            await room.ask("owner", "GET", f"{path}/{action}")
        for role in ("owner", "colleague", "student", "neighbour", "stranger"):
            _, body = await room.ask(role, "GET", f"/poll_sessions/{list_name}")
            listed = [one for one in body["poll_sessions"] if one["id"] == target.whole_id]
            if role == "stranger":
                assert listed == []
                continue
            whole = await shown(room, role, path)
            assert whole["is_published"] == (list_name == "opened")
            assert listed == [{**whole, "poll_submissions": None}]
            params = {"include[]": "poll_submissions"}
            _, body = await room.ask(role, "GET", f"/poll_sessions/{list_name}", params=params)
            assert whole in body["poll_sessions"]


async def test_each_user_lists_the_sessions_that_it_reads(room: Classroom, target: Target) -> None:
    everywhere, of_section = {target.whole_id, target.section_id}, {target.whole_id}
    expected = {
        "owner": everywhere,
        "colleague": everywhere,
        "assistant": everywhere,
        "student": everywhere,
        "neighbour": of_section,
        "unsectioned": of_section,
        "section teacher": of_section,
        "outside teacher": set(),
        "stranger": set(),
    }
    assert expected.keys() == ROLES.keys()
    for role, ids in expected.items():
        for asking in (role, ACTING + role):
            _, body = await room.ask(asking, "GET", "/poll_sessions/closed")
            assert (asking, {one["id"] for one in body["poll_sessions"]}) == (asking, ids)


async def test_users_list_only_their_own_polls(room: Classroom, target: Target) -> None:
    for role in ROLES:
        for asking in (role, ACTING + role):
            _, body = await room.ask(asking, "GET", "/polls")
            ids = [target.poll_id] if role == "owner" else []
            assert (asking, [poll["id"] for poll in body["polls"]]) == (asking, ids)


STRINGS = "application/json+canvas-string-ids"
ACCEPTED = [
    [STRINGS],
    ["Application/JSON+Canvas-String-IDs"],
    ["application/json", STRINGS],
    [f"{STRINGS};q=0.9", "*/*"],
    [f"text/html, application/xhtml+xml;q=0.9,{STRINGS} ; charset=utf-8;q=0.8, */*;q=0.1"],
]


@pytest.mark.parametrize("lines", ACCEPTED)
async def test_ids_are_strings_for_clients_that_ask_for_that(
    room: Classroom, target: Target, lines: list[str]
) -> None:
    path = f"/polls/{target.poll_id}/poll_sessions/{target.section_id}"
    owner = room.headers["owner"]["Authorization"]
    headers = CIMultiDict([("Authorization", owner), *(("Accept", line) for line in lines)])
    async with room.api.get(f"/api/v1{path}", headers=headers) as response:
        session = (await response.json())["poll_sessions"][0]
    assert (session["id"], session["poll_id"]) == (str(target.section_id), str(target.poll_id))
    assert (session["course_id"], session["course_section_id"]) == ("10", "101")


async def test_members_of_lists_of_ids_are_strings_too(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw, allowSelectionOfMultipleOptions=True)
    body = {"poll_submissions": [{"poll_choice_ids": [3, 1]}]}
    accept = {"Accept": STRINGS}
    given = await answered(await api.post(run.submissions, json=body, headers=accept))
    [submission] = given["poll_submissions"]
    for shown in (submission, (await listed(api, run.submissions, accept))[0]):
        assert (shown["poll_choice_id"], shown["poll_choice_ids"]) == ("3", ["3", "1"])
    session = await listed(api, run.url, accept)
    assert session[0]["poll_submissions"][0]["poll_choice_ids"] == ["3", "1"]
    async with api.get(f"{run.url}/export", params={"format": "json"}, headers=accept) as answer:
        exported = await answer.json()
    assert exported["poll_submissions"][0]["poll_choice_ids"] == ["3", "1"]
    assert (await listed(api, run.submissions))[0]["poll_choice_ids"] == [3, 1]


async def test_counts_stay_numbers_whatever_the_ids_of_the_options_are(api: Client) -> None:
    names = ["id", "x_id", "y_ids", "1"]
    options = [{"id": name, "title": name} for name in names]
    made = await api.post("/rest", params=CONTENT, json={"title": "?", "options": options})
    path = f"/api/v1/polls/{(await answered(made))['id']}"
    accept = {"Accept": STRINGS}
    [poll] = await listed(api, path, accept)
    [session] = await listed(api, f"{path}/poll_sessions", accept)
    assert poll["total_results"] == session["results"] == dict.fromkeys(names, 0)
    assert isinstance(poll["id"], str)


# Content polls ---------------------------------------------------------------------------------

CONTENT = {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"}


async def standing_path(room: Classroom, maker: str, visibility: str) -> tuple[str, str]:
    """The paths of a content poll and of its standing session."""
    poll = {
        "title": "?",
        "options": [{"title": "a"}],
        "settings": {"resultsVisibility": visibility},
    }
    made = await room.api.post("/rest", params=CONTENT, json=poll, headers=room.headers[maker])
    path = f"/polls/{(await made.json())['id']}"
    session = await shown(room, "admin", f"{path}/poll_sessions")
    return path, f"{path}/poll_sessions/{session['id']}"


@pytest.mark.parametrize("visibility", ["alwaysPublic", "afterVote", "afterClose", "private"])
async def test_a_standing_session_shows_results_as_its_poll_says(
    room: Classroom, make_token: TokenMaker, visibility: str
) -> None:
    room.headers["reader"] = await make_token(user_id=30, actions=["read"], workspaces=["PLAT"])
    _, path = await standing_path(room, "colleague", visibility)
    for is_closed in (False, True):
        if is_closed:
            await room.ask("admin", "GET", f"{path}/close")
        session = await shown(room, "reader", path)
        sees = visibility == "alwaysPublic" or (visibility == "afterClose" and is_closed)
        assert ("results" in session) == sees
        assert (session["course_id"], session["is_published"]) == (None, not is_closed)
        assert "results" in await shown(room, "admin", path)


async def test_the_grants_of_a_token_decide_about_content_polls(
    room: Classroom, make_token: TokenMaker
) -> None:
    poll, session = await standing_path(room, "colleague", "private")
    room.headers |= {
        "reader": await make_token(user_id=30, actions=["read"], workspaces=["PLAT"]),
        "writer": await make_token(user_id=30, workspaces=["PLAT"]),
        "voter": await make_token(user_id=30, actions=["vote"], workspaces=["PLAT"]),
        "elsewhere": await make_token(user_id=2, workspaces=["OPS"]),
        "without": await make_token(user_id=2, workspaces=[]),
    }
    reads = {"reader", "writer", ACTING + "stranger", ACTING + "colleague", "stranger", "admin"}
    manages = {"writer", ACTING + "colleague", "stranger", "admin"}
    for role in (*reads, "voter", "elsewhere", "without"):
        for path in (poll, f"{poll}/poll_choices", session):
            status, _ = await room.ask(role, "GET", path)
            assert (role, path, status) == (role, path, 200 if role in reads else 403)
        status, _ = await room.ask(role, "GET", f"{poll}/poll_sessions")
        assert (role, status) == (role, 200 if role in manages else 403)
        for action in ("close", "open"):
            status, _ = await room.ask(role, "PUT", f"{session}/{action}")
            assert (role, status) == (role, 200 if role in manages else 403)
    for method in ("PUT", "DELETE"):
        body = {"poll_session": {"course_id": classroom.COURSE}}
        status, _ = await room.ask("admin", method, session, json=body)
        assert (method, status) == (method, 409)
