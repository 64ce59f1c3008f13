"""Bodies of the content API (docs/api.md, section 3)."""

from typing import Any, cast

from aiohttp import web
from marshmallow import ValidationError

from schemas.content import NEW_POLL, NEW_VOTE, POLL_REPLACEMENT
from service.web.bodies import read_idempotency_key, read_json_body
from storage.documents import PollDefinition
from storage.idempotency import IdempotencyKey


async def read_new_poll(request: web.Request) -> tuple[PollDefinition, IdempotencyKey | None]:
    """The poll of a POST, and its idempotency key."""
    body = await read_json_body(request)
    definition = cast(PollDefinition, NEW_POLL.load(body))
    return definition, read_idempotency_key(request, body)


async def read_vote(request: web.Request) -> tuple[dict[str, Any], IdempotencyKey | None]:
    """``optionIds`` and ``comment`` (or None) of a vote, and its idempotency key."""
    body = await read_json_body(request)
    return NEW_VOTE.load(body), read_idempotency_key(request, body)


async def read_poll_replacement(request: web.Request, poll_id: str) -> PollDefinition:
    """The poll of a PUT; its ``id``, if present, must be ``poll_id``."""
    definition = cast(PollDefinition, POLL_REPLACEMENT.load(await read_json_body(request)))
    if definition.get("id", poll_id) != poll_id:
        raise ValidationError("must equal pollId in the query", "id")
    return definition
