"""Every role at every route of the polling API, over HTTP."""

from typing import Any, NamedTuple

import pytest

from service.polling.paths import API, CHOICES, COURSE, POLL, SESSIONS
from service.routes import ROUTES
from tests.conftest import Client, TokenMaker
from tests.support import classroom
from tests.support.classroom import ACTING, ROLES, Classroom, Target

TEACHERS = frozenset({"owner", "colleague", "assistant", "section teacher", "outside teacher"})
ENROLLED = frozenset(ROLES) - {"outside teacher", "stranger"}
OF_SECTION = frozenset({"owner", "colleague", "assistant", "student"})
ALL = frozenset(ROLES)
MANAGERS = frozenset({"owner"})
NOBODY: frozenset[str] = frozenset()


class Row(NamedTuple):
    """The roles that are answered, besides admins; all others get 403.

    ``json`` is the body to send, ``query`` what must follow the path.
    """

    who: frozenset[str]
    json: dict[str, object] | None = None
    status: int = 200
    query: str = ""


CHOICE, SESSION = f"{CHOICES}/{{id}}", f"{SESSIONS}/{{id}}"
ENROLLMENTS = f"{COURSE}/enrollments"

TABLE: dict[tuple[str, str], Row] = {
    ("GET", f"{API}/polls"): Row(ALL),
    ("POST", f"{API}/polls"): Row(TEACHERS, {"poll": {"question": "Milk?"}}),
    # One of its sessions is for the whole course.
    ("GET", POLL): Row(ENROLLED),
    ("PUT", POLL): Row(MANAGERS, {"poll": {"question": "Milk?"}}),
    ("DELETE", POLL): Row(MANAGERS, status=204),
    ("GET", CHOICES): Row(ENROLLED),
    ("POST", CHOICES): Row(MANAGERS, {"poll_choice": {"text": "no"}}),
    ("GET", CHOICE): Row(ENROLLED),
    ("PUT", CHOICE): Row(MANAGERS, {"poll_choice": {"text": "no"}}),
    ("DELETE", CHOICE): Row(MANAGERS, status=204),
    ("GET", SESSIONS): Row(MANAGERS),
    ("POST", SESSIONS): Row(MANAGERS, {"poll_session": {"course_id": classroom.COURSE}}),
    # That of the section; that of the course has a test of its own.
    ("GET", SESSION): Row(OF_SECTION),
    ("PUT", SESSION): Row(MANAGERS, {"poll_session": {"has_public_results": False}}),
    ("DELETE", SESSION): Row(MANAGERS, status=204),
    ("GET", f"{SESSION}/open"): Row(MANAGERS),
    ("PUT", f"{SESSION}/open"): Row(MANAGERS),
    ("GET", f"{SESSION}/close"): Row(MANAGERS),
    ("PUT", f"{SESSION}/close"): Row(MANAGERS),
    ("GET", f"{SESSION}/export"): Row(MANAGERS, query="?format=json"),
    ("GET", f"{API}/poll_sessions/opened"): Row(ALL),
    ("GET", f"{API}/poll_sessions/closed"): Row(ALL),
    ("GET", COURSE): Row(ENROLLED),
    ("GET", ENROLLMENTS): Row(NOBODY),
    ("POST", ENROLLMENTS): Row(NOBODY, {"enrollment": {"user_id": 60}}),
    ("DELETE", f"{ENROLLMENTS}/{{id}}"): Row(NOBODY),
    # Somebody else's; one's own has a test of its own.
    ("GET", f"{API}/users/{{id}}"): Row(NOBODY),
}
UNKNOWN = ("0", "999999", str(2**53), "-1", "1.0", "+1", "%D9%A1", "x", "1%2F2")


def path_of(route: str, target: Target) -> str:
    ids = {CHOICES: target.choice_id, SESSIONS: target.section_id, f"{API}/users": 50}
    ids[ENROLLMENTS] = target.enrollment_id
    own = next((value for start, value in ids.items() if route.startswith(f"{start}/{{id}}")), "")
    path = route.format(poll_id=target.poll_id, course_id=classroom.COURSE, id=own)
    return path.removeprefix(API) + query_of(route)


def query_of(route: str) -> str:
    return next(row.query for (_, pattern), row in TABLE.items() if pattern == route)


@pytest.fixture
async def room(api: Client, make_token: TokenMaker) -> Classroom:
    room = Classroom(api, make_token)
    await room.fill()
    return room


