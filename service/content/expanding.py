"""What ``expand`` adds to content polls, and what that takes (docs/api.md, section 3)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from orjson import Fragment

from service.content.query import Expansion
from service.rules import policy, views
from service.rules.policy import Caller, View
from service.web.concurrency import in_turns
from service.web.responses import encoded
from storage.documents import BallotDocument, ContainerKey, PollDocument, SessionDocument
from storage.sessions import Sessions


class Standing(NamedTuple):
    """The standing session of a poll with the caller's own ballot, and the caller's view of it."""

    session: SessionDocument
    view: View
    own: BallotDocument | None


class Seen(NamedTuple):
    """A poll as a caller sees it; ``standing`` is None if it takes no votes on ``/rest``."""

    poll: PollDocument
    standing: Standing | None
    can_write: bool


async def see(
    sessions_of: Sessions, caller: Caller, polls: Sequence[tuple[ContainerKey, PollDocument]]
) -> list[Seen]:
    """Each of the polls with its standing session; one round trip, however many there are."""
    numbers = [number for _, poll in polls if (number := poll["standing_session"]) is not None]
    sessions, ballots = await sessions_of.find_with_own(numbers, caller.principal.user_id)
    return [_seen(caller, key, poll, sessions, ballots) async for key, poll in in_turns(polls)]


def _seen(
    caller: Caller,
    key: ContainerKey,
    poll: PollDocument,
    sessions: Mapping[int, SessionDocument],
    ballots: Mapping[int, BallotDocument],
) -> Seen:
    session = sessions.get(poll["standing_session"] or 0)
    if session is None:
        return Seen(poll, None, policy.can_write(caller, key, poll["owner_id"]))
    own = ballots.get(session["_id"])
    view = policy.view_of(caller, session, own)
    return Seen(poll, Standing(session, view, own), view.can_write)


async def expanded(polls: Iterable[Seen], expansion: Expansion) -> list[Fragment]:
    """The polls in JSON, with what is added to each."""
    return [
        encoded(views.content_poll(one.poll) | part_of(one, expansion))
        async for one in in_turns(polls)
    ]


def part_of(seen: Seen, expansion: Expansion) -> dict[str, Any]:
    """The members that are added to the poll; ``results`` only where the caller may see them."""
    added: dict[str, Any] = {}
    standing = seen.standing
    if expansion.results and standing is not None and standing.view.sees_results:
        added["results"] = views.content_results(standing.session, standing.view)
    if expansion.vote:
        added |= views.own_part(*standing) if standing else views.no_part(can_write=seen.can_write)
    return added
