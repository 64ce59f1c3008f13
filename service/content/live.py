"""Results of a poll, once or as they change: ``/rest/results`` (docs/api.md, section 7)."""

from typing import Any

from aiohttp import web

from service.content.lookups import find_standing_session
from service.live.events import respond_events
from service.rules import policy, views
from service.rules.policy import View
from service.web.accept import accepts_events
from service.web.conditional import revised_response
from service.web.store_key import STORE
from storage.documents import SessionDocument


async def show_results(request: web.Request) -> web.StreamResponse:
    """Get the results of a poll, once or as they change.

    For tokens with ``read`` on the workspace that may see them, as the settings say; otherwise, or
    not yet, the answer is a 403. With ``Accept: text/event-stream`` an event tells of each change,
    until the caller may not see them any more. Does not tell who voted.
    """
    caller, session = await find_standing_session(
        request,
        "results",
        elsewhere="This poll has no results here: see its sessions under /api/v1.",
    )
    own = await request.app[STORE].ballots.find(session["_id"], caller.principal.user_id)
    view = policy.view_of(caller, session, own)
    policy.require_results(view)
    if accepts_events(request):
        return await respond_events(request, session["_id"], shown_results)
    return revised_response(request, views.results_of(session, view))


def shown_results(session: SessionDocument, view: View) -> dict[str, Any] | None:
    return views.results_of(session, view) if view.sees_results else None
