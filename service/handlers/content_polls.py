"""Content polls, ``type=polls`` of ``/rest`` (contract, section 3)."""

from typing import Any

from aiohttp import web

from service import bodies, keys, policy, requests, responses, views
from service.policy import Caller
from storage.documents import ContainerKey, PollDocument, is_open


async def list_polls(request: web.Request) -> web.Response:
    query = requests.read_content_query(request)
    policy.require_content(request[keys.PRINCIPAL], policy.READ, query.key)
    polls = request.app[keys.STORE].polls
    if query.poll_id is not None:
        found = [await polls.get(query.key, query.poll_id)]
        headers = responses.entity_tag(found[0])
    else:
        found, headers = await polls.in_container(query.key), None
    shown = [views.content_poll(poll) for poll in found]
    if query.expands_results:
        for poll, results in zip(shown, await _results(request, query.key, found), strict=True):
            poll.update(results)
    return responses.json_response(shown, headers=headers)


async def _results(
    request: web.Request, key: ContainerKey, polls: list[PollDocument]
) -> list[dict[str, Any]]:
    """For each poll its ``results``, or nothing where the caller may not see them."""
    store, now = request.app[keys.STORE], request.app[keys.CLOCK]()
    caller = Caller(request[keys.PRINCIPAL])
    user_id = caller.principal.user_id
    numbers = [poll["standing_session"] for poll in polls]
    sessions = await store.sessions.find_all(number for number in numbers if number is not None)
    own_ids = {number: store.ballots.id_of(number, user_id) for number in sessions}
    voted = await store.ballots.find_all(own_ids.values())
    results: list[dict[str, Any]] = []
    for poll, number in zip(polls, numbers, strict=True):
        session = sessions.get(number) if number is not None else None
        if session is None:
            results.append({})
            continue
        is_manager = policy.manages(caller, key, poll["owner_id"])
        sees_results = policy.sees_results(
            session,
            is_manager=is_manager,
            is_open=is_open(session, now),
            has_voted=own_ids[session["_id"]] in voted,
        )
        hidden = not is_manager and session["rules"]["settings"]["hideAbsoluteNumbers"]
        shown = views.content_results(session, now, hidden=hidden)
        results.append({"results": shown} if sees_results else {})
    return results


async def create_poll(request: web.Request) -> web.Response:
    key = requests.read_content_query(request).key
    principal = request[keys.PRINCIPAL]
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
    policy.require_content(request[keys.PRINCIPAL], policy.WRITE, key)
    poll = await request.app[keys.STORE].polls.get(key, poll_id)
    policy.require_change(request[keys.PRINCIPAL], poll)
    return key, poll_id
