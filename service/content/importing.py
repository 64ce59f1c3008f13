"""Polls that are moved here, line by line: ``/rest/import`` (docs/moving.md)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import web
from marshmallow import Schema, ValidationError

from schemas.moving import BALLOTS_LINE, POLL_LINE, SESSIONS_LINE
from service.rules import policy
from service.rules.policy import Caller
from service.web import streams
from service.web.authentication import require_valid
from service.web.bodies import parse_json
from service.web.call import CALL, LIMIT_SECONDS, actor_of
from service.web.concurrency import EXPORT_LIMIT
from service.web.lines import NDJSON, Line, read_lines, require_lines
from service.web.problems import problem_within
from service.web.query import BODY
from service.web.responses import Refused
from service.web.store_key import IMPORTS
from storage.client import set_time_limit
from storage.documents import USERS, ContainerKey
from storage.import_lines import (
    Imported,
    ImportedBallot,
    ImportedPoll,
    ImportedSession,
    LineRefused,
    UnknownChoice,
)

MAX_LINES = 10_000
HEADERS = {"Content-Type": NDJSON, "X-Accel-Buffering": "no"}
LARGE = 16 * 1024
"""A line that takes long to check is checked in a thread: others have their turn meanwhile."""
ENDING = frozenset({403, 408, 503})
"""The statuses after which nothing more is read."""


async def import_polls(request: web.Request) -> web.StreamResponse:
    """Import polls with their ids, times, sessions and votes, line by line.

    For admins. Body and answer are NDJSON, and each line is answered as soon as it is stored, in
    order. What is there already as a line says is left unchanged, so an import that was cut off is
    simply sent again. Does not change a poll that is there and differs: its line is refused.
    """
    policy.require_admin(Caller(request[CALL].principal))
    require_lines(request)
    with request.app[EXPORT_LIMIT].admit():
        request[CALL].is_stream = True
        return await streams.respond(request, HEADERS, _answers(request), seconds=None)


async def _answers(request: web.Request) -> AsyncGenerator[bytes, None]:
    """One for each line. What ends the reading is the answer to the line that it was found at."""
    number = 0
    try:
        async with aclosing(read_lines(request, MAX_LINES)) as lines:
            async for line in lines:
                number = line.number
                answer = await _answer(request, line)
                yield _encoded(number, answer)
                if answer["status"] in ENDING:
                    return
    except ConnectionError:
        raise
    except Exception as error:
        if not number:
            raise
        yield _encoded(number + 1, problem_within(request, error))


def _encoded(number: int, answer: dict[str, Any]) -> bytes:
    first = {"line": number, "status": answer["status"]}
    return orjson.dumps({**first, **answer}, option=orjson.OPT_APPEND_NEWLINE)


async def _answer(request: web.Request, line: Line) -> dict[str, Any]:
    set_time_limit(LIMIT_SECONDS)
    try:
        await require_valid(request)
        imported = await _import(request, line)
    except LineRefused as refusal:
        status = 400 if isinstance(refusal, UnknownChoice) else 409
        message = f"{refusal.field} {refusal}"
        return problem_within(request, Refused(status, refusal.code, refusal.field, message))
    except ConnectionError:
        raise
    except Exception as error:
        return problem_within(request, error)
    result = "created" if imported.is_new else "unchanged"
    return {"status": 200, "id": imported.poll_id, "number": imported.number, "result": result}


async def _import(request: web.Request, line: Line) -> Imported:
    raw = line.raw
    if not isinstance(raw, bytes):
        raise raw
    kind, data = await asyncio.to_thread(_load, raw) if len(raw) > LARGE else _load(raw)
    imports, actor = request.app[IMPORTS], actor_of(request)
    if kind is POLL_LINE:
        return await imports.add_poll(_poll(data), actor)
    if kind is SESSIONS_LINE:
        sessions = [*map(_session, data["sessions"])]
        return await imports.add_sessions(data["pollId"], sessions, data.get("voterKey"), actor)
    ballots = [*map(_ballot, data["ballots"])]
    return await imports.add_ballots(
        data["pollId"], data.get("sessionId"), ballots, data.get("voterKey"), actor
    )


def _load(raw: bytes) -> tuple[Schema, dict[str, Any]]:
    """The schema of a line, and what it loads to. Raises ``ValidationError``."""
    data = parse_json(raw)
    if not isinstance(data, dict):
        raise ValidationError("must be an object", BODY)
    kind: Schema = POLL_LINE
    if "pollId" in data:
        kind = SESSIONS_LINE if "sessions" in data else BALLOTS_LINE
    return kind, kind.load(data)


def _poll(line: dict[str, Any]) -> ImportedPoll:
    key = None
    if line["workspace"] != USERS:
        key = ContainerKey(line["workspace"], line["content"], line.get("container", ""))
    return ImportedPoll(
        key,
        line["definition"],
        line.get("number"),
        line.get("createdBy"),
        line.get("createdAt"),
        [*map(_session, line["sessions"])],
        line.get("voterKey"),
    )


def _session(given: dict[str, Any]) -> ImportedSession:
    return ImportedSession(
        given.get("id"),
        given.get("courseId"),
        given.get("courseSectionId"),
        given.get("isPublished"),
        given["hasEnded"],
        given["hasPublicResults"],
        given.get("createdAt"),
        given.get("closedAt"),
        given.get("participants"),
        [*map(_ballot, given["ballots"])],
        given["results"] if given["countsOnly"] else None,
        given["isFinal"],
    )


def _ballot(given: dict[str, Any]) -> ImportedBallot:
    return ImportedBallot(
        given.get("userId"),
        given.get("voter"),
        given["optionIds"],
        given.get("comment"),
        given.get("id"),
        given.get("createdAt"),
        given.get("updatedAt"),
    )
