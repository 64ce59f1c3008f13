"""The rules of casting: a table, and a state machine that tries to break them."""

import copy
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, cast

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from storage import voting
from storage.documents import BallotDocument, BallotRequest, SessionDocument, Settings
from storage.errors import KeyOutdated, LimitReached, StorageError
from storage.voting import (
    MAX_KEYS,
    MAX_REQUESTS,
    AlreadyVoted,
    Cast,
    Decision,
    InvalidVote,
    NoVote,
    SessionClosed,
    UnknownOption,
    Vote,
    VoteKey,
    ballot_id,
    vote_key,
)
from tests.support.seeds import DEFAULT_SETTINGS

NOON = datetime(2126, 1, 31, 12, 0, tzinfo=UTC)
DAY = datetime(2126, 1, 31, tzinfo=UTC)
SECRET = b"secret"
SESSION = 9


def decide(
    session: SessionDocument,
    ballot: BallotDocument | None,
    vote: Vote,
    withdrawn: Sequence[BallotRequest] = (),
) -> Decision:
    return voting.decide(session, ballot, vote, withdrawn, secret=SECRET)


def a_session(
    *, is_published: bool = True, has_ended: bool = False, **settings: Any
) -> SessionDocument:
    return {
        "_id": SESSION,
        "poll_id": "p",
        "poll_number": 1,
        "container": "W\x1fC\x1f",
        "owner_id": 1,
        "course_id": None,
        "course_section_id": None,
        "is_published": is_published,
        "has_public_results": False,
        "results": {"a": 0, "b": 0, "c": 0},
        "participants": 0,
        "casts": 0,
        "rules": {
            "settings": cast(Settings, {**DEFAULT_SETTINGS, **settings}),
            "options": ["a", "b", "c"],
            "closes_at": NOON if has_ended else None,
            "has_ended": has_ended,
        },
        "created_at": NOON,
    }


def a_vote(*options: str, user: int = 7, at: datetime = NOON, **members: Any) -> Vote:
    return Vote(
        session_id=SESSION,
        ballot_id=ballot_id(SECRET, SESSION, user),
        user_id=user,
        options=options,
        comment=members.get("comment"),
        number=members.get("number", user * 1000),
        cast_at=at,
        request=members.get("request"),
    )


def a_withdrawal(user: int = 7, at: datetime = NOON) -> Vote:
    return Vote(SESSION, ballot_id(SECRET, SESSION, user), user, None, None, 1, at)


def key(name: str, body: str = "body", user: int = 7) -> VoteKey:
    return vote_key(SECRET, ballot_id(SECRET, SESSION, user), name, body)


def voted(
    session: SessionDocument, *options: str, **members: Any
) -> tuple[SessionDocument, BallotDocument]:
    """The session and the ballot after a first vote."""
    decision = decide(session, None, a_vote(*options, **members))
    assert decision.stored is not None
    return decision.session, decision.stored


def test_a_first_vote_makes_a_ballot_and_counts_it() -> None:
    decision = decide(a_session(), None, a_vote("b"))
    assert decision.is_change
    assert decision.session == {
        **a_session(),
        "results": {"a": 0, "b": 1, "c": 0},
        "participants": 1,
    }
    assert decision.stored == decision.cast.ballot
    assert decision.stored == {
        "_id": ballot_id(SECRET, SESSION, 7),
        "session_id": SESSION,
        "number": 7000,
        "choices": ["b"],
        "comment": None,
        "user_id": None,
        "requests": [],
        "created_at": DAY,
        "updated_at": DAY,
    }


def test_a_revote_moves_the_count_and_keeps_number_and_date_of_birth() -> None:
    session, ballot = voted(a_session(allowRevote=True, saveParticipantNames=True), "a")
    later = NOON + timedelta(hours=1)
    decision = decide(session, ballot, a_vote("c", at=later))
    assert decision.session["results"] == {"a": 0, "b": 0, "c": 1}
    assert decision.session["participants"] == 1
    assert decision.stored == {**ballot, "choices": ["c"], "updated_at": later}


def test_a_withdrawal_takes_ballot_and_count_along_and_answers_with_what_was_there() -> None:
    session, ballot = voted(a_session(allowRevote=True), "a")
    decision = decide(session, ballot, a_withdrawal())
    assert decision.stored is None
    assert decision.cast.ballot == ballot
    assert decision.session == a_session(allowRevote=True)


