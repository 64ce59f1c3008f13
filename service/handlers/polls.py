"""Polls of the polling API (contract, section 4)."""

from aiohttp import web

from schemas.polling import NEW_POLL, POLL_CHANGES
from service import bodies, keys, lookups, pagination, policy, responses, views
from service.forms import Resource
from storage.documents import PollDocument

POLL = Resource("polls", "poll")


async def list_polls(request: web.Request) -> web.Response:
    policy.require_action(request[keys.CALL].principal, policy.READ)
    paging = pagination.read_paging(request)
    user_id = request[keys.CALL].principal.user_id
    page = await request.app[keys.STORE].polls.made_by(user_id, paging.window)
    return await _respond(
        request,
        [located.poll for located in page.rows],
        is_manager=True,
        headers=pagination.link_header(request, paging, page),
    )


async def show_poll(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.READ)
    located = await lookups.find_poll(request)
    is_manager = await lookups.require_poll_reader(request, caller, located)
    return await _respond(request, [located.poll], is_manager=is_manager)


async def create_poll(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    policy.require_teacher(caller)
    definition, idempotency_key = await bodies.read_new(request, POLL, NEW_POLL)
    poll = await request.app[keys.STORE].polls.add_own(
        definition,
        owner_id=caller.principal.user_id,
        now=request.app[keys.CLOCK](),
        idempotency_key=idempotency_key,
    )
    # A retry gets this answer too, whatever has been voted since.
    shown = [views.poll(poll, total_results={})]
    return responses.polling_response(request, {POLL.plural: shown})


async def update_poll(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located = await lookups.find_managed_poll(request, caller)
    changes = await bodies.read_changes(request, POLL, POLL_CHANGES)
    poll = await request.app[keys.STORE].polls.edit(
        located.key, located.poll["id"], lambda poll: {**poll, **changes}
    )
    return await _respond(request, [poll], is_manager=True)


async def delete_poll(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located = await lookups.find_managed_poll(request, caller)
    await request.app[keys.STORE].polls.delete(located.key, located.poll["id"])
    return web.Response(status=204)


async def _respond(
    request: web.Request,
    polls: list[PollDocument],
    *,
    is_manager: bool,
    headers: dict[str, str] | None = None,
) -> web.Response:
    totals = {}
    if is_manager:
        totals = await request.app[keys.STORE].sessions.total_results(poll["id"] for poll in polls)
    shown = [views.poll(poll, totals.get(poll["id"], {}) if is_manager else None) for poll in polls]
    return responses.polling_response(request, {POLL.plural: shown}, headers=headers)
