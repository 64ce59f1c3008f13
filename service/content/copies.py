"""Copies of polls: ``/rest/copies`` (docs/api.md, section 3)."""

from typing import cast

from aiohttp import web

from schemas.content import NEW_PLACE
from service.content.query import read_poll_address
from service.content.responses import poll_response
from service.rules import policy
from service.rules.policy import Caller
from service.web.bodies import read_idempotency_key, read_json_body
from service.web.call import CALL, CLOCK, actor_of
from service.web.store_key import STORE
from storage.audit import Action
from storage.documents import ContainerKey, PollDefinition, PollDocument


async def copy_poll(request: web.Request) -> web.Response:
    """Copy a poll, without its votes.

    For tokens with ``read`` on the poll and ``write`` on the workspace that the copy goes to: the
    same content, unless the body names another place. The copy has an id of its own, and is open.
    Which choices are correct is copied for managers of the poll only. Does not copy sessions.
    """
    key, poll_id = read_poll_address(request, "copies")
    principal = request[CALL].principal
    policy.require_content(principal, policy.READ, key, poll_id)
    policy.require_action(principal, policy.WRITE)
    poll = await request.app[STORE].polls.get(key, poll_id)
    body = await read_json_body(request)
    place = NEW_PLACE.load(body)
    target = ContainerKey(**place) if place else key
    policy.require_creation(principal, target)
    copy = await request.app[STORE].polls.add(
        target,
        _definition(poll, shows_answers=policy.manages(Caller(principal), key, poll["owner_id"])),
        owner_id=principal.user_id,
        now=request.app[CLOCK](),
        idempotency_key=read_idempotency_key(request, body),
        actor=actor_of(request),
        action=Action.POLL_COPIED,
    )
    return poll_response(copy)


def _definition(poll: PollDocument, *, shows_answers: bool) -> PollDefinition:
    """What defines another poll like this one."""
    options = [
        {**option, "is_correct": option["is_correct"] and shows_answers}
        for option in poll["options"]
    ]
    return cast(
        PollDefinition,
        {
            "title": poll["title"],
            "description": poll["description"],
            "settings": poll["settings"],
            "closes_at": poll["closes_at"],
            "options": options,
        },
    )
