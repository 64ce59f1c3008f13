"""The parser of form fields: every valid notation, and invalid ones."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas.polling import Resource
from service.polling.forms import read_fields, read_json
from service.web.problems import MAX_PATH, field_faults

SESSIONS = Resource("poll_sessions", "poll_session")
NAMES = pytest.mark.parametrize("name", SESSIONS)

Fields = list[tuple[str, str]]


def faults(fields: Fields) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as refused:
        read_fields(fields, SESSIONS)
    messages = refused.value.normalized_messages()  # type: ignore[no-untyped-call] # marshmallow's
    assert isinstance(messages, dict)
    return messages


@NAMES
@pytest.mark.parametrize("form", ["{}[][{}]", "{}[0][{}]", "{}[7][{}]", "{}[{}][]", "{}[{}]"])
def test_one_object_is_read_in_every_form_under_both_names(name: str, form: str) -> None:
    fields = [(form.format(name, "course_id"), "5"), (form.format(name, "has_public_results"), "1")]
    assert read_fields(fields, SESSIONS) == [{"course_id": "5", "has_public_results": "1"}]


@NAMES
def test_consecutive_pairs_are_one_object_until_a_member_comes_again(name: str) -> None:
    members = ["a", "b", "a", "a", "b", "c"]
    fields = [(f"{name}[][{member}]", str(place)) for place, member in enumerate(members)]
    assert read_fields(fields, SESSIONS) == [
        {"a": "0", "b": "1"},
        {"a": "2"},
        {"a": "3", "b": "4", "c": "5"},
    ]


def test_the_members_of_one_object_may_come_as_items_of_their_own() -> None:
    """``create_session([{"course_id": 1}, {"has_public_results": True}])`` of canvasapi."""
    fields = [("poll_session[][course_id]", "1"), ("poll_session[][has_public_results]", "true")]
    assert read_fields(fields, SESSIONS) == [{"course_id": "1", "has_public_results": "true"}]


def test_other_fields_between_the_pairs_of_an_object_do_not_split_it() -> None:
    fields = [("poll_sessions[][a]", "1"), ("utf8", "✓"), ("poll_sessions[][b]", "2")]
    assert read_fields(fields, SESSIONS) == [{"a": "1", "b": "2"}]


@NAMES
def test_indexed_objects_stand_by_their_index_and_not_by_their_arrival(name: str) -> None:
    fields = [(f"{name}[10][a]", "last"), (f"{name}[2][a]", "first"), (f"{name}[10][b]", "too")]
    assert read_fields(fields, SESSIONS) == [{"a": "first"}, {"a": "last", "b": "too"}]


@NAMES
def test_the_nth_value_of_a_column_belongs_to_the_nth_object(name: str) -> None:
    fields = [(f"{name}[a][]", "0"), (f"{name}[a][]", "1"), (f"{name}[b][]", "2")]
    assert read_fields(fields, SESSIONS) == [{"a": "0", "b": "2"}, {"a": "1"}]


@pytest.mark.parametrize("form", ["poll_sessions[a]", "poll_sessions[0][a]"])
def test_of_a_member_that_is_named_twice_the_last_value_counts(form: str) -> None:
    assert read_fields([(form, "1"), (form, "2")], SESSIONS) == [{"a": "2"}]


LISTS = ["{}[][a_ids][]", "{}[0][a_ids][]", "{}[a_ids][]"]


@NAMES
@pytest.mark.parametrize("form", LISTS)
def test_a_member_of_several_ids_is_a_list(name: str, form: str) -> None:
    fields = [(form.format(name), "1"), (form.format(name), "2")]
    assert read_fields(fields, SESSIONS) == [{"a_ids": ["1", "2"]}]


def test_a_list_does_not_begin_the_next_object_and_other_members_do() -> None:
    names = ["a_ids][", "b", "a_ids][", "b", "a_ids]["]
    fields = [(f"poll_sessions[][{name}]", str(place)) for place, name in enumerate(names)]
    assert read_fields(fields, SESSIONS) == [
        {"a_ids": ["0", "2"], "b": "1"},
        {"b": "3", "a_ids": ["4"]},
    ]


@pytest.mark.parametrize(
    "form", ["poll_sessions[0][{}]", "poll_sessions[][{}]", "poll_sessions[{}]"]
)
def test_a_member_is_not_written_both_as_a_list_and_as_one_value(form: str) -> None:
    one, several = form.format("a_ids"), form.format("a_ids][")
    assert list(faults([(one, "1"), (several, "2")])) == [several]
    if "[]" not in form:
        assert list(faults([(several, "1"), (one, "2")])) == [one]


def test_both_names_may_stand_in_one_body() -> None:
    fields = [("poll_sessions[][a]", "1"), ("poll_session[][b]", "2")]
    assert read_fields(fields, SESSIONS) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("name", ["a", "", "poll_sessionss[][a]", "poll[a]", "[poll_sessions]"])
def test_fields_of_another_root_are_ignored_however_they_look(name: str) -> None:
    assert read_fields([(name, "1"), (f"{name}[", "2")], SESSIONS) == []


def test_an_empty_value_is_kept_because_a_schema_knows_what_it_clears() -> None:
    assert read_fields([("poll_sessions[a]", "")], SESSIONS) == [{"a": ""}]


@pytest.mark.parametrize(
    "name",
    [
        "poll_sessions",
        "poll_session",
        "poll_sessions[",
        "poll_sessions[]",
        "poll_sessions[][",
        "poll_sessions[][]",
        "poll_sessions[0][]",
        "poll_sessions[[a]]",
        "poll_sessions[a]b",
        "poll_sessions[a] [b]",
        "poll_sessions[a][b]",
        "poll_sessions[b][c][d]",
        "poll_sessions[a][b][c]",
        "poll_sessions[][a][]",
        "poll_sessions[][][a]",
        "poll_sessions[0][a][]",
        "poll_sessions[0123456789][a]",
        "poll_sessions[-1][a]",
        "poll_sessions[\u0661][a]",
    ],
)
def test_a_malformed_name_is_refused_and_named(name: str) -> None:
    assert list(faults([(name, "1")])) == [name]


@pytest.mark.parametrize("name", ["poll_sessions]", "a[b][c][d]", "poll_sessions ]["])
def test_a_name_that_only_resembles_the_resource_is_of_another_root(name: str) -> None:
    assert read_fields([(name, "1")], SESSIONS) == []


FORMS = ["poll_sessions[][a]", "poll_sessions[0][a]", "poll_sessions[a][]", "poll_sessions[a]"]


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_an_object_is_not_written_in_two_forms(first: str, second: str) -> None:
    if first == second:
        assert read_fields([(first, "1"), (second, "2")], SESSIONS)[-1] == {"a": "2"}
    else:
        assert list(faults([(first, "1"), (second, "2")])) == [second]


def test_a_long_bad_name_is_not_repeated_whole() -> None:
    [(field, message)] = field_faults(faults([("poll_sessions[" + "x" * 10_000, "1")]))
    assert len(field) == MAX_PATH
    assert len(message) < 2 * MAX_PATH


def test_a_long_name_of_nothing_but_brackets_is_refused_without_a_value_too() -> None:
    """To look through a megabyte of them takes 60 ms."""
    assert read_fields([("poll_sessions" + "[]" * 500, "")], SESSIONS) == []
    assert faults([("poll_sessions" + "[]" * 501, "")])


@pytest.mark.parametrize("member", ["__class__", "$set", "a.b", "ä", " ", "0"])
def test_any_text_between_brackets_is_a_member_and_nothing_more(member: str) -> None:
    assert read_fields([(f"poll_sessions[][{member}]", "1")], SESSIONS) == [{member: "1"}]


# JSON ------------------------------------------------------------------------------------------


@NAMES
def test_json_takes_a_list_or_one_object_under_both_names(name: str) -> None:
    member = {"course_id": 5}
    assert read_json({name: [member, {}], "other": 1}, SESSIONS) == [member, {}]
    assert read_json({name: member}, SESSIONS) == [member]
    assert read_json({name: []}, SESSIONS) == []


def test_the_plural_name_counts_where_json_has_both() -> None:
    assert read_json({"poll_session": {"a": 1}, "poll_sessions": [{"a": 2}]}, SESSIONS) == [
        {"a": 2}
    ]


def test_json_without_the_resource_holds_no_objects() -> None:
    assert read_json({"poll_sessions": None, "poll_session": None}, SESSIONS) == []
    assert read_json({"poll_sessions": None, "poll_session": {"a": 1}}, SESSIONS) == [{"a": 1}]
    assert read_json({"polls": [{"question": "?"}]}, SESSIONS) == []


@pytest.mark.parametrize("body", [None, True, 1, 1.5, "poll_sessions", [], [{"poll_sessions": []}]])
def test_a_json_body_other_than_an_object_is_refused(body: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        read_json(body, SESSIONS)
    assert refused.value.field_name == "body"


@NAMES
@pytest.mark.parametrize("value", [True, 1, "a", [1], [None], [[{}]], [{}, "a"]])
def test_a_json_resource_other_than_an_object_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        read_json({name: value}, SESSIONS)
    assert refused.value.field_name == name


# What holds for every input --------------------------------------------------------------------

PIECES = st.sampled_from(["poll_sessions", "poll_session", "[", "]", "[]", "a", "0", "99", "[b]"])
FIELD_NAMES = st.lists(PIECES, max_size=6).map("".join) | st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["poll_sessions", "poll_session", "a"]), below, max_size=3
        )
    ),
)


def objects_or_refusal(read: Callable[[Any, Resource], Any], body: Any) -> None:
    try:
        objects = read(body, SESSIONS)
    except ValidationError:
        return
    assert isinstance(objects, list)
    assert all(isinstance(one, dict) for one in objects)


@given(st.lists(st.tuples(FIELD_NAMES, st.text(max_size=3)), max_size=8))
@example([("poll_sessions[999999999][a]", "")])
def test_any_fields_give_a_list_of_objects_or_a_refusal(fields: Fields) -> None:
    objects_or_refusal(read_fields, fields)


@given(JSON)
def test_any_json_gives_a_list_of_objects_or_a_refusal(body: Any) -> None:
    objects_or_refusal(read_json, body)


OBJECTS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.text(max_size=3), min_size=1), min_size=1
)


@given(OBJECTS)
def test_objects_written_with_indices_are_read_back_as_they_were(
    objects: list[dict[str, str]],
) -> None:
    fields = [
        (f"poll_sessions[{place}][{member}]", value)
        for place, one in enumerate(objects)
        for member, value in one.items()
    ]
    assert read_fields(fields, SESSIONS) == objects


@given(st.lists(st.dictionaries(st.sampled_from("bcd"), st.text(max_size=3)), min_size=1))
def test_objects_that_begin_with_the_same_member_are_read_back_from_pairs(
    objects: list[dict[str, str]],
) -> None:
    objects = [{"a": "first", **one} for one in objects]
    fields = [
        (f"poll_sessions[][{member}]", value) for one in objects for member, value in one.items()
    ]
    assert read_fields(fields, SESSIONS) == objects


def steps(fields: Fields) -> int:
    """How many calls of Python and C functions, and how many lines, the parser takes."""
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:  # noqa: ARG001 - sys's
        nonlocal count
        count += 1

    def trace(frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG001 - sys's
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.setprofile(profile)
    sys.settrace(trace)
    try:
        read_fields(fields, SESSIONS)
    finally:
        sys.settrace(before)
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "pattern",
    [
        "poll_sessions[][a]",
        "poll_sessions[][m{0}]",
        "poll_sessions[{0}][a]",
        "poll_sessions[{1}][a]",
        "poll_sessions[a][]",
        "poll_sessions[m{0}][]",
        "poll_sessions[m{0}]",
        "other[{0}]",
    ],
)
def test_twice_as_many_fields_take_at_most_twice_as_many_steps(pattern: str) -> None:
    fields = [(pattern.format(place, 999_999_999 - place), "1") for place in range(1000)]
    # Some steps happen once, and a dictionary grows now and then.
    assert steps(fields) <= 2.02 * steps(fields[:500])


@pytest.mark.parametrize("brackets", ["[" * 500_000, "[]" * 250_000, "[a]" * 150_000 + "]"])
def test_a_megabyte_of_brackets_is_refused_before_the_test_times_out(brackets: str) -> None:
    """A pattern that backtracks would take hours; counting calls does not see into it."""
    assert faults([(f"poll_sessions{brackets}", "1")])