@pytest.mark.parametrize("saves", [False, True])
@pytest.mark.parametrize("saved", [False, True])
def test_the_setting_at_the_time_of_the_cast_decides_about_the_name(
    saves: bool, saved: bool
) -> None:
    first = a_session(allowRevote=True, saveParticipantNames=saved)
    session, ballot = voted(first, "a")
    assert ballot["user_id"] == (7 if saved else None)
    session["rules"] = a_session(allowRevote=True, saveParticipantNames=saves)["rules"]
    revote = decide(session, ballot, a_vote("a"))
    assert revote.stored is not None
    assert revote.stored["user_id"] == (7 if saves else None)


@pytest.mark.parametrize("saved", [False, True], ids=["gets a name", "loses its name"])
def test_a_ballot_that_gets_or_loses_its_name_has_a_new_number_and_a_new_date(saved: bool) -> None:
    """Else a manager that notes the numbers would join the two votes."""
    session, ballot = voted(a_session(allowRevote=True, saveParticipantNames=saved), "a")
    session["rules"] = a_session(allowRevote=True, saveParticipantNames=not saved)["rules"]
    later = NOON + timedelta(days=1)
    changed = decide(session, ballot, a_vote("b", at=later, number=1)).stored
    assert changed is not None
    cast_at = DAY + timedelta(days=1) if saved else later
    assert (changed["number"], changed["created_at"]) == (1, cast_at)
    again = decide(session, changed, a_vote("c", at=later + timedelta(days=1), number=2)).stored
    assert again is not None
    assert (again["number"], again["created_at"]) == (1, cast_at)


SECOND = timedelta(seconds=1)
END_OF_KEY = timedelta(days=1) - SECOND
MULTIPLE: dict[str, Any] = {"allowSelectionOfMultipleOptions": True}
REFUSALS: dict[str, tuple[SessionDocument, Vote, type[StorageError]]] = {
    "a session that is not open": (a_session(is_published=False), a_vote("a"), SessionClosed),
    "past the end date": (a_session(has_ended=True), a_vote("a"), SessionClosed),
    "withdrawn from a closed session": (
        a_session(is_published=False),
        a_withdrawal(),
        SessionClosed,
    ),
    "closed, whatever else is wrong": (a_session(is_published=False), a_vote("x"), SessionClosed),
    "an unknown option": (a_session(), a_vote("x"), UnknownOption),
    "one known, one unknown": (a_session(**MULTIPLE), a_vote("a", "x"), UnknownOption),
    "no option": (a_session(), a_vote(), InvalidVote),
    "no option, where several may be": (a_session(**MULTIPLE), a_vote(), InvalidVote),
    "two options, where one may be": (a_session(), a_vote("a", "b"), InvalidVote),
    "one option twice": (a_session(**MULTIPLE), a_vote("a", "b", "a"), InvalidVote),
    "a comment where none may be": (a_session(), a_vote("a", comment=""), InvalidVote),
    "nothing to withdraw": (a_session(allowRevote=True), a_withdrawal(), NoVote),
}


@pytest.mark.parametrize(("session", "vote", "error"), REFUSALS.values(), ids=list(REFUSALS))
def test_every_refusal_has_its_kind(
    session: SessionDocument, vote: Vote, error: type[StorageError]
) -> None:
    with pytest.raises(error) as refusal:
        decide(session, None, vote)
    assert type(refusal.value) is error


@pytest.mark.parametrize("vote", [a_vote("a"), a_vote("b"), a_withdrawal()])
def test_without_allow_revote_a_vote_stays_as_it_is(vote: Vote) -> None:
    session, ballot = voted(a_session(), "a")
    with pytest.raises(AlreadyVoted):
        decide(session, ballot, vote)


def test_only_a_refused_comment_is_blamed_on_the_comment() -> None:
    with pytest.raises(InvalidVote) as of_comment:
        decide(a_session(), None, a_vote("a", comment="!"))
    with pytest.raises(InvalidVote) as of_options:
        decide(a_session(), None, a_vote("a", "b"))
    assert (of_comment.value.is_comment, of_options.value.is_comment) == (True, False)


