"""Lines of imports and exports, and what an import answers to them."""

import io
import json
import uuid
from collections.abc import Iterable
from typing import Any

from storage.documents import UserId
from tests.conftest import Client, Raw
from tests.support.casting import answered
from tests.support.seeds import Json

NDJSON = "application/x-ndjson"
CREATED_AT = "2014-01-07T15:16:18Z"
POLL_ID = str(uuid.UUID(int=1))


def a_ballot(user_id: UserId, *options: str, **members: Any) -> Json:
    return {
        "userId": user_id,
        "optionIds": [*options],
        "createdAt": CREATED_AT,
        "updatedAt": CREATED_AT,
        **members,
    }


def a_line(which: int = 1, /, *ballots: Json, **members: Any) -> Json:
    """A content poll with the options 1 and 2, and these ballots in its standing session."""
    return {
        "id": str(uuid.UUID(int=which)),
        "number": 100 + which,
        "workspace": "PLAT",
        "content": f"PLAT-{which}",
        "title": f"Tea {which}?",
        "options": [{"id": "1", "title": "yes"}, {"id": "2", "title": "no", "isCorrect": True}],
        "createdBy": 7,
        "createdAt": CREATED_AT,
        "sessions": [{"id": 200 + which, "ballots": [*ballots]}],
        **members,
    }


def body_of(lines: Iterable[Json | bytes]) -> bytes:
    encoded = (one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines)
    return b"".join(one + b"\n" for one in encoded)


async def send(api: Client, body: Any, **options: Any) -> Any:
    headers = {"Content-Type": NDJSON, **options.pop("headers", {})}
    body = io.BytesIO(body) if isinstance(body, bytes) else body
    return await api.post("/rest/import", data=body, headers=headers, **options)


async def answers_to(api: Client, body: Any, **options: Any) -> list[Json]:
    """One for each line of a body, whole or in pieces."""
    response = await send(api, body, **options)
    text = await response.text()
    assert response.status == 200, text
    assert response.content_type == NDJSON
    return [json.loads(line) for line in text.splitlines()]


async def imported(api: Client, *lines: Json | bytes) -> list[str]:
    """The result of each line, or the code and the fields of its refusal."""
    answers = await answers_to(api, body_of(lines))
    assert [one["line"] for one in answers] == [*range(1, len(lines) + 1)]
    return [outcome(one) for one in answers]


def outcome(answer: Json) -> str:
    if answer["status"] == 200:
        return str(answer["result"])
    fields = ",".join(str(one["field"]) for one in answer["errors"])
    return f"{answer['status']} {answer['code']} {fields}"


async def exported(api: Client, poll_id: str = POLL_ID) -> bytes:
    response = await api.get("/rest/export", params={"pollId": poll_id})
    body = await response.read()
    assert response.status == 200, body
    assert response.content_type == NDJSON
    return bytes(body)


def forget(raw: Raw) -> None:
    """Empties the store of polls, past the service: as if it were another one."""
    kinds = ("containers", "addresses", "sessions", "ballots", "sequences", "attempts", "purges")
    for kind in (*kinds, "idempotency"):
        raw[kind].delete_many({})


def require_counted(raw: Raw) -> int:
    """Holds every session against its ballots; returns how many ballots there are."""
    total = 0
    for session in raw.sessions.find():
        ballots = [*raw.ballots.find({"session_id": session["_id"]})]
        results = dict.fromkeys(session["rules"]["options"], 0)
        for ballot in ballots:
            for choice in ballot["choices"]:
                results[choice] += 1
        assert (session["results"], session["participants"]) == (results, len(ballots))
        total += len(ballots)
    assert total == raw.ballots.count_documents({})
    return total


async def vote(api: Client, user_id: UserId, line: Json, option: str = "1") -> int:
    """Casts a vote for a user in the poll of a line; the status of the answer."""
    query = {name: line[name] for name in ("workspace", "content")}
    query |= {"pollId": line["id"], "as_user_id": str(user_id)}
    response = await api.post("/rest/votes", params=query, json={"optionIds": [option]})
    await response.read()
    return int(response.status)


async def shown(api: Client, line: Json, **query: str) -> Json:
    place = {name: line[name] for name in ("workspace", "content")}
    query = {**place, "pollId": line["id"], **query}
    [poll] = await answered(await api.get("/rest/polls", params=query))
    return dict(poll)
