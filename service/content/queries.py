"""The polls of a whole screen in one call: ``POST /rest/query`` (docs/api.md, section 3)."""

import asyncio
from collections.abc import Sequence
from itertools import islice

from aiohttp import web
from orjson import Fragment

from schemas.content import POLLS_QUERY
from service.content.expanding import expanded, see
from service.content.query import NOTHING, Expansion
from service.rules import policy, views
from service.rules.policy import Caller, Forbidden
from service.rules.principal import Principal
from service.web.bodies import read_json_body
from service.web.call import CALL
from service.web.concurrency import in_turns
from service.web.problems import problem_within
from service.web.responses import encoded, json_response
from service.web.store_key import STORE
from storage.documents import Container, ContainerKey, PollDocument
from storage.errors import LimitReached, NotFound

MAX_ANSWERED = 2_000
"""Polls in one answer: with each content as often as it was asked for."""

Place = tuple[ContainerKey, PollDocument]
Found = Sequence[Place] | Forbidden | NotFound
"""What one of many references leads to, or why the caller does not get it."""


async def query_polls(request: web.Request) -> web.Response:
    """Get the polls of many content items, and single polls, in one call.

    For tokens with ``read``. The answer is a list in the order of the request: for each reference a
    list of polls as ``GET`` returns it, or the problem that ``GET`` is refused with. Changes
    nothing, so it may be repeated. Does not return more than 2,000 polls, or 12 MiB of them as
    stored: that is a 409.
    """
    caller = Caller(request[CALL].principal)
    policy.require_action(caller.principal, policy.READ)
    query = POLLS_QUERY.load(await read_json_body(request))
    found = await _find(request, [_reference(one) for one in query["polls"]])
    expansion = Expansion(**dict.fromkeys(query["expand"], True)) if query["expand"] else NOTHING
    places = [place for one in found if isinstance(one, Sequence) for place in one]
    if len(places) > MAX_ANSWERED:
        raise LimitReached(f"One answer has at most {MAX_ANSWERED:,} polls: ask for less.")
    shown = iter(await _show(request, caller, places, expansion))
    return json_response(
        [
            [*islice(shown, len(one))]
            if isinstance(one, Sequence)
            else problem_within(request, one)
            for one in found
        ]
    )


async def _show(
    request: web.Request, caller: Caller, places: Sequence[Place], expansion: Expansion
) -> list[Fragment]:
    """Each of the polls as ``GET`` returns it."""
    if expansion == NOTHING:
        return [encoded(views.content_poll(poll)) async for _, poll in in_turns(places)]
    return await expanded(await see(request.app[STORE].sessions, caller, places), expansion)


def _reference(given: dict[str, str]) -> ContainerKey | str:
    """A place, or the id of a poll."""
    if "pollId" in given:
        return given["pollId"].lower()
    return ContainerKey(given["workspace"], given["content"], given.get("container", ""))


async def _find(request: web.Request, references: Sequence[ContainerKey | str]) -> list[Found]:
    """In the order of the references. Places that the caller may not read are not read."""
    store, principal = request.app[STORE], request[CALL].principal
    keys = {one for one in references if isinstance(one, ContainerKey)}
    refused = {key: refusal for key in keys if (refusal := _refusal(principal, key))}
    containers, polls = await asyncio.gather(
        store.polls.in_containers(keys - refused.keys()),
        store.listings.find_polls({one for one in references if isinstance(one, str)}),
    )

    def find(reference: ContainerKey | str) -> Found:
        if isinstance(reference, ContainerKey):
            return refused.get(reference) or _polls_in(reference, containers)
        listed = polls.get(reference)
        if listed is None:
            return NotFound("There is no such poll.")
        refusal = _refusal(principal, listed.key, listed.poll["id"])
        return refusal or [(listed.key, listed.poll)]

    return [find(one) for one in references]


def _refusal(
    principal: Principal, key: ContainerKey, poll_id: str | None = None
) -> Forbidden | None:
    """Why a ``GET`` of this container, or of one poll in it, would be refused."""
    try:
        policy.require_content(principal, policy.READ, key, poll_id)
    except Forbidden as refusal:
        return refusal
    return None


def _polls_in(key: ContainerKey, containers: dict[str, Container]) -> list[Place]:
    container = containers.get(key.id)
    return [(key, poll) for poll in container.polls] if container is not None else []