@pytest.mark.parametrize("step", [timedelta(0), SECOND, timedelta(days=1) - SECOND])
@pytest.mark.parametrize("is_open", [True, False])
def test_a_key_that_comes_again_gets_the_first_answer_whatever_came_between(
    step: timedelta, is_open: bool
) -> None:
    session = a_session(allowRevote=True, allowComment=True)
    first = decide(session, None, a_vote("a", comment="first", request=key("k")))
    revote = decide(first.session, first.stored, a_vote("b", comment="second", request=key("l")))
    now: SessionDocument = {**revote.session, "is_published": is_open}
    again = decide(
        now, revote.stored, a_vote("a", comment="first", request=key("k"), at=NOON + step)
    )
    assert not again.is_change
    assert (again.session, again.stored) == (now, revote.stored)
    shown = {name: value for name, value in again.cast.ballot.items() if name != "requests"}
    assert shown == {name: value for name, value in first.cast.ballot.items() if name != "requests"}


def test_after_24_hours_a_key_is_a_new_one() -> None:
    session, ballot = voted(a_session(allowRevote=True), "a", request=key("k"))
    later = NOON + timedelta(days=1)
    decision = decide(session, ballot, a_vote("b", request=key("k", "other"), at=later))
    assert decision.is_change
    assert decision.session["results"] == {"a": 0, "b": 1, "c": 0}
    again = decide(
        decision.session, decision.stored, a_vote("b", request=key("k", "other"), at=later)
    )
    assert not again.is_change


@pytest.mark.parametrize("is_open", [True, False])
def test_a_key_with_another_request_casts_nothing_and_is_told_apart(is_open: bool) -> None:
    session, ballot = voted(a_session(allowRevote=True), "a", request=key("k"))
    session["is_published"] = is_open
    decision = decide(session, ballot, a_vote("b", request=key("k", "other")))
    assert (decision.is_change, decision.cast.is_replay, decision.cast.is_same) == (
        False,
        True,
        False,
    )


def test_the_last_twenty_keys_of_a_voter_get_their_answer_again_and_earlier_ones_a_conflict() -> (
    None
):
    session, ballot = voted(a_session(allowRevote=True), "a", request=key("0"))
    for number in range(1, MAX_REQUESTS + 1):
        decision = decide(session, ballot, a_vote("abc"[number % 3], request=key(str(number))))
        assert decision.stored is not None
        session, ballot = decision.session, decision.stored
    assert [one["key"] for one in ballot["requests"] if one["fingerprint"] is not None] == [
        key(str(number)).key for number in range(1, MAX_REQUESTS + 1)
    ]
    for number in range(1, MAX_REQUESTS + 1):
        again = decide(session, ballot, a_vote("abc"[number % 3], request=key(str(number))))
        assert not again.is_change
        assert again.cast.ballot["choices"] == ["abc"[number % 3]]
    for body in ("body", "other"):
        with pytest.raises(KeyOutdated):
            decide(session, ballot, a_vote("a", request=key("0", body)))


def test_more_keys_than_can_be_remembered_are_refused_until_a_day_is_over() -> None:
    """A key that was forgotten could not be told from a new one, and would move a newer vote."""
    session, ballot = voted(a_session(allowRevote=True), "a", request=key("0"))
    for number in range(1, MAX_KEYS):
        decision = decide(session, ballot, a_vote("b", request=key(str(number))))
        assert decision.stored is not None
        session, ballot = decision.session, decision.stored
    with pytest.raises(LimitReached):
        decide(session, ballot, a_vote("c", request=key("new")))
    with pytest.raises(KeyOutdated):
        decide(session, ballot, a_vote("a", request=key("0")))
    assert decide(session, ballot, a_vote("c")).is_change
    later = decide(session, ballot, a_vote("c", request=key("new"), at=DAY + timedelta(days=2)))
    assert later.stored is not None
    assert len(later.stored["requests"]) == 1


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("between", [None, "l"], ids=["cast without a key", "cast with a key"])
def test_the_key_of_a_withdrawn_vote_casts_it_no_more(named: bool, between: str | None) -> None:
    session = a_session(allowRevote=True, saveParticipantNames=named)
    session, ballot = voted(session, "a", request=key("k"))
    gone = decide(session, ballot, a_withdrawal())
    late = a_vote("a", request=key("k"), at=NOON + timedelta(days=1) - SECOND)
    with pytest.raises(KeyOutdated):
        decide(gone.session, None, late, gone.withdrawn)
    request = None if between is None else key(between)
    again = decide(gone.session, None, a_vote("b", request=request), gone.withdrawn)
    assert again.stored is not None
    with pytest.raises(KeyOutdated):
        decide(again.session, again.stored, late)


