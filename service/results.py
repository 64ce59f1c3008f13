"""``expand=results``: the results of content polls, where the caller may see them."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from service import keys, policy, views
from service.policy import Caller
from storage.documents import ContainerKey, PollDocument, is_open


async def expand(
    request: web.Request,
    key: ContainerKey,
    polls: Sequence[PollDocument],
    shown: Sequence[dict[str, Any]],
) -> None:
    """Adds ``results`` to what is shown of each poll of a container; two round trips for all."""
    store, now = request.app[keys.STORE], request.app[keys.CLOCK]()
    caller = Caller(request[keys.CALL].principal)
    numbers = {poll["id"]: poll["standing_session"] for poll in polls}
    sessions = await store.sessions.find_all(number for number in numbers.values() if number)
    own_ids = {number: store.ballots.id_of(number, caller.principal.user_id) for number in sessions}
    voted = await store.ballots.find_all(own_ids.values())
    for poll, target in zip(polls, shown, strict=True):
        session = sessions.get(numbers[poll["id"]] or 0)
        if session is None:
            continue
        is_manager = policy.manages(caller, key, poll["owner_id"])
        if policy.sees_results(
            session,
            is_manager=is_manager,
            is_open=is_open(session, now),
            has_voted=own_ids[session["_id"]] in voted,
        ):
            hides_numbers = session["rules"]["settings"]["hideAbsoluteNumbers"]
            hidden = hides_numbers and not is_manager
            target["results"] = views.content_results(session, now, hidden=hidden)
