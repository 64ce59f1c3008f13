"""The caller of the polling API, and the resources that a path names.

A malformed id in a path is a 404, like one that does not exist.
"""

from collections.abc import Sequence
from datetime import timedelta

from aiohttp import web
from marshmallow import ValidationError

from schemas.fields import UUID, parse_id, parse_user_id
from schemas.polling import BOOLEANS
from service.rules import policy
from service.rules.policy import Caller, View
from service.rules.principal import Principal
from service.web.call import CALL
from service.web.deletion import restorable_for
from service.web.store_key import STORE
from storage import choices
from storage.courses import AnyTeacher, Teacher
from storage.documents import EnrollmentDocument, LocatedPoll, SessionDocument, UserId
from storage.errors import NotFound


async def read_caller(request: web.Request, action: str) -> Caller:
    """The caller with its enrollments.

    Raises ``Forbidden`` unless the token grants ``action``; one that is bound to polls grants it
    below the paths of these alone: ``find_poll`` and ``find_session`` say which.
    """
    principal = require_action(request, action)
    enrollments = await request.app[STORE].enrollments.of_user(principal.user_id)
    return Caller(principal, tuple(enrollments))


def require_action(request: web.Request, action: str) -> Principal:
    """The caller without enrollments; raises as ``read_caller``."""
    principal = request[CALL].principal
    policy.require_action(principal, action)
    if "poll_id" not in request.match_info:
        policy.require_poll(principal, None)
    return principal


def teacher(caller: Caller) -> Teacher:
    """The caller, for a transaction that reads the enrollments again."""
    principal = caller.principal

    def require(enrollments: Sequence[EnrollmentDocument], course_id: int) -> None:
        policy.require_teaching(Caller(principal, tuple(enrollments)), course_id)

    return Teacher(principal.user_id, require)


def teacher_of_any(caller: Caller) -> AnyTeacher:
    """The caller, for a transaction that reads the enrollments again."""
    principal = caller.principal

    def course_of(enrollments: Sequence[EnrollmentDocument]) -> int | None:
        return policy.require_teacher(Caller(principal, tuple(enrollments)))

    return AnyTeacher(principal.user_id, course_of)


def read_as_admin(request: web.Request) -> bool:
    """Whether ``as_admin`` asks for the rows of all users; raises ``Forbidden`` unless of an admin.

    Raises ``ValidationError`` where it is no boolean.
    """
    asked = _read_flag(request, "as_admin")
    if asked:
        policy.require_admin(Caller(request[CALL].principal))
    return asked


def read_restorable_for(request: web.Request) -> timedelta:
    """How long a poll can be restored that this request deletes: not at all with ``now``.

    Raises ``ValidationError`` where that is no boolean.
    """
    return restorable_for(request, now=_read_flag(request, "now"))


def _read_flag(request: web.Request, name: str) -> bool:
    given = dict(request[CALL].query).get(name) or "false"
    flag = BOOLEANS.get(given.lower())
    if flag is None:
        raise ValidationError("must be true or false", name)
    return flag


def read_path_id(request: web.Request, name: str) -> int:
    number = parse_id(request.match_info[name])
    if number is None:
        raise NotFound("There is no resource with this id.")
    return number


def read_path_user(request: web.Request) -> UserId:
    """The user of ``/users/:id``; ``self`` is the caller."""
    text = request.match_info["id"]
    if text == "self":
        return request[CALL].principal.user_id
    user_id = parse_user_id(text)
    if user_id is None:
        raise NotFound("There is no user with this id.")
    return user_id


async def find_poll(request: web.Request) -> LocatedPoll:
    """The poll of ``:poll_id``, which is its number or its UUID."""
    text = request.match_info["poll_id"]
    number = parse_id(text)
    if number is None and not UUID.fullmatch(text):
        raise NotFound("There is no such poll.")
    located = await request.app[STORE].polls.find(number or text.lower())
    policy.require_poll(request[CALL].principal, located.poll["id"])
    return located


async def find_managed_poll(request: web.Request, caller: Caller) -> LocatedPoll:
    """Like ``find_poll``; raises ``Forbidden`` unless the caller manages the poll."""
    located = await find_poll(request)
    policy.require_manager(caller, located.key, located.poll["owner_id"])
    return located


async def require_poll_reader(request: web.Request, caller: Caller, located: LocatedPoll) -> bool:
    """Raises ``Forbidden`` unless the caller may read the poll. Returns whether they manage it."""
    owner_id = located.poll["owner_id"]
    if policy.manages(caller, located.key, owner_id):
        return True
    reach = policy.reach(caller)
    reads = await request.app[STORE].sessions.reaches(located.poll["id"], reach)
    policy.require_poll_reader(caller, located.key, owner_id, reads_a_session=reads)
    return False


async def find_managed_choice(request: web.Request, caller: Caller) -> tuple[LocatedPoll, str]:
    """Like ``find_managed_poll``, with the id of a choice. Existence comes before rights."""
    located = await find_poll(request)
    option = choices.of(located.poll, request.match_info["id"])
    policy.require_manager(caller, located.key, located.poll["owner_id"])
    return located, option["id"]


async def shows_answers(request: web.Request, caller: Caller, located: LocatedPoll) -> bool:
    """Whether the caller may see which choices are correct (docs/api.md, section 4).

    Managers may, and voters who submitted to a session that is now closed and cannot vote in an
    open one. Raises ``Forbidden`` unless the caller may read the poll.
    """
    if await require_poll_reader(request, caller, located):
        return True
    store = request.app[STORE]
    if await store.sessions.has_open(located.poll, policy.voting_reach(caller, located.key)):
        return False
    courses = policy.courses_of(caller.principal)
    closed = await store.sessions.closed_with_votes(located.poll["id"], courses)
    return await store.ballots.has_any(closed, caller.principal.user_id)


async def find_session(request: web.Request, name: str = "id") -> SessionDocument:
    """The session of the path, in the poll of the path."""
    session = await request.app[STORE].sessions.get(read_path_id(request, name))
    reference = request.match_info["poll_id"].lower()
    if reference not in (session["poll_id"], str(session["poll_number"])):
        raise NotFound("There is no such poll session.")
    policy.require_poll(request[CALL].principal, session["poll_id"])
    return session


async def find_managed_session(
    request: web.Request, caller: Caller, name: str = "id"
) -> SessionDocument:
    """Like ``find_session``; raises ``Forbidden`` unless the caller manages the poll."""
    session = await find_session(request, name)
    policy.require(policy.view_of(caller, session).is_manager, policy.MANAGERS_ONLY)
    return session


async def view_with_ballot(request: web.Request, caller: Caller, session: SessionDocument) -> View:
    """``policy.view_of`` with the caller's ballot."""
    own = await request.app[STORE].ballots.find(session["_id"], caller.principal.user_id)
    return policy.view_of(caller, session, own)
