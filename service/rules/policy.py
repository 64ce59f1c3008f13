"""Rights and visibility, as pure functions (docs/api.md, sections 2 to 5).

Each ``require…`` returns, or raises ``Forbidden`` with a sentence for the caller.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from service.rules.principal import ACT, ANY, READ, SERVICE_USER, VOTE, WRITE, Principal
from storage.documents import (
    USERS,
    BallotDocument,
    ContainerKey,
    EnrollmentDocument,
    PollDocument,
    Reach,
    SessionDocument,
    SessionRules,
    UserId,
    Visibility,
    is_open,
)
from storage.errors import Code

MANAGERS_ONLY = "Only managers of the poll may do this."
NO_SESSION_ACCESS = "You do not have access to this poll session."
BOUND = "This token reaches only the polls that it is bound to."
TEACHING = frozenset({"TeacherEnrollment", "TaEnrollment"})

__all__ = ["READ", "VOTE", "WRITE", "Caller", "Forbidden"]


class Forbidden(Exception):
    """The caller may not do this; the text says why."""

    code: ClassVar[Code] = Code.FORBIDDEN


class ResultsHidden(Forbidden):
    """The caller may not see the results, or not yet."""

    code = Code.RESULTS_HIDDEN


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal with the enrollments of its user: all of them, also beyond the token's reach."""

    principal: Principal
    enrollments: tuple[EnrollmentDocument, ...] = ()

    @property
    def counted(self) -> Sequence[EnrollmentDocument]:
        """The enrollments that give the caller rights: those in courses that the token covers."""
        if not self.principal.is_limited:
            return self.enrollments
        return [one for one in self.enrollments if covers_course(self.principal, one["course_id"])]


def require(is_allowed: bool, reason: str) -> None:
    """Raises ``Forbidden`` with ``reason`` unless allowed."""
    if not is_allowed:
        raise Forbidden(reason)


# Both APIs -------------------------------------------------------------------------------------


def require_acting(principal: Principal) -> None:
    may_act = principal.is_admin or ACT in principal.actions
    require(may_act, "Only admin tokens and tokens with the action act may use as_user_id.")


def require_action(principal: Principal, action: str) -> None:
    """The actions of a token apply to both APIs."""
    is_granted = grants(principal, action)
    require(is_granted, f"This token does not grant the action {action}.")


def grants(principal: Principal, action: str) -> bool:
    """Whether the token has ``action``; without ``read``, answers to a write show no results."""
    return principal.is_admin or action in principal.actions


def _covers(principal: Principal, workspace: str) -> bool:
    return workspace in principal.workspaces or ANY in principal.workspaces


def _reaches(principal: Principal, workspace: str) -> bool:
    """Whether the caller has rights in a workspace; a user whom an admin acts for has some in all.

    That is for workspaces of content: it says nothing of the polls of users.
    """
    is_everywhere = principal.is_acting and not principal.is_limited
    return is_everywhere or _covers(principal, workspace)


def covers_course(principal: Principal, course_id: int) -> bool:
    """Whether the token covers a course; only tokens that act for users are limited so."""
    if not principal.is_acting or principal.courses is None:
        return True
    return course_id in principal.courses or ANY in principal.courses


def courses_of(principal: Principal) -> Collection[int] | None:
    """The courses whose sessions the token reaches; None for all, as most tokens do."""
    if not principal.is_acting or principal.courses is None or ANY in principal.courses:
        return None
    return [course for course in principal.courses if isinstance(course, int)]


def require_courses(principal: Principal, course_ids: Iterable[int | None]) -> None:
    """For what changes all sessions of a poll: the token must cover the courses of all of them."""
    missed = next(
        (one for one in course_ids if one is not None and not covers_course(principal, one)), 0
    )
    reason = f"This poll has sessions in the course {missed}, which this token does not cover."
    require(not missed, reason)


def check_of(principal: Principal) -> Callable[[Iterable[int | None]], None] | None:
    """``require_courses`` for this caller; None for callers that it would never refuse."""
    return partial(require_courses, principal) if principal.is_limited else None


def require_poll(principal: Principal, poll_id: str | None) -> None:
    """A token that is bound to polls reaches nothing else; None stands for anything else."""
    require(not principal.polls or poll_id in principal.polls, BOUND)


# Content polls ---------------------------------------------------------------------------------


