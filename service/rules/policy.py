"""Who may do what, and who sees which results. Pure: knows neither HTTP nor MongoDB.

Each ``require_…`` raises ``Forbidden`` or returns; the rules are the contract's, sections 2 to 5.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from service.rules.principal import ANY_WORKSPACE, READ, VOTE, WRITE, Principal
from storage.documents import (
    USERS,
    BallotDocument,
    ContainerKey,
    EnrollmentDocument,
    PollDocument,
    Reach,
    SessionDocument,
    SessionRules,
    is_open,
)

MANAGERS_ONLY = "This is for managers of the poll."
TEACHING = frozenset({"TeacherEnrollment", "TaEnrollment"})

__all__ = ["READ", "VOTE", "WRITE", "Caller", "Forbidden"]


class Forbidden(Exception):
    """The caller may not do this; the text says what is lacking."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal, and the courses that its user is in."""

    principal: Principal
    enrollments: tuple[EnrollmentDocument, ...] = ()


# Both faces ------------------------------------------------------------------------------------


def require_acting(principal: Principal) -> None:
    """Only an admin token may speak for another user."""
    if not principal.is_admin:
        raise Forbidden("as_user_id is for admin tokens.")


def require_action(principal: Principal, action: str) -> None:
    """The actions of a token limit both faces."""
    if not principal.is_admin and action not in principal.actions:
        raise Forbidden(f"This token does not carry the action {action}.")


def _covers(principal: Principal, workspace: str) -> bool:
    return bool(principal.workspaces & {workspace, ANY_WORKSPACE})


# Content polls ---------------------------------------------------------------------------------


def require_content(principal: Principal, action: str, key: ContainerKey) -> None:
    """``action`` on a container of the content API.

    No grant covers the workspace of users, ``*`` included: it is for each user alone. Who acts for
    a user holds that user's rights: ``read`` and ``vote`` everywhere, ``write`` as far as
    ``require_change`` allows.
    """
    require_action(principal, action)
    if principal.is_admin:
        return
    if key.workspace == USERS:
        if key.content != str(principal.user_id):
            raise Forbidden("These polls are for the user who made them.")
    elif not principal.is_acting and not _covers(principal, key.workspace):
        raise Forbidden(f"This token does not cover the workspace {key.workspace}.")


def require_creation(principal: Principal, key: ContainerKey) -> None:
    """``write`` on the container; nobody puts polls among those made under ``/api/v1``."""
    require_content(principal, WRITE, key)
    if key.workspace == USERS:
        raise Forbidden("Polls of users are made under /api/v1/polls.")


def require_change(principal: Principal, poll: PollDocument) -> None:
    """To be asked after ``require_content``: a user who is acted for changes own polls only."""
    if principal.is_acting and poll["owner_id"] != principal.user_id:
        raise Forbidden("This poll was made by another user.")


# The polling API -------------------------------------------------------------------------------


def reach(enrollments: Iterable[EnrollmentDocument]) -> Reach:
    """The sessions that these enrollments let one read.

    Who teaches a course without a section reads all its sections; everybody else reads the sessions
    without a section, and those of the own ones.
    """
    reached: dict[int, frozenset[int | None] | None] = {}
    for enrollment in enrollments:
        course_id, section_id = enrollment["course_id"], enrollment["course_section_id"]
        sections = reached.get(course_id, frozenset({None}))
        if sections is None or (section_id is None and enrollment["type"] in TEACHING):
            reached[course_id] = None
        else:
            reached[course_id] = sections | {section_id}
    return reached


def manages(caller: Caller, key: ContainerKey, owner_id: int) -> bool:
    """The manager of a poll: for those of users its owner, else who may write there; any admin."""
    principal = caller.principal
    if principal.is_admin:
        return True
    if key.workspace == USERS or principal.is_acting:
        return owner_id == principal.user_id
    return WRITE in principal.actions and _covers(principal, key.workspace)


def reads_content(caller: Caller, key: ContainerKey) -> bool:
    """Whether the grants of the token let one read a poll and its standing session."""
    principal = caller.principal
    if key.workspace == USERS:
        return False
    return principal.is_acting or (READ in principal.actions and _covers(principal, key.workspace))


class View(NamedTuple):
    """What a caller sees of a session at one moment, and may do there; see ``view_of``.

    ``is_manager``: manages the poll. ``may_read``, ``may_vote``: rights on the session, whether it
    is open or not. ``sees_results``: its results, in counts or, where ``hides_counts``, in whole
    percents. ``sees_all_submissions``: not only the caller's own. ``own``: the caller's own ballot
    as far as its content may be known, else None.
    """

    user_id: int
    is_manager: bool
    may_read: bool
    may_vote: bool
    is_open: bool
    has_voted: bool
    sees_results: bool
    hides_counts: bool
    sees_all_submissions: bool
    own: BallotDocument | None

    def author_of(self, ballot: BallotDocument) -> int | None:
        """The caller, where the ballot is the caller's own and may be known to be; else None."""
        is_own = self.own is not None and ballot["_id"] == self.own["_id"]
        return self.user_id if is_own else None