def test_every_route_of_the_polling_api_has_its_row() -> None:
    """Submissions have rules of their own (404 to strangers, acting vouches), and their tests."""
    routes = {
        (method, path)
        for path, methods in ROUTES.items()
        if path.startswith(API) and "poll_submissions" not in path
        for method in methods
    }
    assert routes == TABLE.keys()


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
async def test_each_role_may_do_what_its_row_says(room: Classroom, route: tuple[str, str]) -> None:
    method, pattern = route
    row = TABLE[route]
    target = await room.target()
    expected = {role: row.status if role in row.who else 403 for role in ROLES}
    expected |= {ACTING + role: status for role, status in expected.items()}
    expected["admin"] = row.status
    answered = {}
    for role in expected:
        path = path_of(pattern, target)
        answered[role], _ = await room.ask(role, method, path, json=row.json)
        if method == "DELETE" and answered[role] == row.status:
            target = await room.target()
    assert answered == expected


@pytest.mark.parametrize("action", ["read", "write", "vote"])
async def test_the_actions_of_a_token_limit_its_user(
    room: Classroom, make_token: TokenMaker, action: str
) -> None:
    room.headers["limited owner"] = await make_token(user_id=classroom.OWNER, actions=[action])
    for (method, pattern), row in TABLE.items():
        path = path_of(pattern, await room.target())
        status, body = await room.ask("limited owner", method, path, json=row.json)
        is_writing = method != "GET" or pattern.endswith(("/open", "/close"))
        needed = "write" if is_writing else "read"
        expected = row.status if "owner" in row.who and action == needed else 403
        assert (method, pattern, status) == (method, pattern, expected)
        if status == 403:
            is_lacking = f"does not grant the action {needed}." in body["detail"]
            assert is_lacking == (action != needed)


SHOWN_TO_READERS = frozenset(
    {"results", "result_shares", "total_results", "has_public_results", "is_correct"}
)


def members_in(body: Any) -> set[str]:
    """The names of all members that are neither null nor empty."""
    if isinstance(body, list):
        return {name for one in body for name in members_in(one)}
    if not isinstance(body, dict):
        return set()
    below = {name for value in body.values() for name in members_in(value)}
    return below | {name for name, value in body.items() if value not in (None, [])}


async def test_the_answer_to_a_write_shows_results_and_submissions_to_tokens_that_may_read(
    room: Classroom, make_token: TokenMaker
) -> None:
    seen: dict[str, set[str]] = {"writer": set(), "owner": set()}
    room.headers["writer"] = await make_token(user_id=classroom.OWNER, actions=["write"])
    for role in seen:
        for (method, pattern), row in TABLE.items():
            is_writing = method in ("POST", "PUT") or pattern.endswith(("/open", "/close"))
            if "owner" not in row.who or not is_writing:
                continue
            target = await room.target()
            session = f"/polls/{target.poll_id}/poll_sessions/{target.section_id}"
            await room.ask("owner", "PUT", f"{session}/open")
            vote = {"poll_submissions": [{"poll_choice_id": target.choice_id}]}
            for voter in ("student", "owner"):
                await room.ask(voter, "POST", f"{session}/poll_submissions", json=vote)
            path = path_of(pattern, target)
            status, body = await room.ask(role, method, path, json=row.json)
            assert (method, pattern, status) == (method, pattern, row.status)
            seen[role] |= members_in(body)
    hidden = SHOWN_TO_READERS - {"result_shares"} | {"poll_submissions"}
    assert seen["owner"] >= hidden
    assert seen["writer"] & (SHOWN_TO_READERS | hidden) == set()


async def test_an_admin_needs_no_actions(room: Classroom, make_token: TokenMaker) -> None:
    room.headers["bare admin"] = await make_token(user_id=70, actions=[], admin=True)
    for (method, pattern), row in TABLE.items():
        path = path_of(pattern, await room.target())
        status, _ = await room.ask("bare admin", method, path, json=row.json)
        assert (method, pattern, status) == (method, pattern, row.status)


async def test_without_a_token_every_route_answers_403(room: Classroom) -> None:
    target = await room.target()
    for (method, pattern), row in TABLE.items():
        for path in (path_of(pattern, target), path_of(pattern, target._replace(poll_id=999))):
            for authorization in ("", "Bearer unknown", "Basic YTpi"):
                headers = {"Authorization": authorization}
                status, _ = await room.ask("admin", method, path, headers=headers, json=row.json)
                assert (method, path, status) == (method, path, 403)