def require_content(
    principal: Principal, action: str, key: ContainerKey, poll_id: str | None = None
) -> None:
    """Requires ``action`` on a container of the content API, or on one poll in it.

    No grant covers the workspace ``users``, not even ``*``: its polls belong to single users, and
    only admins act for these. A caller that an admin acts for has ``read`` and ``vote`` everywhere,
    and ``write`` as far as ``require_change`` allows. A token that is bound to polls must name one.
    """
    require_action(principal, action)
    if principal.is_admin:
        return
    require_poll(principal, poll_id)
    if key.workspace == USERS:
        is_own = principal.user_id != SERVICE_USER and key.content == str(principal.user_id)
        is_owner = is_own and not principal.is_limited
        require(is_owner, "Only the user who created these polls has access to them.")
    else:
        is_covered = _reaches(principal, key.workspace)
        require(is_covered, f"This token does not cover the workspace {key.workspace}.")


def require_creation(principal: Principal, key: ContainerKey) -> None:
    """Requires ``write``, and a workspace other than that of polls made under ``/api/v1``."""
    require_content(principal, WRITE, key)
    require(key.workspace != USERS, "Polls of users are created with POST /api/v1/polls.")


def require_change(principal: Principal, poll: PollDocument) -> None:
    """For after ``require_content``: a user who is acted for may change only their own polls."""
    is_allowed = not principal.is_acting or _owns(principal, poll["owner_id"])
    require(is_allowed, "Only the user who created this poll may change it.")


# The polling API -------------------------------------------------------------------------------


def reach(caller: Caller) -> Reach:
    """The sessions that a caller's enrollments make readable; see ``_reach``."""
    return _reach(caller.counted)


def _reach(enrollments: Iterable[EnrollmentDocument]) -> Reach:
    """The sessions that these enrollments make readable, by course id: sections, or None for all.

    Teachers enrolled without a section read every session of the course. Everybody else reads the
    sessions without a section and those of their own sections.
    """
    reached: dict[int | None, frozenset[int | None] | None] = {}
    for enrollment in enrollments:
        course_id, section_id = enrollment["course_id"], enrollment["course_section_id"]
        sections = reached.get(course_id, frozenset({None}))
        if sections is None or (section_id is None and enrollment["type"] in TEACHING):
            reached[course_id] = None
        else:
            reached[course_id] = sections | {section_id}
    return reached


def manages(caller: Caller, key: ContainerKey, owner_id: UserId) -> bool:
    """Whether the caller manages a poll.

    Admins always do. Polls of users are managed by their owner, content polls with ``write``, and
    where a token acts for a user, by the user who made them. Of their sessions a caller manages
    those that ``view_of`` says. The holder of a link never does, also where its maker does: a link
    shows what readers see.
    """
    principal = caller.principal
    if principal.maker is not None:
        return False
    if principal.is_admin:
        return True
    if key.workspace == USERS:
        return _owns(principal, owner_id) and reaches_users(principal)
    is_maker = not principal.is_acting or _owns(principal, owner_id)
    return is_maker and WRITE in principal.actions and _reaches(principal, key.workspace)


def _owns(principal: Principal, owner_id: UserId) -> bool:
    """Whether the caller made a poll. What erased users made is nobody's: only admins manage it."""
    return owner_id == principal.user_id and owner_id != SERVICE_USER


def reaches_users(principal: Principal) -> bool:
    """Whether a token may act for users in the polls that they made: they run in courses."""
    return not principal.is_limited or bool(principal.courses)


def require_own_polls(principal: Principal) -> None:
    require(reaches_users(principal), "This token does not cover any course.")


def reads_content(caller: Caller, key: ContainerKey) -> bool:
    """Whether the token's grants suffice to read a poll and its standing session."""
    principal = caller.principal
    if key.workspace == USERS:
        return False
    return READ in principal.actions and _reaches(principal, key.workspace)


class View(NamedTuple):
    """What a caller may see and do in a session at one moment; see ``view_of``.

    ``is_manager``: manages the poll. ``may_read``, ``may_vote``: rights on the session, whether or
    not it is open. ``sees_results``: as counts or, if ``hides_counts``, as whole percentages.
    ``sees_submissions``: the caller's own, and with ``sees_all_submissions`` those of others.
    ``own``: the caller's ballot, or None if there is none or the caller may not know its content.
    ``can_vote``: a first vote would be taken now; ``can_change``: the vote that there is could be
    replaced or withdrawn now; ``can_write``: the poll could be changed and deleted.
    """

    user_id: UserId
    is_manager: bool
    may_read: bool
    may_vote: bool
    is_open: bool
    has_voted: bool
    sees_results: bool
    hides_counts: bool
    sees_submissions: bool
    sees_all_submissions: bool
    own: BallotDocument | None
    can_vote: bool
    can_change: bool
    can_write: bool

    def author_of(self, ballot: BallotDocument) -> UserId | None:
        """The caller's user id if the ballot is ``own``, else None."""
        is_own = self.own is not None and ballot["_id"] == self.own["_id"]
        return self.user_id if is_own else None