@pytest.mark.parametrize("before", [False, True])
def test_keys_from_before_names_were_saved_or_no_longer_saved_say_nothing_of_their_request(
    before: bool,
) -> None:
    """Else a caller that acts for the voter could guess what the vote without a name was."""
    session = a_session(allowRevote=True, saveParticipantNames=before)
    session, ballot = voted(session, "a", request=key("k"))
    session["rules"] = a_session(allowRevote=True, saveParticipantNames=not before)["rules"]
    revote = decide(session, ballot, a_vote("b", request=key("l")))
    for step in (timedelta(0), timedelta(days=1) - SECOND):
        for body in ("body", "other"):
            with pytest.raises(KeyOutdated):
                decide(
                    revote.session,
                    revote.stored,
                    a_vote("a", request=key("k", body), at=NOON + step),
                )


def moments_in(value: Any) -> list[datetime]:
    if isinstance(value, datetime):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [moment for part in parts for moment in moments_in(part)]


@pytest.mark.parametrize("before", [False, True], ids=["unnamed before", "named before"])
def test_of_a_vote_without_a_name_no_time_but_the_day_and_no_earlier_vote_is_kept(
    before: bool,
) -> None:
    changing: dict[str, Any] = {"allowRevote": True, "allowComment": True}
    session = a_session(saveParticipantNames=before, **changing)
    session, ballot = voted(session, "a", comment="the first", request=key("k"))
    # As version 0.1 stored it.
    old = {"choices": ["a"], "comment": "the first", "at": NOON}
    ballot["requests"] = [cast(Any, {**ballot["requests"][0], **old})]
    ballot["requests"][0].pop("second", None)
    session["rules"] = a_session(**changing)["rules"]
    revote = decide(session, ballot, a_vote("b", comment="the second", request=key("l")))
    withdrawn = decide(revote.session, revote.stored, a_withdrawal()).withdrawn
    for kept in (revote.stored, list(withdrawn)):
        assert moments_in(kept)
        assert {moment.time() for moment in moments_in(kept)} == {time()}
        assert "the first" not in str(kept)
        assert "'a'" not in str(kept)


def test_the_second_of_a_cast_without_a_name_is_told_by_the_secret_alone() -> None:
    seconds = set()
    for number in range(50):
        _, ballot = voted(a_session(), "a", request=key(str(number)))
        seconds.add(ballot["requests"][0].get("second"))
    assert len(seconds) > 40


def test_a_ballot_of_version_0_1_answers_its_keys_and_is_changed() -> None:
    old = {"choices": ["a"], "comment": None, "at": NOON}
    for named in (False, True):
        session = a_session(allowRevote=True, saveParticipantNames=named)
        session, ballot = voted(session, "a", request=key("k"))
        hashes = {"key": key("k").old_key, "fingerprint": key("k").old_fingerprint}
        entry = {**ballot["requests"][0], **old, **hashes}
        entry.pop("second", None)
        ballot["requests"] = [cast(Any, entry)]
        again = decide(session, ballot, a_vote("a", request=key("k"), at=NOON + END_OF_KEY))
        assert (again.is_change, again.cast.is_same) == (False, True)
        assert again.cast.ballot["choices"] == ["a"]
        assert not decide(session, ballot, a_vote("b", request=key("k", "other"))).cast.is_same
        revote = decide(session, ballot, a_vote("b", at=NOON + END_OF_KEY))
        late = decide(
            revote.session, revote.stored, a_vote("a", request=key("k"), at=NOON + END_OF_KEY)
        )
        assert not late.is_change


def test_a_ballot_id_tells_nothing_without_the_secret_and_differs_by_session_and_user() -> None:
    ids = {ballot_id(SECRET, session, user) for session in (1, 2, 12) for user in (1, 2, 12)}
    assert len(ids) == 9
    assert ballot_id(b"other", 1, 1) not in ids
    assert all(one.partition(":")[0] in ("1", "2", "12") for one in ids)
    assert key("k") == key("k")
    assert "k" not in key("k").key  # hexadecimal digits only
    other = vote_key(b"other", ballot_id(SECRET, SESSION, 7), "k", "body")
    assert len({key("k").key, key("k").fingerprint, other.key}) == 3


@pytest.mark.parametrize("named", [False, True])
def test_a_key_is_kept_for_24_hours_to_the_second_and_no_longer(named: bool) -> None:
    session = a_session(allowRevote=True, saveParticipantNames=named)
    for at in (NOON, DAY, DAY + timedelta(days=1) - SECOND):
        session, ballot = voted(session, "a", request=key("k"), at=at)
        for later, kept in ((END_OF_KEY, 1), (timedelta(days=1), 0)):
            revote = decide(session, ballot, a_vote("b", at=at + later))
            gone = decide(session, ballot, a_withdrawal(at=at + later))
            assert revote.stored is not None
            assert len(revote.stored["requests"]) == len(gone.withdrawn) == kept


