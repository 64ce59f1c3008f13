"""Requests and documents that many tests start from, and the body of every refusal."""

import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import ClientResponse

from tests.conftest import Raw

Json = dict[str, Any]

ISSUE = {"type": "polls", "workspace": "PLAT", "content": "PLAT-254604"}
PAGE = {"type": "polls", "workspace": "DOCS", "content": "98765", "container": "macro-1"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"

DEFAULT_SETTINGS: Json = {
    "allowSelectionOfMultipleOptions": False,
    "resultsVisibility": "alwaysPublic",
    "endDate": "",
    "hideAbsoluteNumbers": False,
    "allowRevote": False,
    "saveParticipantNames": False,
    "closePollOnEndDate": False,
    "allowComment": False,
}

# The example of the source API's documentation, member for member.
STARS: Json = {
    "settings": {
        "allowSelectionOfMultipleOptions": False,
        "resultsVisibility": "alwaysPublic",
        "endDate": "",
        "hideAbsoluteNumbers": False,
        "allowRevote": False,
        "saveParticipantNames": False,
        "closePollOnEndDate": False,
        "allowComment": False,
    },
    "options": [
        {"id": "1", "title": "⭐", "order": 0},
        {"id": "2", "title": "⭐⭐", "order": 1},
        {"id": "3", "title": "⭐⭐⭐", "order": 2},
        {"id": "4", "title": "⭐⭐⭐⭐", "order": 3},
        {"id": "5", "title": "⭐⭐⭐⭐⭐", "order": 4},
    ],
    "description": "Simple scoring from 1 to 5 stars",
    "title": "Stars from ⭐ to ⭐⭐⭐⭐⭐",
}


def a_poll(**members: Any) -> Json:
    """The body of a small poll, with ``members`` on top."""
    return {"title": "Tea?", "options": [{"title": "yes"}, {"title": "no"}], **members}


def document(number: int, **members: Any) -> Json:
    """A poll as it is stored."""
    return {
        "id": str(uuid.UUID(int=number)),
        "number": number,
        "title": f"Poll {number}",
        "description": "",
        "settings": DEFAULT_SETTINGS,
        "options": [{"id": "1", "title": "yes", "order": 0, "is_correct": False}],
        "highest_option": 1,
        "closes_at": None,
        "standing_session": None,
        "owner_id": 0,
        "created_at": datetime(2126, 1, 1, tzinfo=UTC),
        "version": 1,
        **members,
    }


def seed(raw: Raw, place: dict[str, str], *polls: Json) -> None:
    """Stores a container with these polls, past the service."""
    key = {name: place.get(name, "") for name in ("workspace", "content", "container")}
    container = {"_id": "\x1f".join(key.values()), **key, "version": 1, "polls": list(polls)}
    raw.containers.insert_one(container)
    for poll in polls:
        address = {"_id": poll["id"], "number": poll["number"], "container": container["_id"]}
        raw.addresses.insert_one(address)


def clear(raw: Raw) -> None:
    """Removes all polls, past the service."""
    for name in ("containers", "addresses", "sessions", "deleted_polls", "deleted_sessions"):
        raw[name].delete_many({})


def everything(raw: Raw) -> list[Json]:
    """Every document that a request of ``/rest`` may change."""
    return [*raw.containers.find().sort("_id"), *raw.idempotency.find().sort("_id")]


def stored_polls(raw: Raw) -> list[Json]:
    """All polls of all containers, by number."""
    polls = [poll for container in raw.containers.find() for poll in container["polls"]]
    return sorted(polls, key=lambda poll: int(poll["number"]))


async def refused(
    response: ClientResponse, status: int, fields: list[str | None] | None = None
) -> Json:
    """Checks the body of a refusal, with faults of ``fields``, and returns it."""
    text = await response.text()
    assert response.status == status, text[:500]
    assert response.content_type == "application/problem+json"
    assert response.headers["X-Request-Id"]
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Server"] == "polls"
    problem: Json = await response.json()
    assert problem.keys() == {"type", "title", "status", "detail", "code", "errors"}
    assert problem["type"] == "about:blank"
    assert problem["title"] == HTTPStatus(status).phrase
    assert problem["status"] == status
    assert problem["detail"] == problem["errors"][0]["message"]
    for error in problem["errors"]:
        assert error.keys() == {"field", "message"}
        assert error["field"] is None or error["message"].startswith(f"{error['field']} ")
    named = [error["field"] for error in problem["errors"]]
    assert sorted(named, key=str) == sorted([None] if fields is None else fields, key=str)
    return problem