def view_of(caller: Caller, session: SessionDocument, own: BallotDocument | None = None) -> View:
    """Decides everything about a session that depends on the caller (docs/api.md, 2 and 5).

    ``own`` is the caller's ballot in it: None if there is none, or if it does not matter. The
    holder of a link may read and vote as long as its maker may. Of a session of which only counts
    are kept, nobody sees the ballots that are still to be removed.
    """
    is_kept = not session.get("counts_only", False)
    own = own if is_kept else None
    principal, settings = caller.principal, session["rules"]["settings"]
    key = ContainerKey.of(session["container"])
    course_id = session["course_id"]
    is_course = course_id is not None
    is_reached = _reaches_session(principal, key, course_id)
    is_manager = is_reached and manages(caller, key, session["owner_id"])
    may_read, may_vote = _rights(caller, key, session, is_manager=is_manager)
    open_now = is_open(session)
    reads = grants(principal, READ)
    takes_votes = open_now and may_vote and grants(principal, VOTE)
    sees_results = reads and (
        is_manager or _are_results_public(session, open_now, has_voted=own is not None)
    )
    hides_counts = settings["hideAbsoluteNumbers"] and not is_manager
    return View(
        user_id=principal.user_id,
        is_manager=is_manager,
        may_read=may_read,
        may_vote=may_vote,
        is_open=open_now,
        has_voted=own is not None,
        sees_results=sees_results,
        hides_counts=hides_counts,
        sees_submissions=reads,
        sees_all_submissions=sees_results
        and is_kept
        and (is_manager or (is_course and not hides_counts)),
        own=own
        if own is not None and is_reached and knows_own(principal, own, session["rules"])
        else None,
        can_vote=takes_votes and own is None,
        can_change=takes_votes and own is not None and settings["allowRevote"],
        can_write=is_manager and grants(principal, WRITE),
    )


def _reaches_session(principal: Principal, key: ContainerKey, course_id: int | None) -> bool:
    """Whether a session is within the limits of a token that acts for a user."""
    if not principal.is_acting:
        return True
    return (
        _reaches(principal, key.workspace)
        if course_id is None
        else covers_course(principal, course_id)
    )


def can_write(caller: Caller, key: ContainerKey, owner_id: UserId) -> bool:
    """As ``View.can_write``, of a poll without a standing session."""
    return manages(caller, key, owner_id) and grants(caller.principal, WRITE)


def require_results(view: View) -> None:
    """Raises ``ResultsHidden`` unless the caller sees the results of the session."""
    if not view.sees_results:
        raise ResultsHidden("The results of this poll are not visible to you.")


def knows_own(principal: Principal, own: BallotDocument, rules: SessionRules) -> bool:
    """Whether the caller may know the content of their own ballot.

    A caller acting for a user learns only the existence of a ballot without a name. A link without
    ``vote`` is for anybody to watch: it tells nothing of its maker's vote.
    """
    if principal.maker is not None and VOTE not in principal.actions:
        return False
    return _is_named(own, rules) or not principal.is_acting


def knows_vote_of(
    principal: Principal, user_id: UserId, ballot: BallotDocument, rules: SessionRules
) -> bool:
    """Whether the caller may know the content of this user's ballot.

    One's own as ever. That of another, which only admins may ask for, if it has a name.
    """
    is_own = principal.user_id == user_id
    return knows_own(principal, ballot, rules) if is_own else _is_named(ballot, rules)


def _is_named(ballot: BallotDocument, rules: SessionRules) -> bool:
    """Whether a ballot has a name that is shown: not while names are not saved."""
    return rules["settings"]["saveParticipantNames"] and ballot["user_id"] is not None


def _rights(
    caller: Caller, key: ContainerKey, session: SessionDocument, *, is_manager: bool
) -> tuple[bool, bool]:
    """Whether the caller may read the session, and vote in it."""
    principal, is_course = caller.principal, session["course_id"] is not None
    if principal.maker is not None:
        of_maker = view_of(Caller(principal.maker, caller.enrollments), session)
        may_read = of_maker.may_read and grants(principal.maker, READ)
        may_vote = may_read and of_maker.may_vote and grants(principal.maker, VOTE)
        return may_read, may_vote and VOTE in principal.actions
    may_read = is_manager or _reads(caller, key, session)
    return may_read, _votes(principal, key, is_course=is_course, may_read=may_read)


