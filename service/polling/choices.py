"""Choices of a poll: its options, as the polling API has them (contract, section 4)."""

from typing import Any

from aiohttp import web

from schemas.content import MAX_OPTIONS
from schemas.polling import CHOICE_CHANGES, CHOICES, NEW_CHOICE
from service.polling import bodies, lookups
from service.polling.responses import polling_response
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import pagination
from service.web.store import STORE
from storage import choices
from storage.documents import LocatedPoll, OptionDocument, PollDocument
from storage.pages import page_of


async def list_choices(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.READ)
    paging = pagination.read_paging(request, _is_place)
    located = await lookups.find_poll(request)
    shows_answer = await _shows_answer(request, caller, located)
    window = paging.window
    after = [
        option
        for option in views.choices(located.poll)
        if window.after is None or views.choice_place(option) > tuple(window.after)
    ]
    page = page_of(after[window.skip : window.skip + window.limit + 1], window, views.choice_place)
    shown = [views.choice(option, located.poll, shows_answer=shows_answer) for option in page.rows]
    headers = pagination.link_header(request, paging, page)
    return polling_response(request, {CHOICES.plural: shown}, headers=headers)


def _is_place(after: Any) -> bool:
    """Whether a bookmark is one of ``views.choice_place``."""
    match after:
        case [int(), int(), str()]:
            return True
        case _:
            return False


async def show_choice(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.READ)
    located = await lookups.find_poll(request)
    option = lookups.find_choice(request, located)
    shows_answer = await _shows_answer(request, caller, located)
    return _respond(request, option, located.poll, shows_answer=shows_answer)


async def _shows_answer(request: web.Request, caller: Caller, located: LocatedPoll) -> bool:
    """Raises ``Forbidden`` unless the caller may read the poll."""
    if await lookups.require_poll_reader(request, caller, located):
        return True
    return await lookups.knows_answers(request, caller, located)


async def create_choice(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located = await lookups.find_managed_poll(request, caller)
    choice, idempotency_key = await bodies.read_new(request, CHOICES, NEW_CHOICE)
    poll = await request.app[STORE].polls.edit(
        located.key,
        located.poll["id"],
        lambda poll: choices.added(poll, choice, most=MAX_OPTIONS),
        idempotency_key=idempotency_key,
    )
    # The new choice has the highest number, also in a poll that was stored a day ago.
    option = choices.of(poll, str(poll["highest_option"]))
    return _respond(request, option, poll, shows_answer=True)


async def update_choice(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located, option = await lookups.find_managed_choice(request, caller)
    option_id = option["id"]
    changes = await bodies.read_changes(request, CHOICES, CHOICE_CHANGES)
    poll = await request.app[STORE].polls.edit(
        located.key, located.poll["id"], lambda poll: choices.changed(poll, option_id, changes)
    )
    return _respond(request, choices.of(poll, option_id), poll, shows_answer=True)


async def delete_choice(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located, option = await lookups.find_managed_choice(request, caller)
    option_id = option["id"]
    await request.app[STORE].polls.edit(
        located.key, located.poll["id"], lambda poll: choices.removed(poll, option_id)
    )
    return web.Response(status=204)


def _respond(
    request: web.Request, option: OptionDocument, poll: PollDocument, *, shows_answer: bool
) -> web.Response:
    shown = views.choice(option, poll, shows_answer=shows_answer)
    return polling_response(request, {CHOICES.plural: [shown]})