def test_one_key_and_request_leave_nothing_equal_on_two_ballots() -> None:
    """Else whoever reads the store would find the voter of a vote without a name by a named one."""
    kept = []
    for number in (SESSION, SESSION + 1):
        for user in (7, 8):
            place = ballot_id(SECRET, number, user)
            hashes = vote_key(SECRET, place, "k", "body")
            vote = a_vote("a", user=user, request=hashes)._replace(ballot_id=place)
            stored = decide(a_session(), None, vote).stored
            assert stored is not None
            [request] = stored["requests"]
            kept.append((request["key"], request["fingerprint"], request["second"]))
    assert [len(set(values)) for values in zip(*kept, strict=True)] == [4] * 3


USERS = st.sampled_from([1, 2, 3, 4])
KEYS = st.sampled_from([None, None, "k", "l"])


class Voting(RuleBasedStateMachine):
    """Several users, every kind of vote, settings that change under them."""

    def __init__(self) -> None:
        super().__init__()
        self.session = a_session()
        self.ballots: dict[int, BallotDocument] = {}
        self.withdrawn: dict[int, Sequence[BallotRequest]] = {}
        self.answers: dict[tuple[int, str], Cast] = {}
        self.used: set[tuple[int, str]] = set()
        self.now = NOON

    def try_vote(self, user: int, vote: Vote) -> None:
        ballot = self.ballots.get(user)
        before = copy.deepcopy((self.session, ballot))
        try:
            decision = decide(self.session, ballot, vote, self.withdrawn.get(user, ()))
        except StorageError:
            assert (self.session, ballot) == before
            return
        assert (self.session, ballot) == before
        if vote.request is not None:
            # No key moves a vote twice, whatever came between.
            place = (user, vote.request.key)
            assert decision.is_change != (place in self.used)
            self.used.add(place)
        self.session = decision.session
        if decision.stored is None:
            del self.ballots[user]
            self.withdrawn[user] = decision.withdrawn
            self.answers = {place: cast for place, cast in self.answers.items() if place[0] != user}
        else:
            self.ballots[user] = decision.stored
        if vote.request is not None and decision.cast.is_same:
            first = self.answers.setdefault((user, vote.request.key), decision.cast)
            for member in ("choices", "comment", "number", "created_at", "updated_at"):
                assert decision.cast.ballot[member] == first.ballot[member]

    @rule(
        user=USERS,
        options=st.lists(st.sampled_from("abcx"), max_size=4),
        comment=st.sampled_from([None, None, "so"]),
        name=KEYS,
    )
    def cast(self, user: int, options: list[str], comment: str | None, name: str | None) -> None:
        request = key(name, f"{options}{comment}", user) if name is not None else None
        vote = a_vote(*options, user=user, at=self.now, comment=comment, request=request)
        self.try_vote(user, vote)

    @rule(user=USERS, option=st.sampled_from("abc"))
    def cast_one(self, user: int, option: str) -> None:
        self.try_vote(user, a_vote(option, user=user, at=self.now))

    @rule(user=USERS)
    def withdraw(self, user: int) -> None:
        self.try_vote(user, a_withdrawal(user, self.now))

    @rule(
        settings=st.fixed_dictionaries(
            {
                name: st.booleans()
                for name in (
                    "allowRevote",
                    "allowSelectionOfMultipleOptions",
                    "allowComment",
                    "saveParticipantNames",
                )
            }
        )
    )
    def set_rules(self, settings: dict[str, Any]) -> None:
        self.session = {**self.session, "rules": a_session(**settings)["rules"]}

    @rule(is_published=st.booleans())
    def publish(self, is_published: bool) -> None:
        self.session = {**self.session, "is_published": is_published}

    @precondition(lambda self: self.now < NOON + timedelta(hours=20))
    @rule()
    def wait(self) -> None:
        self.now += timedelta(hours=1)

    @invariant()
    def results_are_those_of_the_ballots(self) -> None:
        counted = Counter(choice for one in self.ballots.values() for choice in one["choices"])
        assert self.session["results"] == {"a": 0, "b": 0, "c": 0, **counted}
        assert self.session["participants"] == len(self.ballots)
        assert min(self.session["results"].values()) >= 0


TestVoting = Voting.TestCase
TestVoting.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
