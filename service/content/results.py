"""Results in lists of content polls: ``expand=results`` (docs/api.md, section 3)."""

from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import web

from service.rules import policy
from service.rules.policy import Caller, View
from service.web.call import CALL
from service.web.concurrency import in_turns
from service.web.store_key import STORE
from storage.documents import PollDocument, SessionDocument


class Shown(NamedTuple):
    """A standing session, and the view of a caller that sees its results."""

    session: SessionDocument
    view: View


async def find_shown(request: web.Request, polls: Sequence[PollDocument]) -> list[Shown | None]:
    """For each poll, what the results are rendered from; None if the caller may not see them.

    Takes two round trips, however many polls there are.
    """
    store = request.app[STORE]
    caller = Caller(request[CALL].principal)
    standing = [poll["standing_session"] for poll in polls]
    sessions = await store.sessions.find_all(filter(None, standing))
    ballots = await store.ballots.find_all(sessions, caller.principal.user_id)
    shown: list[Shown | None] = []
    async for number in in_turns(standing):
        session = sessions.get(number or 0)
        if session is None:
            shown.append(None)
            continue
        view = policy.view_of(caller, session, ballots.get(session["_id"]))
        shown.append(Shown(session, view) if view.sees_results else None)
    return shown
