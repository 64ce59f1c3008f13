"""Content polls, ``type=polls`` of ``/rest`` (contract, section 3)."""

import orjson
from aiohttp import web

from service import bodies, keys, policy, requests, responses, results, views
from storage.documents import Container, ContainerKey


async def list_polls(request: web.Request) -> web.Response:
    query = requests.read_content_query(request)
    policy.require_content(request[keys.CALL].principal, policy.READ, query.key)
    polls = request.app[keys.STORE].polls
    if query.poll_id is None and not query.expands_results:
        return responses.bytes_response(_shown(await polls.in_container(query.key)))
    if query.poll_id is not None:
        found = [await polls.get(query.key, query.poll_id)]
        headers = responses.entity_tag(found[0])
    else:
        found, headers = (await polls.in_container(query.key)).polls, None
    shown = [views.content_poll(poll) for poll in found]
    if query.expands_results:
        await results.expand(request, query.key, found, shown)
    return responses.json_response(shown, headers=headers)


def _shown(container: Container) -> bytes:
    """All see the same of the polls themselves."""
    if container.shown is None:
        container.shown = orjson.dumps([views.content_poll(poll) for poll in container.polls])
    return container.shown


async def create_poll(request: web.Request) -> web.Response:
    key = requests.read_content_query(request).key
    principal = request[keys.CALL].principal
    policy.require_creation(principal, key)
    definition, idempotency_key = await bodies.read_new_poll(request)
    poll = await request.app[keys.STORE].polls.add(
        key,
        definition,
        owner_id=principal.user_id,
        now=request.app[keys.CLOCK](),
        idempotency_key=idempotency_key,
    )
    return responses.content_poll_response(poll)


async def replace_poll(request: web.Request) -> web.Response:
    key, poll_id = await _changeable(request)
    definition = await bodies.read_poll_replacement(request, poll_id)
    if_match = requests.read_if_match(request)
    poll = await request.app[keys.STORE].polls.replace(key, poll_id, definition, if_match=if_match)
    return responses.content_poll_response(poll)


async def delete_poll(request: web.Request) -> web.Response:
    key, poll_id = await _changeable(request)
    if_match = requests.read_if_match(request)
    poll = await request.app[keys.STORE].polls.delete(key, poll_id, if_match=if_match)
    return responses.content_poll_response(poll)


async def _changeable(request: web.Request) -> tuple[ContainerKey, str]:
    """The address of a poll that is there and that the caller may change."""
    key, poll_id = requests.read_poll_address(request)
    policy.require_content(request[keys.CALL].principal, policy.WRITE, key)
    poll = await request.app[keys.STORE].polls.get(key, poll_id)
    policy.require_change(request[keys.CALL].principal, poll)
    return key, poll_id
