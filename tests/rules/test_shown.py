"""The output of the views is valid by ``schemas.responses``, whatever is stored.

Loading refuses members that are missing, unknown, null or of another type.
"""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas import responses
from schemas.polling import ENROLLMENT_TYPES
from service.rules import views
from service.rules.policy import View
from storage.documents import (
    BallotDocument,
    EnrollmentDocument,
    PollDocument,
    SessionDocument,
    SessionRules,
    UserId,
)
from tests.rules.test_views import OPTION_IDS, TEXT, polls, settings

IDS = st.integers(1, 2**53 - 1)
USERS: st.SearchStrategy[UserId] = st.integers(0, 2**53 - 1) | st.sampled_from(["u42", "042"])
MOMENTS = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - hypothesis wants it without
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - hypothesis wants it without
    timezones=st.just(UTC),
)
NOW = datetime(2126, 1, 31, 12, 0, tzinfo=UTC)


@st.composite
def rules(draw: st.DrawFn) -> SessionRules:
    return cast(
        SessionRules,
        {"settings": draw(settings()), "options": [], "closes_at": draw(st.none() | MOMENTS)},
    )


@st.composite
def sessions(draw: st.DrawFn) -> SessionDocument:
    counts = st.integers(0, 10**6)
    session = {
        "_id": draw(IDS),
        "poll_id": str(draw(st.uuids())),
        "poll_number": draw(IDS),
        "container": "a\x1fb\x1f",
        "owner_id": draw(USERS),
        "course_id": draw(st.none() | IDS),
        "course_section_id": draw(st.none() | IDS),
        "is_published": draw(st.booleans()),
        "has_public_results": draw(st.booleans()),
        "results": draw(st.dictionaries(OPTION_IDS, counts, max_size=8)),
        "participants": draw(counts),
        "casts": 1,
        "rules": draw(rules()),
        "created_at": draw(MOMENTS),
    }
    return cast(SessionDocument, session)


@st.composite
def ballots(draw: st.DrawFn) -> BallotDocument:
    ballot = {
        "_id": "1:x",
        "session_id": draw(IDS),
        "number": draw(IDS),
        "choices": draw(st.lists(OPTION_IDS, min_size=1, max_size=5)),
        "comment": draw(st.none() | TEXT),
        "user_id": draw(st.none() | USERS),
        "requests": [],
        "created_at": draw(MOMENTS),
        "updated_at": draw(MOMENTS),
    }
    return cast(BallotDocument, ballot)


def seen_by(*, sees_results: bool = True, hides_counts: bool = False) -> View:
    return View(
        user_id=7,
        is_manager=False,
        may_read=True,
        may_vote=False,
        is_open=True,
        has_voted=False,
        sees_results=sees_results,
        hides_counts=hides_counts,
        sees_submissions=True,
        sees_all_submissions=False,
        own=None,
        can_vote=False,
        can_change=False,
        can_write=False,
    )


@given(polls(), st.none() | st.dictionaries(OPTION_IDS, st.integers(0)))
def test_a_poll_and_its_choices(poll: PollDocument, totals: dict[str, int] | None) -> None:
    seen = views.poll(poll, totals)
    assert responses.SHOWN_POLL.load(seen) == seen
    for option in poll["options"]:
        for shows_answer in (True, False):
            choice = views.choice(option, poll, shows_answer=shows_answer)
            assert responses.SHOWN_CHOICE.load(choice) == choice


@given(polls(), sessions(), st.booleans())
def test_a_content_poll_with_its_results(
    poll: PollDocument, session: SessionDocument, hidden: bool
) -> None:
    seen = {
        **views.content_poll(poll),
        "results": views.content_results(session, seen_by(hides_counts=hidden)),
    }
    assert responses.EXPANDED_POLL.load(seen) == seen
    view = seen_by(hides_counts=hidden)
    resource = {**views.results_of({**session, "poll_id": poll["id"]}, view), "revision": "1"}
    assert responses.RESULTS_OF_POLL.load(resource) == resource
    resource = {**views.session_results(session, view), "revision": "1"}
    assert responses.RESULTS_OF_SESSION.load(resource) == resource
    del seen["results"]
    assert responses.EXPANDED_POLL.load(seen) == responses.POLL.load(seen) == seen


@given(ballots(), rules(), st.none() | USERS)
def test_votes(ballot: BallotDocument, rules: SessionRules, author: UserId | None) -> None:
    poll_id = "0" * 8 + "-0000" * 3 + "-" + "0" * 12
    for is_known in (True, False):
        vote = views.content_vote(ballot, rules, poll_id, author_id=author, is_known=is_known)
        assert responses.VOTE.load(vote) == vote
        assert is_known or (vote["optionIds"], vote["comment"]) == (None, None)
    submission = views.submission(ballot, rules, author_id=author)
    assert responses.SHOWN_SUBMISSION.load(submission) == submission
    unnumbered = {**submission, "id": None}
    assert responses.SHOWN_SUBMISSION.load(unnumbered) == unnumbered


@given(sessions(), st.none() | st.lists(ballots(), max_size=2), st.booleans(), st.booleans())
def test_a_session(
    session: SessionDocument,
    cast_ballots: list[BallotDocument] | None,
    sees_results: bool,
    hides_counts: bool,
) -> None:
    submissions = None
    if cast_ballots is not None:
        submissions = [
            views.submission(ballot, session["rules"], author_id=None) for ballot in cast_ballots
        ]
    view = seen_by(sees_results=sees_results, hides_counts=hides_counts)
    seen = views.session(session, view, submissions)
    assert responses.SHOWN_SESSION.load(seen) == seen


@given(IDS, USERS, st.none() | IDS, st.sampled_from(ENROLLMENT_TYPES))
def test_an_enrollment(number: int, user_id: UserId, section: int | None, kind: str) -> None:
    document = {
        "_id": "x",
        "number": number,
        "user_id": user_id,
        "course_id": number,
        "course_section_id": section,
        "type": kind,
        "created_at": NOW,
    }
    for state in ("active", "deleted"):
        seen = views.enrollment(cast(EnrollmentDocument, document), state=state)
        assert responses.ENROLLMENT.load(seen) == seen


SEEN: dict[str, Any] = {"id": 1, "name": "Course 1"}


@pytest.mark.parametrize(
    "other",
    [{"id": 1}, {**SEEN, "more": 1}, {**SEEN, "name": None}, {**SEEN, "id": "1"}],
)
def test_another_output_would_be_noticed(other: dict[str, Any]) -> None:
    assert responses.COURSE.load(SEEN) == SEEN
    with pytest.raises(ValidationError):
        responses.COURSE.load(other)
