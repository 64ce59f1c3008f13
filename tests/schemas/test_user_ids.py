"""Which texts are ids of users, and that no two ids are ever taken for one another."""

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas.fields import MAX_USER_ID, parse_user_id
from schemas.polling import NEW_ENROLLMENT
from schemas.tokens import NEW_TOKEN
from storage.documents import UserId
from storage.enrollments import id_of
from storage.voting import ballot_id
from tests.support.documented import validator_of

SECRET = b"a secret"
STRINGS = (
    *("u42", "042", "00", "-1", "+1", "1.0", "42x", "4 2", "4\N{FULLWIDTH DIGIT TWO}", "\u0661"),
    *(str(2**53), "9" * 17, "u" * MAX_USER_ID, "SELF", "null", "true", "a:b", "\N{PARTY POPPER}"),
    *('"42"', "'42'", "`", "\\", "../../tokens", "%2e%2e%2f", "'; DROP TABLE users; --", "$ne"),
    *('{"$gt": ""}', "<script>alert(1)</script>", "=1+1", "557058:f58131cb-b67d-43c7", "e\u0301"),
)
NONE = (
    *("", "0", "self", " ", " 42", "42 ", "u42 ", "\u00a042", "u" * (MAX_USER_ID + 1), "9" * 129),
    *("u\n42", "u\x00", "\x1b[2J", "u\x7f", "u\x85", "\u202e42", "\u200b42", "a\u2028b", "\ud800"),
)


@pytest.mark.parametrize("number", [1, 42, 2**53 - 1])
def test_the_text_of_a_whole_id_is_the_number(number: int) -> None:
    parsed = parse_user_id(str(number))
    assert (parsed, type(parsed)) == (number, int)
    assert NEW_ENROLLMENT.load({"user_id": str(number)})["user_id"] == number
    for written in (number, float(number)):
        for loaded in (NEW_ENROLLMENT.load({"user_id": written}), new_token(written)):
            assert (loaded["user_id"], type(loaded["user_id"])) == (number, int)
    with pytest.raises(ValidationError, match="must be sent as a number, without quotes"):
        new_token(str(number))


@pytest.mark.parametrize("text", STRINGS)
def test_any_other_printable_text_is_a_string_id_as_it_was_sent(text: str) -> None:
    assert parse_user_id(text) == text
    assert NEW_ENROLLMENT.load({"user_id": text})["user_id"] == text
    assert new_token(text)["user_id"] == text
    assert USER_ID.is_valid(text)


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_id_is_refused(text: str) -> None:
    assert parse_user_id(text) is None
    with pytest.raises(ValidationError):
        NEW_ENROLLMENT.load({"user_id": text})
    with pytest.raises(ValidationError):
        new_token(text)


@pytest.mark.parametrize("value", [0, -1, 2**53, 1.5, -0.0, float(2**53), True, [], {}, ["u42"]])
def test_a_number_that_is_no_id_is_not_taken_for_a_string(value: Any) -> None:
    with pytest.raises(ValidationError):
        NEW_ENROLLMENT.load({"user_id": value})
    with pytest.raises(ValidationError):
        new_token(value)


def new_token(user_id: Any) -> Any:
    return NEW_TOKEN.load({"name": "bot", "userId": user_id})


# No two are the same ---------------------------------------------------------------------------

# Digits and separators, since what is made of ids has these, too.
TEXTS = st.text("0123456789:", min_size=1, max_size=20) | st.text(min_size=1, max_size=12)
USERS = st.integers(1, 2**53 - 1) | TEXTS.map(parse_user_id).filter(lambda one: one is not None)
SECTIONS = st.none() | st.integers(1, 99)
TYPES = st.sampled_from(["StudentEnrollment", "TaEnrollment"])
USER_ID = validator_of({"$ref": "#/components/schemas/UserId"})


@given(USERS, USERS)
def test_two_ids_are_the_same_text_only_where_they_are_one_id(one: UserId, other: UserId) -> None:
    assert (str(one) == str(other)) == (one == other)


PLACES = st.tuples(st.integers(1, 99), USERS, SECTIONS, TYPES)


def enrollment_id(course_id: int, user_id: UserId, section: int | None, kind: str) -> str:
    return id_of(course_id, {"user_id": user_id, "course_section_id": section, "type": kind})


@given(PLACES, PLACES)
def test_no_user_has_the_enrollment_of_another(one: Any, other: Any) -> None:
    assert (enrollment_id(*one) == enrollment_id(*other)) == (one == other)


@pytest.mark.parametrize("forged", ["7:5", "7::StudentEnrollment", "7:5:StudentEnrollment", "5:7"])
def test_no_user_is_named_like_an_enrollment_of_another(forged: str) -> None:
    mine = {
        enrollment_id(course, forged, section, "StudentEnrollment")
        for course in (5, 7)
        for section in (None, 5, 7)
    }
    others = {
        enrollment_id(course, user, section, kind)
        for course in (5, 7)
        for user in (5, 7, "7:5", "5:7", "7:")
        for section in (None, 5, 7)
        for kind in ("StudentEnrollment", "TaEnrollment")
        if user != forged
    }
    assert len(mine) == 6
    assert not mine & others


@given(st.integers(1, 2**53 - 1), USERS, st.integers(1, 2**53 - 1), USERS)
def test_no_user_has_the_ballot_of_another(
    session: int, one: UserId, other_session: int, other: UserId
) -> None:
    mine, theirs = (session, one), (other_session, other)
    assert (ballot_id(SECRET, *mine) == ballot_id(SECRET, *theirs)) == (mine == theirs)


@given(st.integers(1, 2**53 - 1), st.integers(1, 2**53 - 1))
def test_the_hash_of_a_number_is_that_of_earlier_versions_and_of_no_string(
    session: int, user: int
) -> None:
    voter = hmac.new(SECRET, f"voter:{session}:{user}".encode(), hashlib.sha256).hexdigest()
    assert ballot_id(SECRET, session, user) == f"{session}:{voter}"
    # Such a string is no id: even past every check it would not reach the vote of the number.
    assert ballot_id(SECRET, session, str(user)) != f"{session}:{voter}"


# The document ----------------------------------------------------------------------------------


@given(USERS)
def test_every_id_is_one_by_the_document(user_id: UserId) -> None:
    assert USER_ID.is_valid(user_id)


@pytest.mark.parametrize(
    "value", ["", "0", "42", "9" * 15, " u", "u ", "u\n", "u" * 129, 2**53, -1, 1.5, True, None]
)
def test_what_is_no_id_is_none_by_the_document(value: Any) -> None:
    assert not USER_ID.is_valid(value)
