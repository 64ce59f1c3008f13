"""Results of content polls: ``/rest/results`` (docs/api.md, sections 3 and 7)."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from service.content.query import read_poll_address
from service.rules import policy, views
from service.rules.policy import Caller
from service.web.call import CALL, CLOCK
from service.web.responses import json_response
from service.web.store_key import STORE
from storage.documents import PollDocument
from storage.errors import NoStandingSession


async def expand(
    request: web.Request,
    polls: Sequence[PollDocument],
    data: Sequence[dict[str, Any]],
) -> None:
    """Adds ``results`` to the data of each poll that the caller may see them of.

    Takes two round trips, however many polls there are.
    """
    store, now = request.app[STORE], request.app[CLOCK]()
    caller = Caller(request[CALL].principal)
    standing = [poll["standing_session"] for poll in polls]
    sessions = await store.sessions.find_all(filter(None, standing))
    ballots = await store.ballots.find_all(sessions, caller.principal.user_id)
    for number, target in zip(standing, data, strict=True):
        session = sessions.get(number or 0)
        if session is None:
            continue
        view = policy.view_of(caller, session, ballots.get(session["_id"]), now)
        if view.sees_results:
            target["results"] = views.content_results(session, view)


async def show_results(request: web.Request) -> web.Response:
    """Get the results of a poll.

    Answered with 403 if the caller may not see them, or not yet.
    """
    key, poll_id = read_poll_address(request, "results")
    caller = Caller(request[CALL].principal)
    policy.require_content(caller.principal, policy.READ, key)
    store = request.app[STORE]
    poll = await store.polls.get(key, poll_id)
    if poll["standing_session"] is None:
        raise NoStandingSession("This poll has no results here: see its sessions under /api/v1.")
    session = await store.sessions.get(poll["standing_session"])
    own = await store.ballots.find(session["_id"], caller.principal.user_id)
    view = policy.view_of(caller, session, own, request.app[CLOCK]())
    policy.require_results(view)
    return json_response(views.results_of(session, view))
