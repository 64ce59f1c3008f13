"""The lines of a poll that is moved to another store: ``/rest/export`` (docs/moving.md)."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

import orjson
from aiohttp import web
from marshmallow import ValidationError

from schemas.fields import UUID, parse_id
from service.content.query import READ_ELSEWHERE, Parameters
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import streams
from service.web.call import CALL, actor_of
from service.web.concurrency import EXPORT_LIMIT
from service.web.lines import NDJSON
from service.web.store_key import IMPORTS, STORE
from storage.audit import Action
from storage.documents import BallotDocument, SessionDocument, SessionRules
from storage.exports import PollExport

LINE_WEIGHT = 128 * 1024
"""Bytes of a line, about. With an eighth of what a body may have, it is read in any store."""
VALUE_WEIGHT = 16
"""What each bracket and comma counts: a line has less than half the values that JSON may have."""
FIRST_BALLOTS = 200
"""So many are in the line of their session; the others have lines of their own."""
END = b"]}\n"


async def export_poll(request: web.Request) -> web.StreamResponse:
    """Export a poll with its sessions and votes, for an import elsewhere.

    For admins; ``pollId`` is its id, or its number under ``/api/v1``. The answer is NDJSON: the
    lines that the import takes. Votes without a name have a keyed hash in place of their voter.
    Does not export which requests have cast a vote.
    """
    policy.require_admin(Caller(request[CALL].principal))
    reference = _read_reference(request)
    store = request.app[STORE]
    with request.app[EXPORT_LIMIT].admit():
        poll_id = (await store.polls.find(reference)).poll["id"]
        await store.sessions.note_ends([poll_id])
        async with store.exports.open_poll(poll_id) as export:
            number = export.located.poll["number"]
            headers = {
                "Content-Type": NDJSON,
                "Content-Disposition": f'attachment; filename="poll-{number}.ndjson"',
            }
            await store.audit.write(actor_of(request), Action.POLL_EXPORTED, poll_id=poll_id)
            lines = export_lines(export, request.app[IMPORTS].voter_key)
            return await streams.respond(request, headers, lines)


def _read_reference(request: web.Request) -> int | str:
    query = Parameters(request[CALL].query)
    given = query.read("pollId")
    number = None if given is None else parse_id(given)
    if given is not None and number is None and UUID.fullmatch(given) is None:
        query.faults["pollId"] = ["must be the UUID of a poll, or its number"]
    query.require_once(*READ_ELSEWHERE)
    if query.faults:
        raise ValidationError(query.faults)
    return number or (given or "").lower()


async def export_lines(export: PollExport, voter_key: str) -> AsyncGenerator[bytes, None]:
    """The line of the poll, with as many of its sessions as fit, and the lines of the rest.

    The same poll has the same lines, wherever it is exported.
    """
    poll_id = export.located.poll["id"]
    of_poll = {"pollId": poll_id, "voterKey": voter_key}
    begin = _begin(views.moved_poll(export.located, voter_key), "sessions")
    held: list[bytes] = []
    for session in export.sessions:
        shown = _begin(views.moved_session(session), "ballots")
        batches = _ballots(export, session)
        async with aclosing(batches), aclosing(_packed(batches, session["rules"])) as packs:
            first = shown + await anext(packs, b"") + b"]}"
            if held and sum(map(_weight, held)) + _weight(first) > LINE_WEIGHT:
                yield begin + b",".join(held) + END
                begin, held = _begin(of_poll, "sessions"), []
            held.append(first)
            async for more in packs:
                if held:
                    yield begin + b",".join(held) + END
                    begin, held = _begin(of_poll, "sessions"), []
                yield _begin({**of_poll, "sessionId": session["_id"]}, "ballots") + more + END
    if held or not export.sessions:
        yield begin + b",".join(held) + END


async def _ballots(
    export: PollExport, session: SessionDocument
) -> AsyncGenerator[Sequence[BallotDocument], None]:
    """None where only the counts are kept: what is still there is about to be removed."""
    if session.get("counts_only"):
        return
    async with aclosing(export.ballots(session["_id"])) as batches:
        async for ballots in batches:
            yield ballots


def _begin(members: Mapping[str, object], name: str) -> bytes:
    """An object without its end, whose last member is a list that is yet to come."""
    return orjson.dumps(members)[:-1] + b',"' + name.encode() + b'":['


def _weight(raw: bytes) -> int:
    values = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    return max(len(raw), VALUE_WEIGHT * values)


async def _packed(
    batches: AsyncIterator[Sequence[BallotDocument]], rules: SessionRules
) -> AsyncGenerator[bytes, None]:
    """The ballots as items of lists, as many in each as fit in a line."""
    held: list[bytes] = []
    weight, most = 0, FIRST_BALLOTS
    async for ballots in batches:
        for ballot in ballots:
            raw = orjson.dumps(views.moved_ballot(ballot, rules))
            if held and (len(held) == most or weight + _weight(raw) > LINE_WEIGHT // 2):
                yield b",".join(held)
                held, weight, most = [], 0, 2 * FIRST_BALLOTS
            held.append(raw)
            weight += _weight(raw)
    if held:
        yield b",".join(held)
