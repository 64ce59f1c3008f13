"""Choices of a poll: its options in the polling API (docs/api.md, section 4)."""

from typing import Any

from aiohttp import web

from schemas.content import MAX_OPTIONS
from schemas.polling import CHOICE_CHANGES, CHOICES, NEW_CHOICE
from service.polling import bodies, lookups
from service.polling.responses import polling_response, revalidated
from service.rules import policy, validators, views
from service.web import pagination
from service.web.call import CALL, actor_of
from service.web.conditional import read_if_match
from service.web.store_key import STORE
from storage import choices
from storage.documents import OptionDocument, PollDocument, revision
from storage.pagination import page_of


async def list_choices(request: web.Request) -> web.Response:
    """List the choices of a poll, by ``position``.

    For readers of the poll. Does not show ``is_correct``, except to managers, and to users who have
    submitted to a session that is now closed and can vote in no open session.
    """
    caller = await lookups.read_caller(request, policy.READ)
    paging = pagination.read_paging(request, _is_place)
    located = await lookups.find_poll(request)
    shows_answer = await lookups.shows_answers(request, caller, located)
    parts = validators.of_choices(located.poll, shows_answer=shows_answer)
    headers = revalidated(request, parts, revision=revision(located.poll))
    window = paging.window
    after = [
        option
        for option in views.choices(located.poll)
        if window.after is None or views.choice_place(option) > tuple(window.after)
    ]
    page = page_of(after[window.skip : window.skip + window.limit + 1], window, views.choice_place)
    data = [views.choice(option, located.poll, shows_answer=shows_answer) for option in page.rows]
    headers |= pagination.link_header(request, paging, page)
    return polling_response(request, {CHOICES.plural: data}, headers=headers)


def _is_place(after: Any) -> bool:
    """Whether a decoded cursor has the shape of ``views.choice_place``."""
    return isinstance(after, list) and [type(part) for part in after] == [int, int, str]


async def show_choice(request: web.Request) -> web.Response:
    """Get a choice.

    For readers of the poll. Does not show ``is_correct`` to voters while they may still vote.
    """
    caller = await lookups.read_caller(request, policy.READ)
    located = await lookups.find_poll(request)
    option = choices.of(located.poll, request.match_info["id"])
    shows_answer = await lookups.shows_answers(request, caller, located)
    parts = validators.of_choices(located.poll, shows_answer=shows_answer)
    headers = revalidated(request, parts, revision=revision(located.poll))
    data = views.choice(option, located.poll, shows_answer=shows_answer)
    return polling_response(request, {CHOICES.plural: [data]}, headers=headers)


async def create_choice(request: web.Request) -> web.Response:
    """Add choices to a poll.

    For managers of the poll. Up to 100 are added together, and answered in their order. Does not go
    beyond 100 choices in a poll: if not all fit, none is added.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    located = await lookups.find_managed_poll(request, caller)
    wanted, idempotency_key = await bodies.read_new(request, CHOICES, NEW_CHOICE)
    poll = await request.app[STORE].polls.edit(
        located,
        lambda poll: choices.added(poll, wanted, most=MAX_OPTIONS),
        idempotency_key=idempotency_key,
        check=policy.check_of(caller.principal),
        actor=actor_of(request),
    )
    # The new choices have the highest numbers, also in the poll that an idempotency key replays.
    highest = poll["highest_option"]
    numbers = range(highest - len(wanted) + 1, highest + 1)
    return _respond(request, [choices.of(poll, str(number)) for number in numbers], poll)


async def update_choice(request: web.Request) -> web.Response:
    """Update a choice.

    For managers of the poll. Does not change members that are left out, nor votes for the choice.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    located, option_id = await lookups.find_managed_choice(request, caller)
    changes = await bodies.read_changes(request, CHOICES, CHOICE_CHANGES)
    poll = await request.app[STORE].polls.edit(
        located,
        lambda poll: choices.changed(poll, option_id, changes),
        if_match=read_if_match(request),
        check=policy.check_of(caller.principal),
        actor=actor_of(request),
    )
    return _respond(request, [choices.of(poll, option_id)], poll)


async def delete_choice(request: web.Request) -> web.Response:
    """Delete a choice that has no votes.

    For managers of the poll. Does not delete one that has votes: that is a 409.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    located, option_id = await lookups.find_managed_choice(request, caller)
    await request.app[STORE].polls.edit(
        located,
        lambda poll: choices.removed(poll, option_id),
        if_match=read_if_match(request),
        check=policy.check_of(caller.principal),
        actor=actor_of(request),
    )
    return web.Response(status=204)


def _respond(
    request: web.Request, options: list[OptionDocument], poll: PollDocument
) -> web.Response:
    """To a manager, who sees which choices are correct if the token may read."""
    reads = policy.grants(request[CALL].principal, policy.READ)
    data = [views.choice(option, poll, shows_answer=reads) for option in options]
    return polling_response(request, {CHOICES.plural: data})