def view_of(
    caller: Caller, session: SessionDocument, own: BallotDocument | None, now: datetime
) -> View:
    """Decides all that depends on who asks about a session (contract, sections 2 and 5).

    ``own`` is the caller's ballot in it, None where there is none or where it does not matter.
    """
    principal, settings = caller.principal, session["rules"]["settings"]
    key = ContainerKey.of(session["container"])
    is_course = session["course_id"] is not None
    is_manager = manages(caller, key, session["owner_id"])
    may_read = is_manager or _reads(caller, key, session)
    open_now = is_open(session, now)
    sees_results = is_manager or _are_results_public(session, open_now, has_voted=own is not None)
    hides_counts = settings["hideAbsoluteNumbers"] and not is_manager
    return View(
        user_id=principal.user_id,
        is_manager=is_manager,
        may_read=may_read,
        may_vote=_votes(principal, key, is_course=is_course, may_read=may_read),
        is_open=open_now,
        has_voted=own is not None,
        sees_results=sees_results,
        hides_counts=hides_counts,
        sees_all_submissions=is_manager or (sees_results and is_course and not hides_counts),
        own=own if own is not None and knows_own(principal, own, session["rules"]) else None,
    )


def knows_own(principal: Principal, own: BallotDocument, rules: SessionRules) -> bool:
    """Whether the caller may know what their own ballot says.

    Callers that act for a user learn of an unnamed ballot only that it is there.
    """
    is_named = rules["settings"]["saveParticipantNames"] and own["user_id"] is not None
    return is_named or not principal.is_acting


def _reads(caller: Caller, key: ContainerKey, session: SessionDocument) -> bool:
    """For the standing session whoever reads the content; else those who are enrolled there."""
    course_id = session["course_id"]
    if course_id is None:
        return reads_content(caller, key)
    sections = reach(caller.enrollments).get(course_id, frozenset())
    return sections is None or session["course_section_id"] in sections


def _votes(principal: Principal, key: ContainerKey, *, is_course: bool, may_read: bool) -> bool:
    """The readers of a course's session; for the standing one, the grant ``vote``.

    A cast for another user needs no enrollment: the service that acts vouches for the user.
    """
    if principal.is_admin or principal.is_acting:
        return True
    if is_course:
        return may_read
    return VOTE in principal.actions and _covers(principal, key.workspace)


def _are_results_public(session: SessionDocument, open_now: bool, *, has_voted: bool) -> bool:
    """As the session says; for the standing session, as the poll says."""
    if session["course_id"] is not None:
        return session["has_public_results"]
    match session["rules"]["settings"]["resultsVisibility"]:
        case "alwaysPublic":
            return True
        case "afterVote":
            return has_voted
        case "afterClose":
            return not open_now
        case _:
            return False


def teaches(caller: Caller, course_id: int) -> bool:
    return caller.principal.is_admin or any(
        enrollment["course_id"] == course_id and enrollment["type"] in TEACHING
        for enrollment in caller.enrollments
    )


def require_admin(caller: Caller) -> None:
    if not caller.principal.is_admin:
        raise Forbidden("This is for admins.")


def require_self(caller: Caller, user_id: int) -> None:
    if not caller.principal.is_admin and caller.principal.user_id != user_id:
        raise Forbidden("Users may ask for themselves only.")


def require_enrolled(caller: Caller, course_id: int) -> None:
    enrolled = any(one["course_id"] == course_id for one in caller.enrollments)
    if not caller.principal.is_admin and not enrolled:
        raise Forbidden("This is for who is enrolled in the course.")


def require_teacher(caller: Caller) -> None:
    """A teacher is a user who teaches any course."""
    is_teacher = any(one["type"] in TEACHING for one in caller.enrollments)
    if not caller.principal.is_admin and not is_teacher:
        raise Forbidden("Polls are made by teachers.")


def require_teaching(caller: Caller, course_id: int) -> None:
    if not teaches(caller, course_id):
        raise Forbidden(f"This is for who teaches the course {course_id}.")


def require_manager(caller: Caller, key: ContainerKey, owner_id: int) -> None:
    if not manages(caller, key, owner_id):
        raise Forbidden(MANAGERS_ONLY)


def require_session_reader(view: View) -> None:
    if not view.may_read:
        raise Forbidden("You do not have access to this poll session.")


def require_voter(view: View) -> None:
    if not view.may_vote:
        raise Forbidden("You do not have access to this poll session.")


def require_session_manager(view: View) -> None:
    if not view.is_manager:
        raise Forbidden(MANAGERS_ONLY)


def require_results(view: View) -> None:
    if not view.sees_results:
        raise Forbidden("You may not see the results of this poll, or not yet.")


def require_poll_reader(
    caller: Caller, key: ContainerKey, owner_id: int, *, reads_a_session: bool
) -> None:
    """A manager, a reader of one of its sessions, or a token with ``read`` on its workspace."""
    may_read = manages(caller, key, owner_id) or reads_content(caller, key) or reads_a_session
    if not may_read:
        raise Forbidden("This poll is for others.")
