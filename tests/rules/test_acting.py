"""What tokens with the action ``act``, and tokens that are bound to polls, reach."""

from itertools import product
from typing import Any

import pytest

from service.rules import policy
from service.rules.policy import Caller
from service.rules.principal import ACT, ACTIONS, READ, VOTE, WRITE, Principal
from storage.documents import USERS, ContainerKey, TokenDocument
from tests.rules.test_policy import (
    BALLOT,
    CONTENT,
    COURSE,
    NOW,
    OF_SECTION,
    OTHER_COURSE,
    OWN,
    OWNER,
    RIGHTS,
    TEACHER,
    USERS_PLACES,
    WHOLE,
    allows,
    enrolled,
    located_poll,
    principal,
    reads,
    session_of,
    view_of,
)

SERVICE = 99
POLL = located_poll(CONTENT).poll["id"]
ELSEWHERE = ContainerKey("OPS", "OPS-1", "")


def acting(user_id: int, *actions: str, **limits: Any) -> Principal:
    """A service's token with ``act``, and with these other actions, or all."""
    granted = [ACT, *(actions or ACTIONS)]
    service = principal(SERVICE, actions=granted, **{"courses": (), **limits})
    assert allows(policy.require_acting, service)
    return service.acting_for(user_id)


def caller_in(role: str, *courses: Any) -> Caller:
    user_id, places = USERS_PLACES[role]
    enrollments = tuple(enrolled(user_id, place) for place in places)
    return Caller(acting(user_id, courses=courses), enrollments)


def test_a_token_of_version_0_1_has_no_limits_by_courses_and_polls() -> None:
    token: TokenDocument = {
        "_id": "hash",
        "name": "old",
        "user_id": 7,
        "admin": False,
        "workspaces": ["PLAT"],
        "actions": [*ACTIONS],
        "created_at": NOW,
        "expires_at": None,
        "revoked_at": None,
    }
    old = Principal.of(token)
    assert allows(policy.require_content, old, READ, CONTENT)
    assert allows(policy.require_poll, old, None)
    assert policy.courses_of(old) is None
    assert not allows(policy.require_acting, old)
    admin = Principal.of({**token, "admin": True})
    assert policy.courses_of(admin.acting_for(7)) is None
    assert allows(policy.require_content, admin.acting_for(8), WRITE, CONTENT)


@pytest.mark.parametrize("action", ACTIONS)
def test_no_other_action_lets_a_token_act(action: str) -> None:
    assert not allows(policy.require_acting, principal(SERVICE, actions=[action]))


def test_who_is_acted_for_may_not_act_in_turn() -> None:
    assert not allows(policy.require_acting, acting(7, workspaces=["*"], courses=["*"]))


# Content ---------------------------------------------------------------------------------------

WORKSPACES: dict[str, list[str]] = {
    "none": [],
    "this": ["PLAT"],
    "another": ["OPS"],
    "all": ["*"],
}
GRANTED = [(READ,), (WRITE,), (VOTE,), (READ, VOTE), ACTIONS]


@pytest.mark.parametrize(
    ("covering", "actions", "user_id"), [*product(WORKSPACES, GRANTED, (OWNER, 17))]
)
def test_acting_on_content_is_limited_to_the_workspaces_and_actions_of_the_token(
    covering: str, actions: tuple[str, ...], user_id: int
) -> None:
    asking = acting(user_id, *actions, workspaces=WORKSPACES[covering], courses=["*"])
    is_covered, is_maker = covering in ("this", "all"), user_id == OWNER
    for action in ACTIONS:
        is_allowed = is_covered and action in actions
        assert allows(policy.require_content, asking, action, CONTENT) == is_allowed
    may_write, may_read = (is_covered and one in actions for one in (WRITE, READ))
    assert allows(policy.require_creation, asking, CONTENT) == may_write
    assert allows(policy.require_change, asking, located_poll(CONTENT).poll) == is_maker
    caller = Caller(asking)
    assert policy.manages(caller, CONTENT, OWNER) == (may_write and is_maker)
    assert policy.reads_content(caller, CONTENT) == may_read
    view = policy.view_of(caller, session_of(CONTENT, None, None), {**BALLOT, "user_id": user_id})
    assert view.is_manager == (may_write and is_maker)
    assert view.may_read == (may_read or view.is_manager)
    assert view.may_vote == (is_covered and VOTE in actions)
    assert view.sees_submissions == (READ in actions)


@pytest.mark.parametrize("covering", WORKSPACES)
def test_on_rest_only_admins_act_for_users_in_the_polls_of_users(covering: str) -> None:
    for user_id in (OWNER, 17):
        asking = acting(user_id, workspaces=WORKSPACES[covering], courses=["*"])
        for action in ACTIONS:
            assert not allows(policy.require_content, asking, action, OWN)


def test_an_own_vote_beyond_the_workspaces_of_the_token_is_not_shown() -> None:
    session = session_of(ContainerKey("OPS", "OPS-1", ""), None, None)
    session["rules"]["settings"]["saveParticipantNames"] = True
    own = {**BALLOT, "user_id": 17}
    for workspaces, is_seen in (["PLAT"], False), (["OPS"], True):
        caller = Caller(acting(17, workspaces=workspaces))
        assert (policy.view_of(caller, session, own).own is not None) == is_seen  # type: ignore[arg-type] # a ballot


