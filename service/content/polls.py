"""Content polls: ``/rest/polls`` (docs/api.md, section 3)."""

from collections.abc import Sequence
from typing import cast

import orjson
from aiohttp import web
from marshmallow import ValidationError

from schemas.content import NEW_POLL, POLL_REPLACEMENT, completed
from service.content import workspaces
from service.content.expanding import Seen, expanded, part_of, see
from service.content.query import (
    NOTHING,
    ContentQuery,
    Expansion,
    read_content_query,
    read_poll_address,
    read_restorable_for,
)
from service.content.responses import poll_response
from service.rules import policy, validators, views
from service.rules.policy import Caller
from service.web import responses
from service.web.bodies import read_idempotency_key, read_json_body
from service.web.call import CALL, CLOCK, actor_of
from service.web.concurrency import in_turns
from service.web.conditional import read_if_match, revalidate, tag_of
from service.web.store_key import STORE
from storage.documents import Container, LocatedPoll, PollDefinition, PollDocument, revision
from storage.polls import redefined


async def list_polls(request: web.Request) -> web.Response:
    """List the polls of a content, oldest first, or those of a workspace.

    For tokens with ``read`` on the workspace. With ``pollId``, the list holds that poll only, and
    its ``ETag`` is for ``If-Match``. Without ``content``, the answer is a page of the polls of the
    workspace, the newest first or, with ``updatedSince``, the longest unchanged first. Does not
    show results without ``expand``, or to callers that may not see them.
    """
    if workspaces.is_of_workspace(request):
        return await workspaces.list_polls(request)
    query = read_content_query(request)
    policy.require_content(request[CALL].principal, policy.READ, query.key, query.poll_id)
    polls = request.app[STORE].polls
    if query.poll_id is None:
        container = await polls.in_container(query.key)
        if query.expansion is not NOTHING:
            return await _expanded(request, query, container.polls)
        headers = revalidate(request, _tag(container))
        return responses.bytes_response(_encoded(container), headers=headers)
    poll = await polls.get(query.key, query.poll_id)
    if query.expansion is not NOTHING:
        return await _expanded(request, query, [poll], of=revision(poll))
    headers = revalidate(request, revision(poll))
    return responses.json_response([views.content_poll(poll)], headers=headers)


async def _expanded(
    request: web.Request,
    query: ContentQuery,
    polls: Sequence[PollDocument],
    *,
    of: str | None = None,
) -> web.Response:
    """The ``ETag`` names the revision that the answer is ``of``, if it is of one."""
    expansion = query.expansion
    caller = Caller(request[CALL].principal)
    sessions = request.app[STORE].sessions
    seen = await see(sessions, caller, [(query.key, poll) for poll in polls])
    parts = [_parts(one, expansion) async for one in in_turns(seen)]
    headers = revalidate(request, tag_of(validators.of_polls(polls), parts, revision=of))
    return responses.json_response(await expanded(seen, expansion), headers=headers)


def _parts(seen: Seen, expansion: Expansion) -> validators.Parts:
    """What ``part_of`` is made of."""
    results, standing = None, seen.standing
    if expansion.results and standing is not None:
        results = validators.of_results(standing.session, standing.view)
    return results, part_of(seen, Expansion(vote=True)) if expansion.vote else None


def _tag(container: Container) -> str:
    if container.tag is None:
        container.tag = tag_of(validators.of_polls(container.polls))
    return container.tag


def _encoded(container: Container) -> bytes:
    """The polls of a container as JSON, encoded once: they are the same for every caller."""
    if container.shown is None:
        container.shown = orjson.dumps([views.content_poll(poll) for poll in container.polls])
    return container.shown


async def create_poll(request: web.Request) -> web.Response:
    """Create a poll.

    For tokens with ``write`` on the workspace. Members that are left out get their defaults, and
    options without an ``id`` are numbered. Does not replace a poll: an ``id`` that another poll has
    is a 409.
    """
    key = read_content_query(request).key
    principal = request[CALL].principal
    policy.require_creation(principal, key)
    body = await read_json_body(request)
    poll = await request.app[STORE].polls.add(
        key,
        NEW_POLL.load(body),
        owner_id=principal.user_id,
        now=request.app[CLOCK](),
        idempotency_key=read_idempotency_key(request, body),
        actor=actor_of(request),
    )
    return poll_response(poll)


async def replace_poll(request: web.Request) -> web.Response:
    """Replace a poll.

    For tokens with ``write`` on the workspace. What ``GET`` returned can be sent back unchanged.
    The description and the settings that are left out stay as they are. Does not change votes, and
    cannot remove options that have some.
    """
    located = await _changeable(request)
    definition = POLL_REPLACEMENT.load(await read_json_body(request))
    poll_id = located.poll["id"]
    if definition.get("id", poll_id) != poll_id:
        raise ValidationError("must equal pollId in the query", "id")

    def complete(poll: PollDocument) -> PollDefinition:
        changed = completed(definition, description=poll["description"], settings=poll["settings"])
        return cast(PollDefinition, changed)

    def replaced(poll: PollDocument) -> PollDocument:
        return redefined(poll, complete(poll))

    complete(located.poll)  # a body that is refused is so before If-Match is looked at
    poll = await request.app[STORE].polls.edit(
        located,
        replaced,
        if_match=read_if_match(request),
        check=policy.check_of(request[CALL].principal),
        actor=actor_of(request),
    )
    return poll_response(poll)


async def delete_poll(request: web.Request) -> web.Response:
    """Delete a poll, with its sessions and all votes.

    For tokens with ``write`` on the workspace. It can be restored for a day, or for what the
    service is set to, unless ``now`` is true. Does not delete the answer to the request that
    made the poll: under its ``Idempotency-Key`` that is kept for 24 hours.
    """
    restorable_for = read_restorable_for(request)
    located = await _changeable(request)
    poll = await request.app[STORE].polls.delete(
        located,
        if_match=read_if_match(request),
        check=policy.check_of(request[CALL].principal),
        restorable_for=restorable_for,
        actor=actor_of(request),
    )
    return poll_response(poll)


async def _changeable(request: web.Request) -> LocatedPoll:
    """A poll that the caller may change."""
    key, poll_id = read_poll_address(request)
    policy.require_content(request[CALL].principal, policy.WRITE, key, poll_id)
    poll = await request.app[STORE].polls.get(key, poll_id)
    policy.require_change(request[CALL].principal, poll)
    return LocatedPoll(key, poll)
