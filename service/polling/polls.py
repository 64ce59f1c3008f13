"""Polls of the polling API (docs/api.md, section 4)."""

from collections.abc import Sequence

from aiohttp import web

from schemas.polling import NEW_POLL, POLL_CHANGES, POLLS
from service.polling import bodies, lookups
from service.polling.responses import polling_response, revalidated
from service.rules import policy, validators, views
from service.web import pagination
from service.web.call import CALL, CLOCK, actor_of
from service.web.conditional import read_if_match
from service.web.store_key import STORE
from storage.documents import PollDocument, revision
from storage.pagination import Page


async def list_polls(request: web.Request) -> web.Response:
    """List the polls that the caller created in the polling API, newest first.

    For every user. Does not list content polls, or polls of others, unless an admin asks for all
    polls with ``as_admin=true``.
    """
    principal = lookups.require_action(request, policy.READ)
    paging = pagination.read_paging(request)
    store = request.app[STORE]
    if lookups.read_as_admin(request):
        everything = await store.listings.all(paging.window)
        page = Page([one.poll for one in everything.rows], everything.next_after)
    else:
        policy.require_own_polls(principal)
        page = await store.polls.made_by(principal.user_id, paging.window)
    headers = pagination.link_header(request, paging, page)
    return await _respond(request, page.rows, headers=headers)


async def show_poll(request: web.Request) -> web.Response:
    """Get a poll.

    For readers of the poll. Only its managers see ``user_id`` and ``total_results``. Does not hold
    choices or sessions, which have operations of their own.
    """
    caller = await lookups.read_caller(request, policy.READ)
    located = await lookups.find_poll(request)
    poll, totals = located.poll, None
    if await lookups.require_poll_reader(request, caller, located):
        courses = policy.courses_of(caller.principal)
        found = await request.app[STORE].sessions.total_results([poll], courses)
        totals = found.get(poll["id"], {})
    parts = validators.of_poll(poll, totals)
    headers = revalidated(request, parts, revision=revision(poll))
    return polling_response(request, {POLLS.plural: [views.poll(poll, totals)]}, headers=headers)


async def create_poll(request: web.Request) -> web.Response:
    """Create polls.

    For teachers and admins. Up to 100 polls are created together, and answered in their order. Does
    not create choices or sessions, which have operations of their own.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    policy.require_teacher(caller)
    definitions, idempotency_key = await bodies.read_new(request, POLLS, NEW_POLL)
    polls = await request.app[STORE].polls.add_own(
        definitions,
        lookups.teacher_of_any(caller),
        owner_id=caller.principal.user_id,
        now=request.app[CLOCK](),
        idempotency_key=idempotency_key,
        actor=actor_of(request),
    )
    # A replay for an idempotency key answers the same, even if there are votes by now.
    reads = policy.grants(caller.principal, policy.READ)
    data = [views.poll(poll, total_results={} if reads else None) for poll in polls]
    return polling_response(request, {POLLS.plural: data})


async def update_poll(request: web.Request) -> web.Response:
    """Update a poll.

    For managers of the poll. Does not change members that are left out, nor choices and settings.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    located = await lookups.find_managed_poll(request, caller)
    changes = await bodies.read_changes(request, POLLS, POLL_CHANGES)
    poll = await request.app[STORE].polls.edit(
        located,
        lambda poll: {**poll, **changes},
        if_match=read_if_match(request),
        check=policy.check_of(caller.principal),
        actor=actor_of(request),
    )
    return await _respond(request, [poll])


async def delete_poll(request: web.Request) -> web.Response:
    """Delete a poll, with its sessions and all submissions.

    For managers of the poll. It can be restored for a day, or what the service is set to, unless
    ``now`` is true. Does not delete the answer to the request that made the poll: under its
    ``Idempotency-Key`` that is kept for 24 hours.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    restorable_for = lookups.read_restorable_for(request)
    located = await lookups.find_managed_poll(request, caller)
    await request.app[STORE].polls.delete(
        located,
        if_match=read_if_match(request),
        check=policy.check_of(caller.principal),
        restorable_for=restorable_for,
        actor=actor_of(request),
    )
    return web.Response(status=204)


async def _respond(
    request: web.Request, polls: Sequence[PollDocument], *, headers: dict[str, str] | None = None
) -> web.Response:
    """As managers see them, with their results if the token may read."""
    principal = request[CALL].principal
    if policy.grants(principal, policy.READ):
        courses = policy.courses_of(principal)
        totals = await request.app[STORE].sessions.total_results(polls, courses)
        data = [views.poll(poll, totals.get(poll["id"], {})) for poll in polls]
    else:
        data = [views.poll(poll, None) for poll in polls]
    return polling_response(request, {POLLS.plural: data}, headers=headers)
