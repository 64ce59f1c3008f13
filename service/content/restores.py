"""Bringing back deleted polls: ``/rest/restore`` (docs/api.md, section 3)."""

from aiohttp import web
from marshmallow import ValidationError

from schemas.fields import UUID, parse_id
from service.content.query import READ_ELSEWHERE, Parameters
from service.content.responses import poll_response
from service.rules import policy
from service.rules.policy import Caller
from service.web.bodies import read_idempotency_key
from service.web.call import CALL, actor_of
from service.web.store_key import STORE
from storage.documents import ContainerKey, UserId
from storage.errors import NotFound
from storage.store import Store


async def restore_poll(request: web.Request) -> web.Response:
    """Restore a deleted poll, with its sessions and all votes.

    For those who could delete it; ``pollId`` is its id, or its number under ``/api/v1``. Of several
    deleted polls that had one id it is the one that was deleted last. Takes no body. The poll comes
    last in its content; one whose end has passed meanwhile is closed. Does not restore a poll that
    was purged, nor one whose id another poll has now.
    """
    reference = _read_reference(request)
    principal = request[CALL].principal
    policy.require_action(principal, policy.WRITE)
    number, poll_id, key, owner_id = await _find(request.app[STORE], reference)
    policy.require_poll(principal, poll_id)
    policy.require_manager(Caller(principal), key, owner_id)
    poll = await request.app[STORE].polls.restore(
        key,
        number,
        check=policy.check_of(principal),
        idempotency_key=read_idempotency_key(request, None),
        actor=actor_of(request),
    )
    return poll_response(poll)


async def _find(store: Store, reference: int | str) -> tuple[int, str, ContainerKey, UserId]:
    """Number, id, place and owner of a deleted poll, or of one that is there.

    That may be the poll that this very request has restored before. Raises ``NotFound``.
    """
    deleted = await store.deleted_polls.find(reference)
    if deleted is not None:
        key = ContainerKey.of(deleted["container"])
        return deleted["_id"], deleted["poll_id"], key, deleted["owner_id"]
    key, poll = await store.polls.find(reference, "deleted poll")
    return poll["number"], poll["id"], key, poll["owner_id"]


def _read_reference(request: web.Request) -> int | str:
    query = Parameters(request[CALL].query)
    given = query.read("pollId")
    query.require_once(*READ_ELSEWHERE)
    if query.faults:
        raise ValidationError(query.faults)
    text = given or ""
    number = parse_id(text)
    if number is None and not UUID.fullmatch(text):
        raise NotFound("There is no such deleted poll.")
    return number or text.lower()
