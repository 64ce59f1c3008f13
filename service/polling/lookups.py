"""Who asks in the polling API, and what the path names.

A path that names nothing is a 404, whatever it looks like.
"""

from uuid import UUID

from aiohttp import web

from schemas.fields import parse_id
from service.rules import policy
from service.rules.policy import Caller, View
from service.web.call import CALL, CLOCK
from service.web.store import STORE
from storage.documents import (
    LocatedPoll,
    OptionDocument,
    SessionDocument,
)
from storage.errors import NotFound


async def read_caller(request: web.Request, action: str) -> Caller:
    """The caller with its enrollments; raises ``Forbidden`` where the token lacks ``action``."""
    principal = request[CALL].principal
    policy.require_action(principal, action)
    enrollments = await request.app[STORE].enrollments.of_user(principal.user_id)
    return Caller(principal, tuple(enrollments))


def read_path_id(request: web.Request, name: str) -> int:
    number = parse_id(request.match_info[name])
    if number is None:
        raise NotFound("There is nothing under this id.")
    return number


async def find_poll(request: web.Request) -> LocatedPoll:
    """The poll of ``:poll_id``, its number or its UUID."""
    text = request.match_info["poll_id"]
    number = parse_id(text)
    if number is None and not _is_uuid(text):
        raise NotFound("There is no such poll.")
    return await request.app[STORE].polls.find(number or text.lower())


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def find_choice(request: web.Request, located: LocatedPoll) -> OptionDocument:
    """The choice of ``:id`` in a poll."""
    for option in located.poll["options"]:
        if option["id"] == request.match_info["id"]:
            return option
    raise NotFound("There is no such poll choice.")


async def find_session(request: web.Request, name: str = "id") -> SessionDocument:
    """The session that the path names; it carries what must be known of its poll."""
    session = await request.app[STORE].sessions.get(read_path_id(request, name))
    reference = request.match_info["poll_id"].lower()
    if reference not in (session["poll_id"], str(session["poll_number"])):
        raise NotFound("There is no such poll session.")
    return session


def view_of(request: web.Request, caller: Caller, session: SessionDocument) -> View:
    """What the caller may do in a session, where it does not matter whether they have voted."""
    return policy.view_of(caller, session, None, request.app[CLOCK]())


async def find_managed_session(
    request: web.Request, caller: Caller, name: str = "id"
) -> SessionDocument:
    """Like ``find_session``; raises ``Forbidden`` for others than managers of the poll."""
    session = await find_session(request, name)
    policy.require_session_manager(view_of(request, caller, session))
    return session


async def knows_answers(request: web.Request, caller: Caller, located: LocatedPoll) -> bool:
    """Whether a voter may see which choices are correct.

    Who has submitted to a session that is closed now, and may vote in none that is open.
    """
    store = request.app[STORE]
    sessions = await store.sessions.all_of_poll(located.poll["id"])
    views = {session["_id"]: view_of(request, caller, session) for session in sessions}
    if any(view.is_open and view.may_vote for view in views.values()):
        return False
    user_id = caller.principal.user_id
    own_ids = [
        store.ballots.id_of(number, user_id) for number, view in views.items() if not view.is_open
    ]
    return bool(await store.ballots.find_all(own_ids))


async def require_poll_reader(request: web.Request, caller: Caller, located: LocatedPoll) -> bool:
    """Raises ``Forbidden`` unless the caller may read the poll; true for its managers."""
    owner_id = located.poll["owner_id"]
    if policy.manages(caller, located.key, owner_id):
        return True
    reach = policy.reach(caller.enrollments)
    reads = await request.app[STORE].sessions.reaches(located.poll["id"], reach)
    policy.require_poll_reader(caller, located.key, owner_id, reads_a_session=reads)
    return False


async def find_managed_poll(request: web.Request, caller: Caller) -> LocatedPoll:
    """The poll of ``:poll_id``; raises ``Forbidden`` for others than its managers."""
    located = await find_poll(request)
    policy.require_manager(caller, located.key, located.poll["owner_id"])
    return located


async def find_managed_choice(
    request: web.Request, caller: Caller
) -> tuple[LocatedPoll, OptionDocument]:
    """Like ``find_managed_poll``, with the choice of ``:id``: existence comes before rights."""
    located = await find_poll(request)
    option = find_choice(request, located)
    policy.require_manager(caller, located.key, located.poll["owner_id"])
    return located, option