async def test_what_is_not_there_is_404_to_everybody(room: Classroom) -> None:
    target, other = await room.target(), await room.target()
    poll = POLL.format(poll_id=target.poll_id)
    for (method, pattern), row in TABLE.items():
        if "{poll_id}" not in pattern:
            continue
        paths = [
            path_of(pattern, target).replace(f"/polls/{target.poll_id}", f"/polls/{unknown}")
            for unknown in (*UNKNOWN, "00000000-0000-4000-8000-000000000000")
        ]
        if "{id}" in pattern:
            below = pattern.replace(POLL, poll).removeprefix(API)
            below += query_of(pattern)
            paths += [below.format(id=unknown) for unknown in UNKNOWN]
            # A choice has a number within its poll; a session has one everywhere.
            if pattern.startswith(SESSIONS):
                paths.append(below.format(id=other.section_id))
        for path in paths:
            for role in ("admin", "owner", "stranger"):
                status, _ = await room.ask(role, method, path, json=row.json)
                assert (method, path, role, status) == (method, path, role, 404)


async def test_an_enrollment_or_user_that_is_not_there_is_404(room: Classroom) -> None:
    for unknown in UNKNOWN:
        path = f"/courses/{classroom.COURSE}/enrollments/{unknown}"
        for role in ("admin", "stranger"):
            status, _ = await room.ask(role, "DELETE", path)
            assert (path, role, status) == (path, role, 404)
    for unknown in set(UNKNOWN) - {"999999"}:
        for path in (f"/users/{unknown}", f"/courses/{unknown}", f"/courses/{unknown}/enrollments"):
            status, _ = await room.ask("stranger", "GET", path)
            assert (path, status) == (path, 404)


@pytest.mark.parametrize("query", [{"per_page": "0"}, {"page": "x"}, {"page": "bookmark:x"}])
async def test_a_bad_query_is_refused_before_existence_and_rights(
    room: Classroom, query: dict[str, str]
) -> None:
    target = await room.target()
    lists = [f"{API}/polls", CHOICES, SESSIONS, ENROLLMENTS]
    lists += [f"{API}/poll_sessions/opened", f"{API}/poll_sessions/closed"]
    paths = [path_of(pattern, target) for pattern in lists]
    for path in (*paths, "/polls/999/poll_choices", "/polls/999/poll_sessions"):
        status, _ = await room.ask("stranger", "GET", path, params=query)
        assert (path, status) == (path, 400)


# What one row cannot say -----------------------------------------------------------------------


async def test_a_session_of_the_course_is_open_to_everyone_enrolled_in_it(room: Classroom) -> None:
    target = await room.target()
    path = f"/polls/{target.poll_id}/poll_sessions/{target.whole_id}"
    for role in ROLES:
        status, _ = await room.ask(role, "GET", path)
        assert (role, status) == (role, 200 if role in ENROLLED else 403)


async def test_a_poll_that_runs_in_a_section_alone_is_for_that_section(room: Classroom) -> None:
    target = await room.target()
    poll = f"/polls/{target.poll_id}"
    await room.ask("owner", "DELETE", f"{poll}/poll_sessions/{target.whole_id}")
    for role in ROLES:
        for path in (poll, f"{poll}/poll_choices", f"{poll}/poll_choices/{target.choice_id}"):
            status, _ = await room.ask(role, "GET", path)
            assert (role, path, status) == (role, path, 200 if role in OF_SECTION else 403)


async def test_everybody_may_ask_for_oneself(room: Classroom) -> None:
    for role, (user_id, _) in ROLES.items():
        for asking in (role, ACTING + role):
            for name in ("self", str(user_id)):
                status, body = await room.ask(asking, "GET", f"/users/{name}")
                assert (status, body["id"]) == (200, user_id)


async def test_a_session_starts_and_moves_only_where_its_manager_teaches(room: Classroom) -> None:
    target = await room.target()
    sessions = f"/polls/{target.poll_id}/poll_sessions"
    path = f"{sessions}/{target.whole_id}"
    elsewhere = {"poll_session": {"course_id": classroom.OTHER_COURSE}}
    for method, where in (("POST", sessions), ("PUT", path)):
        assert (await room.ask("owner", method, where, json=elsewhere))[0] == 403
    _, shown = await room.ask("owner", "GET", path)
    assert shown["poll_sessions"][0]["course_id"] == classroom.COURSE
    await room.enroll(classroom.OWNER, classroom.OTHER_COURSE, 999, "TaEnrollment")
    for method, where in (("POST", sessions), ("PUT", path)):
        assert (await room.ask("owner", method, where, json=elsewhere))[0] == 200


async def test_acting_for_another_is_for_admins(room: Classroom) -> None:
    for role in ROLES:
        status, _ = await room.ask(role, "GET", "/polls", params={"as_user_id": "1"})
        assert (role, status) == (role, 403)
    for nobody in ("0", "", "x", "-1", str(2**53)):
        status, _ = await room.ask("admin", "GET", "/polls", params={"as_user_id": nobody})
        assert (nobody, status) == (nobody, 400)
