"""What a link gives: what its maker may, as a reader, and nothing of a manager."""

from itertools import product

import pytest

from schemas.content import VISIBILITIES
from service.rules import policy
from service.rules.policy import Caller, view_of
from service.rules.principal import READ, VOTE, WRITE
from storage.documents import ContainerKey, SessionDocument, new_session
from tests.rules.test_policy import (
    ADMIN,
    BALLOT,
    CONTENT,
    NOW,
    OF_SECTION,
    OWN,
    USERS_PLACES,
    WHOLE,
    callers_of,
    located_poll,
    principal,
    session_of,
)

VIEWING, VOTING = (READ,), (READ, VOTE)
MANAGERS = {
    "admin": ADMIN,
    "owner of the poll": principal(1),
    "token with write": principal(5, workspaces=frozenset({"PLAT"})),
    "owner who is acted for": ADMIN.acting_for(1),
}


def holder(caller: Caller, actions: tuple[str, ...]) -> Caller:
    return Caller(caller.principal.holder(actions), caller.enrollments)


def standing(key: ContainerKey = CONTENT, **settings: object) -> SessionDocument:
    return new_session(1, located_poll(key, **settings), NOW, is_published=True)


@pytest.mark.parametrize("role", USERS_PLACES)
@pytest.mark.parametrize("session", [WHOLE, OF_SECTION], ids=["course", "section"])
def test_a_link_to_a_session_of_a_course_reads_as_long_as_its_maker_does(
    role: str, session: SessionDocument
) -> None:
    for caller in [*callers_of(role), Caller(ADMIN)]:
        may_read = view_of(caller, session).may_read
        for_viewing = view_of(holder(caller, VIEWING), session)
        for_voting = view_of(holder(caller, VOTING), session)
        assert (for_viewing.may_read, for_viewing.may_vote) == (may_read, False)
        assert (for_voting.may_read, for_voting.may_vote) == (may_read, may_read)
        assert not for_viewing.is_manager
        assert not for_voting.is_manager


def test_a_link_ends_with_the_enrollment_of_its_maker() -> None:
    [student, *_] = callers_of("student of the section")
    assert view_of(holder(student, VOTING), OF_SECTION).may_vote
    left = Caller(student.principal.holder(VOTING))
    assert not view_of(left, OF_SECTION).may_read
    assert not view_of(left, OF_SECTION).may_vote


@pytest.mark.parametrize("actions", [(READ,), (VOTE,), (READ, VOTE), (READ, WRITE), (WRITE,)])
@pytest.mark.parametrize("workspaces", [(), ("PLAT",), ("*",), ("OTHER",)])
def test_a_link_to_a_content_poll_gives_no_more_than_its_token(
    actions: tuple[str, ...], workspaces: tuple[str, ...]
) -> None:
    maker = Caller(principal(7, actions=actions, workspaces=workspaces))
    covers = workspaces in (("PLAT",), ("*",))
    reads = READ in actions and covers
    view = view_of(holder(maker, VOTING), standing())
    assert view.may_read == reads
    assert view.may_vote == (reads and VOTE in actions)


@pytest.mark.parametrize("maker", MANAGERS)
@pytest.mark.parametrize(("visibility", "is_published"), [*product(VISIBILITIES, (True, False))])
def test_a_link_shows_what_readers_see_whoever_made_it(
    maker: str, visibility: str, is_published: bool
) -> None:
    session = standing(resultsVisibility=visibility)
    session["is_published"] = is_published
    reader = Caller(principal(99, actions=(READ,), workspaces=("PLAT",)))
    for actions, own in product((VIEWING, VOTING), (None, BALLOT)):
        shown = view_of(holder(Caller(MANAGERS[maker]), actions), session, own)
        assert shown.sees_results == view_of(reader, session, own).sees_results
        assert not shown.sees_all_submissions


def test_a_link_of_a_manager_shows_no_hidden_numbers() -> None:
    session = standing(hideAbsoluteNumbers=True)
    assert not view_of(Caller(ADMIN), session).hides_counts
    assert view_of(holder(Caller(ADMIN), VOTING), session).hides_counts


def test_the_holder_of_a_link_writes_nothing_and_acts_for_nobody() -> None:
    for maker in MANAGERS.values():
        link = maker.holder(VOTING)
        assert not policy.grants(link, WRITE)
        assert not policy.manages(Caller(link), OWN, link.user_id)
        with pytest.raises(policy.Forbidden):
            policy.require_acting(link)
        with pytest.raises(policy.Forbidden):
            policy.require_admin(Caller(link))


def test_a_link_tells_of_a_vote_what_its_maker_may_know_and_without_vote_nothing() -> None:
    rules = session_of(CONTENT, None, None)["rules"]
    for maker in (principal(7), ADMIN.acting_for(7)):
        knows = policy.knows_own(maker, BALLOT, rules)
        assert policy.knows_own(maker.holder(VOTING), BALLOT, rules) == knows
        assert not policy.knows_own(maker.holder(VIEWING), BALLOT, rules)
    assert not policy.knows_own(ADMIN.acting_for(7).holder(VOTING), BALLOT, rules)
