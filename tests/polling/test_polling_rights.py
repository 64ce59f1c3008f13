"""Every role at every route of the polling API, over HTTP."""

from typing import Any, NamedTuple

import pytest

from service.polling.paths import API, CHOICES, COURSE, POLL, SESSIONS
from service.routes import ROUTES
from service.web.store_key import STORE
from tests.conftest import Client, TokenMaker
from tests.support import classroom
from tests.support.classroom import (
    ACTING,
    ELSEWHERE,
    NOWHERE,
    ROLES,
    WITHIN,
    Classroom,
    Target,
)

TEACHERS = frozenset({"owner", "colleague", "assistant", "section teacher", "outside teacher"})
ENROLLED = frozenset(ROLES) - {"outside teacher", "stranger"}
OF_SECTION = frozenset({"owner", "colleague", "assistant", "student"})
ALL = frozenset(ROLES)
MANAGERS = frozenset({"owner"})
OUTSIDE = frozenset({"outside teacher"})
NOBODY: frozenset[str] = frozenset()


class Row(NamedTuple):
    """The roles that are answered, besides admins; all others get 403.

    ``json`` is the body to send, ``query`` what must follow the path. ``elsewhere`` and ``nowhere``
    are the roles that are answered where a token acts for them that covers another course, or none.
    """

    who: frozenset[str]
    json: dict[str, object] | None = None
    status: int = 200
    query: str = ""
    elsewhere: frozenset[str] = frozenset()
    nowhere: frozenset[str] = frozenset()


CHOICE, SESSION = f"{CHOICES}/{{id}}", f"{SESSIONS}/{{id}}"
ENROLLMENTS = f"{COURSE}/enrollments"