# Courses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", RIGHTS)
@pytest.mark.parametrize("courses", [(COURSE, OTHER_COURSE), ("*",)], ids=str)
def test_within_the_courses_of_the_token_a_user_has_all_rights_of_their_own(
    role: str, courses: tuple[Any, ...]
) -> None:
    caller = caller_in(role, *courses)
    assert (
        policy.manages(caller, OWN, OWNER),
        reads(caller, WHOLE),
        reads(caller, OF_SECTION),
        policy.teaches(caller, COURSE),
        allows(policy.require_teacher, caller),
    ) == RIGHTS[role]
    for session in (WHOLE, OF_SECTION):
        assert view_of(caller, session).may_vote == view_of(caller, session).may_read


@pytest.mark.parametrize("role", RIGHTS)
def test_beyond_the_courses_of_the_token_a_user_has_no_rights(role: str) -> None:
    caller = caller_in(role, OTHER_COURSE)
    for session in (WHOLE, OF_SECTION):
        view = policy.view_of(caller, session, {**BALLOT, "user_id": caller.principal.user_id})
        assert (view.is_manager, view.may_read, view.may_vote) == (False, False, False)
        assert view.own is None
    assert not policy.teaches(caller, COURSE)
    assert not allows(policy.require_enrolled, caller, COURSE)
    assert COURSE not in policy.reach(caller)
    teaches_there = any(place[::2] == (OTHER_COURSE, TEACHER) for place in USERS_PLACES[role][1])
    assert allows(policy.require_teacher, caller) == teaches_there
    assert allows(policy.require_teaching, caller, OTHER_COURSE) == teaches_there


@pytest.mark.parametrize("role", RIGHTS)
def test_a_token_without_courses_reaches_nothing_of_the_polls_of_users(role: str) -> None:
    caller = caller_in(role)
    assert not policy.manages(caller, OWN, OWNER)
    assert not reads(caller, WHOLE)
    assert not allows(policy.require_own_polls, caller.principal)
    assert not policy.reach(caller)


def test_what_changes_all_sessions_of_a_poll_needs_all_their_courses() -> None:
    asking = acting(OWNER, courses=[COURSE])
    for courses, is_allowed in (
        ([], True),
        ([None], True),
        ([COURSE, None], True),
        ([OTHER_COURSE], False),
        ([COURSE, OTHER_COURSE], False),
    ):
        assert allows(policy.require_courses, asking, courses) == is_allowed
        check = policy.check_of(asking)
        assert check is not None
        assert allows(check, courses) == is_allowed
    for unlimited in (principal(OWNER), principal(0, is_admin=True).acting_for(OWNER)):
        assert policy.check_of(unlimited) is None


def test_a_user_who_may_vote_beyond_the_token_is_not_shown_the_answers() -> None:
    """Sessions that are open there count: the user may vote in them in another way."""
    caller = caller_in("student here, teacher there", COURSE)
    assert policy.voting_reach(caller, OWN).keys() == {COURSE, OTHER_COURSE, None}
    assert policy.reach(caller).keys() == {COURSE}


def test_the_own_user_of_a_token_that_may_act_is_not_limited_by_its_courses() -> None:
    service = principal(OWNER, actions=[ACT, *ACTIONS], courses=[OTHER_COURSE])
    caller = Caller(service, (enrolled(OWNER, (COURSE, None, TEACHER)),))
    assert policy.courses_of(service) is None
    assert view_of(caller, WHOLE).may_vote
    assert policy.teaches(caller, COURSE)
    assert policy.manages(caller, OWN, OWNER)


# Polls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["its own user", "a user it acts for"])
def test_a_token_that_is_bound_to_polls_reaches_these_alone(kind: str) -> None:
    limits = {"workspaces": ["*"], "courses": ["*"], "polls": [POLL]}
    own = principal(OWNER, actions=[ACT, *ACTIONS], **limits)
    asking = own if kind == "its own user" else own.acting_for(17)
    other = POLL.replace("0", "1")
    for action in ACTIONS:
        assert allows(policy.require_content, asking, action, CONTENT, POLL)
        assert not allows(policy.require_content, asking, action, CONTENT, other)
        assert not allows(policy.require_content, asking, action, CONTENT)
        assert not allows(policy.require_content, asking, action, OWN)
    assert not allows(policy.require_creation, asking, CONTENT)
    assert allows(policy.require_poll, asking, POLL)
    assert not allows(policy.require_poll, asking, other)
    assert not allows(policy.require_poll, asking, None)


def test_a_poll_that_a_token_is_bound_to_must_be_in_its_workspaces() -> None:
    asking = principal(OWNER, workspaces=["PLAT"], polls=[POLL])
    assert allows(policy.require_content, asking, READ, CONTENT, POLL)
    assert not allows(policy.require_content, asking, READ, ELSEWHERE, POLL)
    elsewhere = principal(OWNER, workspaces=[USERS], polls=[POLL])
    assert not allows(policy.require_content, elsewhere, READ, ELSEWHERE, POLL)
