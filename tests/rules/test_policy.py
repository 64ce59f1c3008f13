"""Rights as one table: every role against every rule, without a server."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from schemas.content import NEW_POLL, VISIBILITIES
from service.rules import policy
from service.rules.policy import Caller, Forbidden, View
from service.rules.principal import ACTIONS, READ, VOTE, WRITE, Principal
from storage.documents import (
    USERS,
    BallotDocument,
    ContainerKey,
    EnrollmentDocument,
    EnrollmentType,
    LocatedPoll,
    PollDocument,
    SessionDocument,
    new_session,
)

NOW = datetime(2126, 1, 31, 12, 0, tzinfo=UTC)
COURSE, OTHER_COURSE = 10, 11
SECTION, OTHER_SECTION = 101, 102
OWNER = 1

STUDENT: EnrollmentType = "StudentEnrollment"
TEACHER: EnrollmentType = "TeacherEnrollment"
ASSISTANT: EnrollmentType = "TaEnrollment"

Place = tuple[int, int | None, EnrollmentType]


def enrolled(user_id: int, place: Place) -> EnrollmentDocument:
    course_id, section_id, kind = place
    return {
        "_id": f"{course_id}:{user_id}:{section_id}:{kind}",
        "number": 1,
        "user_id": user_id,
        "course_id": course_id,
        "course_section_id": section_id,
        "type": kind,
        "created_at": NOW,
    }


def principal(user_id: int, **grants: Any) -> Principal:
    grants = {"actions": frozenset(ACTIONS), "workspaces": frozenset(), **grants}
    return Principal(user_id, "hash", "name", **grants)


ADMIN = principal(0, is_admin=True, actions=frozenset())

USERS_PLACES: dict[str, tuple[int, list[Place]]] = {
    "owner": (OWNER, [(COURSE, None, TEACHER)]),
    "colleague": (2, [(COURSE, None, TEACHER)]),
    "assistant": (3, [(COURSE, None, ASSISTANT)]),
    "student of the section": (4, [(COURSE, SECTION, STUDENT)]),
    "student of another section": (5, [(COURSE, OTHER_SECTION, STUDENT)]),
    "student without a section": (6, [(COURSE, None, STUDENT)]),
    "teacher of the section": (7, [(COURSE, SECTION, TEACHER)]),
    "teacher of another section": (8, [(COURSE, OTHER_SECTION, TEACHER)]),
    "assistant of another section": (9, [(COURSE, OTHER_SECTION, ASSISTANT)]),
    "teacher of another course": (12, [(OTHER_COURSE, None, TEACHER)]),
    "student of another course": (13, [(OTHER_COURSE, SECTION, STUDENT)]),
    "student here, teacher there": (14, [(COURSE, None, STUDENT), (OTHER_COURSE, None, TEACHER)]),
    "student, later teacher": (15, [(COURSE, SECTION, STUDENT), (COURSE, None, TEACHER)]),
    "teacher, later student": (16, [(COURSE, None, TEACHER), (COURSE, SECTION, STUDENT)]),
    "stranger": (17, []),
    "owner who left": (OWNER, []),
}


def callers_of(role: str) -> list[Caller]:
    """A user with tokens of their own, and an admin acting for them: all have the same rights."""
    user_id, places = USERS_PLACES[role]
    enrollments = tuple(enrolled(user_id, place) for place in places)
    return [
        Caller(principal(user_id), enrollments),
        # Actions are checked before any of this; grants on content do not matter here.
        Caller(principal(user_id, workspaces=frozenset({"*", USERS})), enrollments),
        Caller(ADMIN.acting_for(user_id), enrollments),
    ]


def located_poll(key: ContainerKey, **settings: Any) -> LocatedPoll:
    definition = NEW_POLL.load({"title": "?", "options": [{"title": "a"}], "settings": settings})
    poll: PollDocument = {
        "id": "00000000-0000-4000-8000-000000000000",
        "number": 3,
        "title": "?",
        "description": "",
        "settings": definition["settings"],
        "closes_at": None,
        "options": [{"id": "1", "title": "a", "order": 0, "is_correct": False}],
        "highest_option": 1,
        "standing_session": None,
        "owner_id": OWNER,
        "created_at": NOW,
        "version": 1,
    }
    return LocatedPoll(key, poll)


OWN = ContainerKey(USERS, str(OWNER), "3")
CONTENT = ContainerKey("PLAT", "PLAT-1", "")


def session_of(key: ContainerKey, course_id: int | None, section_id: int | None) -> SessionDocument:
    located = located_poll(key)
    return new_session(1, located, NOW, course_id=course_id, course_section_id=section_id)


BALLOT: BallotDocument = {
    "_id": "1:own",
    "session_id": 1,
    "number": 4,
    "choices": ["1"],
    "comment": None,
    "user_id": None,
    "requests": [],
    "created_at": NOW,
    "updated_at": NOW,
}
WHOLE = session_of(OWN, COURSE, None)
OF_SECTION = session_of(OWN, COURSE, SECTION)

# Polls made here: manages, reads the session of the course, that of the section,
# teaches the course, is a teacher.
RIGHTS: dict[str, tuple[bool, bool, bool, bool, bool]] = {
    "owner": (True, True, True, True, True),
    "colleague": (False, True, True, True, True),
    "assistant": (False, True, True, True, True),
    "student of the section": (False, True, True, False, False),
    "student of another section": (False, True, False, False, False),
    "student without a section": (False, True, False, False, False),
    "teacher of the section": (False, True, True, True, True),
    "teacher of another section": (False, True, False, True, True),
    "assistant of another section": (False, True, False, True, True),
    "teacher of another course": (False, False, False, False, True),
    "student of another course": (False, False, False, False, False),
    "student here, teacher there": (False, True, False, False, True),
    "student, later teacher": (False, True, True, True, True),
    "teacher, later student": (False, True, True, True, True),
    "stranger": (False, False, False, False, False),
    "owner who left": (True, True, True, False, False),
}


def allows(require: Callable[..., object], *arguments: Any, **options: Any) -> bool:
    try:
        require(*arguments, **options)
    except Forbidden:
        return False
    return True


def view_of(caller: Caller, session: SessionDocument) -> View:
    return policy.view_of(caller, session)


def reads(caller: Caller, session: SessionDocument) -> bool:
    return view_of(caller, session).may_read


def test_every_role_has_its_row() -> None:
    assert RIGHTS.keys() == USERS_PLACES.keys()


@pytest.mark.parametrize("role", RIGHTS)
def test_the_rights_on_a_poll_that_a_user_made(role: str) -> None:
    for caller in callers_of(role):
        manages = policy.manages(caller, OWN, OWNER)
        assert (
            manages,
            reads(caller, WHOLE),
            reads(caller, OF_SECTION),
            policy.teaches(caller, COURSE),
            allows(policy.require_teacher, caller),
        ) == RIGHTS[role]
        assert allows(policy.require_manager, caller, OWN, OWNER) == manages
        assert allows(policy.require_teaching, caller, COURSE) == RIGHTS[role][3]
        for session in (WHOLE, OF_SECTION):
            is_read = reads(caller, session)
            assert view_of(caller, session).is_manager == manages
            # Only managers and readers of a session read the poll.
            readable = allows(
                policy.require_poll_reader, caller, OWN, OWNER, reads_a_session=is_read
            )
            assert readable == is_read
        assert not policy.reads_content(caller, OWN)
        assert not allows(policy.require_admin, caller)


@pytest.mark.parametrize("role", RIGHTS)
def test_users_read_themselves_and_the_courses_they_are_enrolled_in(role: str) -> None:
    user_id, places = USERS_PLACES[role]
    for caller in callers_of(role):
        assert allows(policy.require_self, caller, user_id)
        assert not allows(policy.require_self, caller, 99)
        for course_id in (COURSE, OTHER_COURSE):
            is_there = any(place[0] == course_id for place in places)
            assert allows(policy.require_enrolled, caller, course_id) == is_there


def test_an_admin_may_do_all_of_it() -> None:
    caller = Caller(ADMIN)
    standing = session_of(CONTENT, None, None)
    assert policy.manages(caller, OWN, OWNER)
    assert policy.manages(caller, CONTENT, OWNER)
    assert all(reads(caller, one) for one in (WHOLE, OF_SECTION, standing))
    assert policy.teaches(caller, COURSE)
    for require, *arguments in (
        (policy.require_teacher,),
        (policy.require_admin,),
        (policy.require_self, 99),
        (policy.require_enrolled, COURSE),
        (policy.require_teaching, COURSE),
        (policy.require_manager, OWN, OWNER),
    ):
        assert allows(require, caller, *arguments)
    assert all(allows(policy.require_action, ADMIN, action) for action in ACTIONS)
    assert allows(policy.require_acting, ADMIN)


def test_an_admin_acting_for_a_user_loses_the_admins_rights() -> None:
    acting = ADMIN.acting_for(17)
    assert not acting.is_admin
    assert not allows(policy.require_acting, acting)
    assert acting.workspaces == frozenset()


# Content polls ---------------------------------------------------------------------------------

GRANTS = [frozenset(), *(frozenset({action}) for action in ACTIONS), frozenset(ACTIONS)]
WORKSPACES: dict[str, set[str]] = {
    "none": set(),
    "this": {"PLAT"},
    "another": {"OPS"},
    "all": {"*"},
    "users": {USERS},
}


@pytest.mark.parametrize(("covering", "actions"), [*product(WORKSPACES, GRANTS)])
def test_the_rights_of_a_token_on_a_content_poll(covering: str, actions: frozenset[str]) -> None:
    # The creator has no special rights on content: the workspace decides.
    for user_id in (OWNER, 17):
        workspaces = frozenset(WORKSPACES[covering])
        asking = principal(user_id, actions=actions, workspaces=workspaces)
        caller = Caller(asking)
        covers = covering in ("this", "all")
        manages, reads_content = covers and WRITE in actions, covers and READ in actions
        assert policy.manages(caller, CONTENT, OWNER) == manages
        assert policy.reads_content(caller, CONTENT) == reads_content
        standing = session_of(CONTENT, None, None)
        assert reads(caller, standing) == (manages or reads_content)
        readable = allows(policy.require_poll_reader, caller, CONTENT, OWNER, reads_a_session=False)
        assert readable == (manages or reads_content)
        # A session in a course is for enrolled users and managers.
        assert reads(caller, session_of(CONTENT, COURSE, None)) == manages
        for action in ACTIONS:
            assert allows(policy.require_action, asking, action) == (action in actions)
            has_both = covers and action in actions
            assert allows(policy.require_content, asking, action, CONTENT) == has_both
        assert allows(policy.require_creation, asking, CONTENT) == manages
        assert allows(policy.require_change, asking, located_poll(CONTENT).poll)


@pytest.mark.parametrize("user_id", [OWNER, 17])
def test_a_caller_acting_for_a_user_reads_all_content_and_manages_that_users_polls(
    user_id: int,
) -> None:
    acting = ADMIN.acting_for(user_id)
    caller = Caller(acting)
    is_maker = user_id == OWNER
    assert policy.manages(caller, CONTENT, OWNER) == is_maker
    assert policy.reads_content(caller, CONTENT)
    assert reads(caller, session_of(CONTENT, None, None))
    assert allows(policy.require_change, acting, located_poll(CONTENT).poll) == is_maker
    for action in (READ, WRITE, VOTE):
        assert allows(policy.require_content, acting, action, CONTENT)
        assert allows(policy.require_content, acting, action, OWN) == is_maker
    assert allows(policy.require_creation, acting, CONTENT)
    assert not allows(policy.require_creation, acting, OWN)


@pytest.mark.parametrize("covering", WORKSPACES)
def test_no_grant_covers_the_polls_of_users(covering: str) -> None:
    workspaces = frozenset(WORKSPACES[covering])
    for user_id in (OWNER, 17):
        asking = principal(user_id, workspaces=workspaces)
        for action in ACTIONS:
            is_theirs = user_id == OWNER
            assert allows(policy.require_content, asking, action, OWN) == is_theirs
        assert not allows(policy.require_creation, asking, OWN)
    assert not allows(policy.require_creation, ADMIN, OWN)
    assert allows(policy.require_content, ADMIN, WRITE, OWN)


# Results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visibility", "is_manager", "is_open", "has_voted", "is_public"),
    [*product(VISIBILITIES, *[(False, True)] * 4)],
)
def test_who_sees_results(
    visibility: str, is_manager: bool, is_open: bool, has_voted: bool, is_public: bool
) -> None:
    located = located_poll(CONTENT, resultsVisibility=visibility)
    options = {"has_public_results": is_public, "is_published": is_open}
    standing = new_session(1, located, NOW, **options)
    of_course = new_session(1, located, NOW, course_id=COURSE, **options)
    caller = Caller(ADMIN if is_manager else principal(17))
    own = BALLOT if has_voted else None
    of_standing = {
        "alwaysPublic": True,
        "afterVote": has_voted,
        "afterClose": not is_open,
        "private": False,
    }
    expected = {1: is_manager or of_standing[visibility], 2: is_manager or is_public}
    for number, session in enumerate((standing, of_course), 1):
        view = policy.view_of(caller, session, own)
        assert (view.is_manager, view.is_open, view.has_voted) == (is_manager, is_open, has_voted)
        assert view.sees_results == expected[number]
        assert view.sees_all_submissions == (is_manager or (number == 2 and is_public))


@pytest.mark.parametrize("user_id", [OWNER, 17])
def test_a_token_without_read_sees_no_results_and_no_submissions(user_id: int) -> None:
    actions = frozenset({WRITE, VOTE})
    caller = Caller(principal(user_id, actions=actions, workspaces=frozenset({"*"})))
    for key in (CONTENT, OWN):
        for course_id in (None, COURSE):
            located = located_poll(key)
            session = new_session(1, located, NOW, course_id=course_id, has_public_results=True)
            view = policy.view_of(caller, session, BALLOT)
            assert view.is_manager == (key is CONTENT or user_id == OWNER)
            seen = (view.sees_results, view.sees_submissions, view.sees_all_submissions)
            assert seen == (False, False, False)


@pytest.mark.parametrize("is_manager", [False, True])
def test_where_counts_are_hidden_only_managers_see_them_and_all_submissions(
    is_manager: bool,
) -> None:
    located = located_poll(CONTENT, hideAbsoluteNumbers=True)
    session = new_session(1, located, NOW, course_id=COURSE, has_public_results=True)
    view = policy.view_of(Caller(ADMIN if is_manager else principal(17)), session)
    assert view.sees_results
    assert view.hides_counts == (not is_manager)
    assert view.sees_all_submissions == is_manager


@pytest.mark.parametrize(
    ("is_acting", "saves_names", "is_named", "is_known"),
    [
        (acting, saves, named, not acting or (saves and named))
        for acting, saves, named in product((False, True), repeat=3)
    ],
)
def test_a_caller_acting_for_a_user_knows_only_named_ballots(
    is_acting: bool, saves_names: bool, is_named: bool, is_known: bool
) -> None:
    session = new_session(1, located_poll(CONTENT, saveParticipantNames=saves_names), NOW)
    asking = ADMIN.acting_for(17) if is_acting else principal(17)
    own: BallotDocument = {**BALLOT, "user_id": 17 if is_named else None}
    view = policy.view_of(Caller(asking), session, own)
    assert view.has_voted
    assert (view.own is not None) == is_known
    assert view.author_of(own) == (17 if is_known else None)
    assert view.author_of({**own, "_id": "1:another"}) is None


@pytest.mark.parametrize("role", RIGHTS)
def test_who_may_vote_in_the_session_of_a_course(role: str) -> None:
    for session, column in ((WHOLE, 1), (OF_SECTION, 2)):
        for caller in callers_of(role):
            assert view_of(caller, session).may_vote == RIGHTS[role][column]


@pytest.mark.parametrize(("covering", "actions"), [*product(WORKSPACES, GRANTS)])
def test_the_grant_to_vote_is_for_the_standing_session_alone(
    covering: str, actions: frozenset[str]
) -> None:
    asking = principal(17, actions=actions, workspaces=frozenset(WORKSPACES[covering]))
    covers = covering in ("this", "all")
    standing = view_of(Caller(asking), session_of(CONTENT, None, None))
    assert standing.may_vote == (covers and VOTE in actions)
    of_course = view_of(Caller(asking), session_of(CONTENT, COURSE, None))
    assert of_course.may_vote == (covers and WRITE in actions)
