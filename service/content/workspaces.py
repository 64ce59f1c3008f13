"""The polls of a workspace, page by page: ``GET /rest/polls`` (docs/api.md, section 3)."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from aiohttp import web
from marshmallow import ValidationError

from schemas.fields import USER_MESSAGE, parse_user_id
from service.content.expanding import part_of, see
from service.content.query import NOTHING, READ_ELSEWHERE, Expansion, Parameters, read_type
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import pagination
from service.web.call import CALL
from service.web.query import TIME_MESSAGE, parse_time
from service.web.responses import json_response
from service.web.store_key import STORE
from storage.documents import ContainerKey
from storage.listings import Filters, Place
from storage.pagination import Window

STATES = {"open": True, "closed": False}
PLACES = frozenset({"content", "container", "pollId"})
FILTERS = ("state", "updatedSince", "createdBy", "limit", "cursor")
NOT_HERE = "is for the polls of a workspace: leave content, container and pollId out"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


class WorkspaceQuery(NamedTuple):
    workspace: str
    filters: Filters
    window: Window
    expansion: Expansion


def is_of_workspace(request: web.Request) -> bool:
    """Whether the query names a workspace, and no content in it.

    Raises a ``ValidationError`` where it names both a content and what only such a list takes.
    """
    names = {name for name, _ in request[CALL].query}
    if "workspace" in names and not names & PLACES:
        return True
    if not names.isdisjoint(FILTERS):
        raise ValidationError({name: [NOT_HERE] for name in FILTERS if name in names})
    return False


async def list_polls(request: web.Request) -> web.Response:
    """A page of polls, each with its place, and the cursor of the next page."""
    query = _read_query(request)
    key = ContainerKey(query.workspace, "", "")
    caller = Caller(request[CALL].principal)
    policy.require_content(caller.principal, policy.READ, key)
    store = request.app[STORE]
    page = await store.listings.in_workspace(query.workspace, query.filters, query.window)
    data = [views.content_poll(one.poll) | views.placed(*one) for one in page.rows]
    if query.expansion is not NOTHING:
        seen = await see(store.sessions, caller, [(one.key, one.poll) for one in page.rows])
        for target, one in zip(data, seen, strict=True):
            target.update(part_of(one, query.expansion))
    cursor = _cursor_of(page.next_after)
    headers = pagination.next_header(request, cursor)
    return json_response({"polls": data, "nextCursor": cursor}, headers=headers)


def _read_query(request: web.Request) -> WorkspaceQuery:
    """Raises a ``ValidationError`` with every bad parameter."""
    query = Parameters(request[CALL].query)
    read_type(request, query, "polls")
    workspace = query.read("workspace")
    state = query.read("state", required=False)
    if state is not None and state not in STATES:
        query.faults["state"] = [f"must be {' or '.join(STATES)}"]
    since = query.read("updatedSince", required=False)
    moment = parse_time(since) if since is not None else None
    if since is not None and moment is None:
        query.faults["updatedSince"] = [TIME_MESSAGE]
    owner = query.read("createdBy", required=False)
    owner_id = None if owner is None else 0 if owner == "0" else parse_user_id(owner)
    if owner is not None and owner_id is None:
        query.faults["createdBy"] = [
            f"must be 0, or the id of a user: {USER_MESSAGE.removeprefix('must be ')}"
        ]
    expansion = query.read_expansion()
    limit = query.read("limit", required=False)
    cursor = query.read("cursor", required=False)
    query.require_once(*READ_ELSEWHERE)
    if query.faults:
        raise ValidationError(query.faults)
    window = Window(
        None if cursor is None else _read_cursor(cursor, by_change=moment is not None),
        limit=pagination.DEFAULT_LIMIT if limit is None else pagination.read_count(limit, "limit"),
    )
    filters = Filters(STATES.get(state or ""), moment, owner_id)
    return WorkspaceQuery(workspace or "", filters, window, expansion)


def _read_cursor(text: str, *, by_change: bool) -> Any:
    after = pagination.decode(text)
    if not by_change and pagination.is_number(after):
        return after
    match after:
        case [int(ms), int(number)] if by_change and 0 <= ms <= MAX_MS:
            if pagination.is_number(number) and not isinstance(ms, bool):
                return EPOCH + timedelta(milliseconds=ms), number
    raise ValidationError("is not a valid cursor for this list", "cursor")


def _cursor_of(after: int | Place | None) -> str | None:
    if isinstance(after, tuple):
        moment, number = after
        return pagination.encode([(moment - EPOCH) // timedelta(milliseconds=1), number])
    return None if after is None else pagination.encode(after)