TABLE: dict[tuple[str, str], Row] = {
    ("GET", f"{API}/polls"): Row(ALL, elsewhere=ALL),
    ("POST", f"{API}/polls"): Row(TEACHERS, {"poll": {"question": "Milk?"}}, elsewhere=OUTSIDE),
    # One of its sessions is for the whole course.
    ("GET", POLL): Row(ENROLLED, elsewhere=MANAGERS),
    ("PUT", POLL): Row(MANAGERS, {"poll": {"question": "Milk?"}}),
    ("DELETE", POLL): Row(MANAGERS, status=204),
    ("GET", CHOICES): Row(ENROLLED, elsewhere=MANAGERS),
    ("POST", CHOICES): Row(MANAGERS, {"poll_choice": {"text": "no"}}),
    ("GET", CHOICE): Row(ENROLLED, elsewhere=MANAGERS),
    ("PUT", CHOICE): Row(MANAGERS, {"poll_choice": {"text": "no"}}),
    ("DELETE", CHOICE): Row(MANAGERS, status=204),
    ("GET", SESSIONS): Row(MANAGERS, elsewhere=MANAGERS),
    ("POST", SESSIONS): Row(MANAGERS, {"poll_session": {"course_id": classroom.COURSE}}),
    # That of the section; that of the course has a test of its own.
    ("GET", SESSION): Row(OF_SECTION),
    ("PUT", SESSION): Row(MANAGERS, {"poll_session": {"has_public_results": False}}),
    ("DELETE", SESSION): Row(MANAGERS, status=204),
    ("GET", f"{SESSION}/open"): Row(MANAGERS),
    ("PUT", f"{SESSION}/open"): Row(MANAGERS),
    ("GET", f"{SESSION}/close"): Row(MANAGERS),
    ("PUT", f"{SESSION}/close"): Row(MANAGERS),
    # Published to nobody else.
    ("GET", f"{SESSION}/results"): Row(MANAGERS),
    ("POST", f"{SESSION}/links"): Row(OF_SECTION, {"actions": ["view"], "expiresIn": 60}),
    ("GET", f"{SESSION}/export"): Row(MANAGERS, query="?format=json"),
    ("GET", f"{API}/poll_sessions/opened"): Row(ALL, elsewhere=ALL, nowhere=ALL),
    ("GET", f"{API}/poll_sessions/closed"): Row(ALL, elsewhere=ALL, nowhere=ALL),
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
    """Submissions have rules of their own (404 to strangers), and their tests."""
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
    for prefix, who in (
        (WITHIN, row.who - (OUTSIDE if row.elsewhere == OUTSIDE else NOBODY)),
        (ELSEWHERE, row.elsewhere),
        (NOWHERE, row.nowhere),
    ):
        expected |= {prefix + role: row.status if role in who else 403 for role in ROLES}
    expected["admin"] = row.status
    answered = {}
    for role in expected:
        path = path_of(pattern, target)
        answered[role], _ = await room.ask(role, method, path, json=row.json)
        if method == "DELETE" and answered[role] == row.status:
            target = await room.target()
    assert answered == expected


def changes(method: str, pattern: str) -> bool:
    """Whether a request needs ``write``; a link is made by whoever may read."""
    is_get = method == "GET" and not pattern.endswith(("/open", "/close"))
    return not is_get and not pattern.endswith("/links")


@pytest.mark.parametrize("action", ["read", "write", "vote"])
async def test_the_actions_of_a_token_limit_its_user(
    room: Classroom, make_token: TokenMaker, action: str
) -> None:
    room.headers["limited owner"] = await make_token(user_id=classroom.OWNER, actions=[action])
    for (method, pattern), row in TABLE.items():
        path = path_of(pattern, await room.target())
        status, body = await room.ask("limited owner", method, path, json=row.json)
        is_writing = changes(method, pattern)
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
            is_answered = method != "DELETE" and changes(method, pattern)
            if "owner" not in row.who or not is_answered:
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


async def test_a_token_that_is_bound_to_polls_reaches_these_alone(
    room: Classroom, make_token: TokenMaker
) -> None:
    other = await room.target()
    for (method, pattern), row in TABLE.items():
        target = await room.target()
        for poll_id, is_bound in ((target.poll_id, True), (other.poll_id, False)):
            located = await room.api.app[STORE].polls.find(poll_id)
            polls = [located.poll["id"]]
            for role in ("owner", "student", "stranger"):
                user_id, _ = ROLES[role]
                room.headers["bound"] = await make_token(user_id=user_id, polls=polls)
                status, _ = await room.ask("bound", method, path_of(pattern, target), json=row.json)
                is_allowed = is_bound and "{poll_id}" in pattern and role in row.who
                expected = row.status if is_allowed else 403
                assert (method, pattern, role, status) == (method, pattern, role, expected)
                if method == "DELETE" and is_allowed:
                    target = await room.target()
                    break


async def test_a_limited_service_sees_nothing_of_the_sessions_in_other_courses(
    room: Classroom,
) -> None:
    """Nor do the polls that its user made tell of them."""
    target = await room.target()
    await room.enroll(classroom.OWNER, classroom.OTHER_COURSE, None, "TeacherEnrollment")
    poll = f"/polls/{target.poll_id}"
    there = await room.made(
        "owner", f"{poll}/poll_sessions", course_id=classroom.OTHER_COURSE, has_public_results=True
    )
    own: dict[int, int] = {}
    for session, voter in ((there["id"], "outside teacher"), (target.whole_id, "student")):
        await room.ask("owner", "PUT", f"{poll}/poll_sessions/{session}/open")
        submissions = f"{poll}/poll_sessions/{session}/poll_submissions"
        for user in (voter, "owner"):
            vote = await room.made(user, submissions, poll_choice_id=target.choice_id)
        own[session] = vote["id"]

    async def seen(prefix: str) -> tuple[set[int], Any, Any]:
        _, listed = await room.ask(f"{prefix}owner", "GET", f"{poll}/poll_sessions")
        _, shown = await room.ask(f"{prefix}owner", "GET", poll)
        _, mine = await room.ask(f"{prefix}owner", "GET", "/polls")
        totals = [one["polls"][0]["total_results"] for one in (shown, mine)]
        return {one["id"] for one in listed["poll_sessions"]}, *totals

    choice = str(target.choice_id)
    both = {target.whole_id, target.section_id}
    assert await seen(ACTING) == ({*both, there["id"]}, {choice: 4}, {choice: 4})
    assert await seen(WITHIN) == (both, {choice: 2}, {choice: 2})
    assert await seen(ELSEWHERE) == ({there["id"]}, {choice: 2}, {choice: 2})
    for prefix, session in ((WITHIN, there["id"]), (ELSEWHERE, target.whole_id)):
        one = f"{poll}/poll_sessions/{session}"
        vote_path = f"{one}/poll_submissions/{own[session]}"
        assert (await room.ask(f"{ACTING}owner", "GET", vote_path))[0] == 200
        assert (await room.ask(f"{prefix}owner", "GET", vote_path))[0] == 404
        for method, path in (
            ("GET", one),
            ("GET", f"{one}/export?format=json"),
            ("GET", f"{one}/poll_submissions"),
            ("PUT", f"{one}/close"),
            ("DELETE", one),
        ):
            status, _ = await room.ask(f"{prefix}owner", method, path)
            assert (prefix, method, path, status) == (prefix, method, path, 403)


async def test_a_limited_service_does_not_change_what_runs_in_another_course(
    room: Classroom,
) -> None:
    """The poll of its user, which has sessions in two courses, is not its alone."""
    target = await room.target()
    await room.enroll(classroom.OWNER, classroom.OTHER_COURSE, None, "TeacherEnrollment")
    poll = f"/polls/{target.poll_id}"
    choice = f"{poll}/poll_choices/{target.choice_id}"
    changes: list[tuple[str, str, Any]] = [
        ("PUT", poll, {"poll": {"question": "Milk?"}}),
        ("POST", f"{poll}/poll_choices", {"poll_choice": {"text": "no"}}),
        ("PUT", choice, {"poll_choice": {"text": "no"}}),
        ("DELETE", choice, None),
        ("DELETE", poll, None),
    ]
    sessions = f"{poll}/poll_sessions"
    await room.made("owner", sessions, course_id=classroom.OTHER_COURSE)
    for prefix, course in ((WITHIN, classroom.OTHER_COURSE), (ELSEWHERE, classroom.COURSE)):
        for method, path, body in changes:
            status, problem = await room.ask(f"{prefix}owner", method, path, json=body)
            assert (method, path, status) == (method, path, 403)
            assert f"sessions in the course {course}," in problem["detail"]
        status, _ = await room.ask(
            f"{prefix}owner", "POST", sessions, json={"poll_session": {"course_id": course}}
        )
        assert status == 403
        moved = {"poll_session": {"course_id": course}}
        _, listed = await room.ask(f"{prefix}owner", "GET", sessions)
        own = f"{sessions}/{listed['poll_sessions'][0]['id']}"
        assert (await room.ask(f"{prefix}owner", "PUT", own, json=moved))[0] == 403
        assert (await room.ask(f"{prefix}owner", "PUT", f"{own}/open"))[0] == 200
    assert (await room.ask(f"{ACTING}owner", "PUT", poll, json=changes[0][2]))[0] == 200


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
        for path in (f"/courses/{unknown}", f"/courses/{unknown}/enrollments"):
            status, _ = await room.ask("stranger", "GET", path)
            assert (path, status) == (path, 404)
    for unknown in ("0", "%20", "u%0A", "u" * 129):  # almost any other text is a user
        assert (await room.ask("stranger", "GET", f"/users/{unknown}"))[0] == 404


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
        for asking in (role, ACTING + role, WITHIN + role, NOWHERE + role):
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
    for nobody in ("0", "", "self", " 1", "u" * 129):
        status, _ = await room.ask("admin", "GET", "/polls", params={"as_user_id": nobody})
        assert (nobody, status) == (nobody, 400)
