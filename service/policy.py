"""Who may do what, and who sees which results. Pure: knows neither HTTP nor MongoDB.

Each ``require_…`` raises ``Forbidden`` or returns; the rules are the contract's, sections 2 to 5.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from service.principal import ANY_WORKSPACE, READ, VOTE, WRITE, Principal
from storage.documents import (
    USERS,
    BallotDocument,
    ContainerKey,
    EnrollmentDocument,
    PollDocument,
    SessionDocument,
    SessionRules,
)
from storage.sessions import Reach

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


def reads_session(caller: Caller, session: SessionDocument) -> bool:
    """A manager; who reads the content, for the standing session; else who is enrolled there."""
    key = ContainerKey.of(session["container"])
    if manages(caller, key, session["owner_id"]):
        return True
    course_id = session["course_id"]
    if course_id is None:
        return reads_content(caller, key)
    sections = reach(caller.enrollments).get(course_id, frozenset())
    return sections is None or session["course_section_id"] in sections


def may_vote(caller: Caller, session: SessionDocument) -> bool:
    """Who may cast: the readers of a course's session; for the standing one the grant ``vote``.

    A cast for another user needs no enrollment: the service that acts vouches.
    """
    principal = caller.principal
    if principal.is_admin or principal.is_acting:
        return True
    if session["course_id"] is not None:
        return reads_session(caller, session)
    workspace = ContainerKey.of(session["container"]).workspace
    return VOTE in principal.actions and _covers(principal, workspace)


def sees_own_choice(principal: Principal, ballot: BallotDocument, rules: SessionRules) -> bool:
    """Who acts for a user learns of an unnamed ballot only that it is there."""
    is_named = rules["settings"]["saveParticipantNames"] and ballot["user_id"] is not None
    return is_named or not principal.is_acting


def sees_all_submissions(session: SessionDocument, *, is_manager: bool, sees_results: bool) -> bool:
    """Managers, and where results of a course's session are public who sees counts there."""
    if is_manager:
        return True
    hides_numbers = session["rules"]["settings"]["hideAbsoluteNumbers"]
    return sees_results and session["course_id"] is not None and not hides_numbers


def teaches(caller: Caller, course_id: int) -> bool:
    return caller.principal.is_admin or any(
        enrollment["course_id"] == course_id and enrollment["type"] in TEACHING
        for enrollment in caller.enrollments
    )


def sees_results(
    session: SessionDocument, *, is_manager: bool, is_open: bool, has_voted: bool
) -> bool:
    """Managers always; others as the session, or for the standing one the poll, makes public."""
    if is_manager:
        return True
    if session["course_id"] is not None:
        return session["has_public_results"]
    match session["rules"]["settings"]["resultsVisibility"]:
        case "alwaysPublic":
            return True
        case "afterVote":
            return has_voted
        case "afterClose":
            return not is_open
        case _:
            return False


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
        raise Forbidden("This is for managers of the poll.")


def require_session_reader(caller: Caller, session: SessionDocument) -> None:
    if not reads_session(caller, session):
        raise Forbidden("This poll session is for others.")


def require_voter(caller: Caller, session: SessionDocument) -> None:
    if not may_vote(caller, session):
        raise Forbidden("This poll session is for others.")


def require_poll_reader(
    caller: Caller, key: ContainerKey, owner_id: int, *, reads_a_session: bool
) -> None:
    """A manager, a reader of one of its sessions, or a token with ``read`` on its workspace."""
    may_read = manages(caller, key, owner_id) or reads_content(caller, key) or reads_a_session
    if not may_read:
        raise Forbidden("This poll is for others.")