def _reads(caller: Caller, key: ContainerKey, session: SessionDocument) -> bool:
    """The standing session needs ``read`` on the content, others an enrollment."""
    course_id = session["course_id"]
    if course_id is None:
        return reads_content(caller, key)
    sections = reach(caller).get(course_id, frozenset())
    return sections is None or session["course_section_id"] in sections


def _votes(principal: Principal, key: ContainerKey, *, is_course: bool, may_read: bool) -> bool:
    """The standing session needs the grant ``vote``, others the right to read them.

    So does a vote for another user: acting gives no right that the user does not have.
    """
    if principal.is_admin:
        return True
    if is_course:
        return may_read
    return VOTE in principal.actions and _reaches(principal, key.workspace)


def hidden_results(session: SessionDocument) -> Visibility:
    """Why readers do not see the results of a session now: those of a course are published by hand.

    In the words of ``resultsVisibility``; for sessions whose ``view_of`` has no ``sees_results``.
    """
    if session["course_id"] is not None:
        return "private"
    return session["rules"]["settings"]["resultsVisibility"]


def voting_reach(caller: Caller, key: ContainerKey) -> Reach:
    """The sessions of a poll that a user may vote in without managing it.

    As ``view_of`` says of each of them, for polls with very many. Where a token acts for the user,
    those beyond its limits count too: the user may vote there in another way.
    """
    reached = dict(_reach(caller.enrollments))
    is_acting = caller.principal.is_acting
    if is_acting or _votes(caller.principal, key, is_course=False, may_read=False):
        reached[None] = None
    return reached


def _are_results_public(session: SessionDocument, open_now: bool, *, has_voted: bool) -> bool:
    """Decided by the session; for the standing session, by the settings of the poll."""
    if session["course_id"] is not None:
        return session["has_public_results"]
    is_visible: dict[Visibility, bool] = {
        "alwaysPublic": True,
        "afterVote": has_voted,
        "afterClose": not open_now,
        "private": False,
    }
    return is_visible[session["rules"]["settings"]["resultsVisibility"]]


def depends_on_vote(session: SessionDocument) -> bool:
    """Whether callers must have voted to see the results."""
    visibility = session["rules"]["settings"]["resultsVisibility"]
    return session["course_id"] is None and visibility == "afterVote"


def teaches(caller: Caller, course_id: int) -> bool:
    return caller.principal.is_admin or any(
        enrollment["course_id"] == course_id and enrollment["type"] in TEACHING
        for enrollment in caller.counted
    )


def require_admin(caller: Caller) -> None:
    require(caller.principal.is_admin, "Only admins may do this, without as_user_id.")


def require_self(caller: Caller, user_id: UserId) -> None:
    is_self = caller.principal.user_id == user_id
    require(is_self or caller.principal.is_admin, "You may only read your own user.")


def require_data(principal: Principal, user_id: UserId) -> None:
    """For what is held of a user: admins, and the user with a token that is theirs alone.

    A token that acts for users is no user's own unless it may do everything.
    """
    if principal.is_admin:
        return
    require_action(principal, READ)
    require_poll(principal, None)
    require(principal.user_id == user_id, "You may only read your own data.")
    require(not principal.is_limited, "This token does not read all data of the users it acts for.")


def require_enrolled(caller: Caller, course_id: int) -> None:
    is_enrolled = any(one["course_id"] == course_id for one in caller.counted)
    require(is_enrolled or caller.principal.is_admin, "You are not enrolled in this course.")


def require_teacher(caller: Caller) -> int | None:
    """A teacher is a user who teaches any course. Returns such a course; None for admins."""
    if caller.principal.is_admin:
        return None
    taught = [one["course_id"] for one in caller.counted if one["type"] in TEACHING]
    require(bool(taught), "Only teachers may create polls.")
    return taught[0]


def require_teaching(caller: Caller, course_id: int) -> None:
    require(teaches(caller, course_id), f"You do not teach the course {course_id}.")


def require_manager(caller: Caller, key: ContainerKey, owner_id: UserId) -> None:
    require(manages(caller, key, owner_id), MANAGERS_ONLY)


def require_poll_reader(
    caller: Caller, key: ContainerKey, owner_id: UserId, *, reads_a_session: bool
) -> None:
    """A manager, a reader of one of its sessions, or a token with ``read`` on its workspace."""
    may_read = manages(caller, key, owner_id) or reads_content(caller, key) or reads_a_session
    require(may_read, "You do not have access to this poll.")
