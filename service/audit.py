"""The audit over HTTP: ``/audit`` (docs/api.md, section 10)."""

from datetime import datetime
from typing import NamedTuple

from aiohttp import web
from marshmallow import ValidationError

from schemas.fields import UUID
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import pagination
from service.web.call import CALL
from service.web.query import TIME_MESSAGE, parse_time
from service.web.responses import json_response
from service.web.store_key import STORE
from storage.audit import ENTRY_ID
from storage.pagination import Window

AUDIT = "/audit"


class AuditQuery(NamedTuple):
    poll_id: str | None
    since: datetime | None
    window: Window


async def list_entries(request: web.Request) -> web.Response:
    """List who changed what, newest first.

    For admins. An entry tells of a change of a definition, an export or an erasure. Does not tell
    of votes: neither what was chosen, nor who voted.
    """
    query = _read_query(request)
    policy.require_admin(Caller(request[CALL].principal))
    page = await request.app[STORE].audit.newest(
        query.window, poll_id=query.poll_id, since=query.since
    )
    cursor = None if page.next_after is None else pagination.encode(page.next_after)
    data = {"entries": [views.audit_entry(entry) for entry in page.rows], "nextCursor": cursor}
    return json_response(data, headers=pagination.next_header(request, cursor))


def _read_query(request: web.Request) -> AuditQuery:
    """Raises ``ValidationError`` for the first parameter that is not valid."""
    given = dict(request[CALL].query)
    poll_id, since = given.get("pollId"), given.get("since")
    if poll_id is not None and not UUID.fullmatch(poll_id):
        raise ValidationError("must be a UUID", "pollId")
    moment = None if since is None else parse_time(since)
    if since is not None and moment is None:
        raise ValidationError(TIME_MESSAGE, "since")
    limit, cursor = given.get("limit"), given.get("cursor")
    window = Window(
        None if cursor is None else _read_cursor(cursor),
        limit=pagination.DEFAULT_LIMIT if limit is None else pagination.read_count(limit, "limit"),
    )
    return AuditQuery(poll_id.lower() if poll_id else None, moment, window)


def _read_cursor(text: str) -> str:
    after = pagination.decode(text)
    if not isinstance(after, str) or not ENTRY_ID.fullmatch(after):
        raise ValidationError("is not a valid cursor for this list", "cursor")
    return after
