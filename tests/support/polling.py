"""Calls of the polling API as the tests make them, each held to its status and its kind of body."""

from typing import Any

from storage.documents import UserId
from tests.conftest import Client, Raw, TokenMaker

API = "/api/v1"
TEACHER, TA, STUDENT = "TeacherEnrollment", "TaEnrollment", "StudentEnrollment"

Headers = dict[str, str]
Json = dict[str, Any]


async def call(api: Client, method: str, path: str, status: int = 200, **request: Any) -> Any:
    """The body of an answer; a problem body where the status is an error, None for a 204."""
    async with api.request(method, path, **request) as answer:
        text = await answer.text()
        assert answer.status == status, f"{method} {path}: {answer.status} {text}"
        if status == 204:
            assert text == ""
            return None
        body = await answer.json(content_type=None)
        if status >= 400:
            assert answer.content_type == "application/problem+json"
            assert body["status"] == status
            assert body["errors"][0]["message"] == body["detail"]
        else:
            assert answer.content_type == "application/json"
        return body


async def make_poll(
    api: Client, *choices: str, headers: Headers | None = None, **poll: Any
) -> Json:
    """A poll made under ``/api/v1``, with these texts as its choices."""
    body = {"polls": [{"question": "Tea?", **poll}]}
    made = await call(api, "POST", f"{API}/polls", json=body, headers=headers)
    assert list(made) == ["polls"]
    assert len(made["polls"]) == 1
    created: Json = made["polls"][0]
    for text in choices:
        await make_choice(api, created["id"], headers=headers, text=text)
    return created


async def make_choice(
    api: Client, poll_id: int | str, headers: Headers | None = None, **choice: Any
) -> Json:
    made = await call(
        api,
        "POST",
        f"{API}/polls/{poll_id}/poll_choices",
        json={"poll_choices": [choice]},
        headers=headers,
    )
    created: Json = made["poll_choices"][0]
    return created


async def make_session(
    api: Client,
    poll_id: int | str,
    headers: Headers | None = None,
    course_id: int = 1,
    **session: Any,
) -> Json:
    made = await call(
        api,
        "POST",
        f"{API}/polls/{poll_id}/poll_sessions",
        json={"poll_sessions": [{"course_id": course_id, **session}]},
        headers=headers,
    )
    created: Json = made["poll_sessions"][0]
    return created


async def enroll(
    api: Client, user_id: UserId, course_id: int, kind: str = STUDENT, section: int | None = None
) -> Json:
    enrollment = {"user_id": user_id, "type": kind, "course_section_id": section}
    made: Json = await call(
        api, "POST", f"{API}/courses/{course_id}/enrollments", json={"enrollment": enrollment}
    )
    return made


async def teacher_of(
    api: Client, make_token: TokenMaker, course_id: int = 1, user_id: UserId = 7
) -> Headers:
    """A token without any workspace, whose user teaches a course."""
    await enroll(api, user_id, course_id, TEACHER)
    return await make_token(user_id=user_id, workspaces=[])


async def listed(api: Client, path: str, headers: Headers | None = None, **query: Any) -> Any:
    """The rows of a list, from its envelope."""
    body = await call(api, "GET", path, headers=headers, params=query)
    (rows,) = body.values()
    return rows


def stored_poll(raw: Raw, number: int) -> Json:
    container = raw.containers.find_one({"polls.number": number})
    assert container is not None
    poll: Json = next(poll for poll in container["polls"] if poll["number"] == number)
    return poll


def stored_session(raw: Raw, session_id: int) -> Json:
    session = raw.sessions.find_one({"_id": session_id})
    assert session is not None
    return session


def seed_votes(raw: Raw, session_id: int, results: dict[str, int], participants: int) -> None:
    """Counts as casting would leave them."""
    counts = {f"results.{option}": votes for option, votes in results.items()}
    changed = raw.sessions.update_one(
        {"_id": session_id}, {"$set": {**counts, "participants": participants}}
    )
    assert changed.modified_count == 1
