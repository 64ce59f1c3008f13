"""Times and option numbers, by tables and by properties."""

import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields

from schemas.fields import Id, Int32, Title, parse_rfc3339
from schemas.polling import ChoiceId, FormInt32
from storage.documents import OptionDefinition, OptionDocument, number_options
from storage.errors import Conflict

MOMENTS = [
    ("2026-01-31T18:00:00Z", datetime(2026, 1, 31, 18, tzinfo=UTC)),
    ("2026-01-31t18:00:00z", datetime(2026, 1, 31, 18, tzinfo=UTC)),
    ("2026-01-31 18:00:00Z", datetime(2026, 1, 31, 18, tzinfo=UTC)),
    ("2026-01-31T18:00:00+01:00", datetime(2026, 1, 31, 17, tzinfo=UTC)),
    ("2026-01-31T18:00:00.000+0100", datetime(2026, 1, 31, 17, tzinfo=UTC)),
    ("2026-01-31T18:00:00+0000", datetime(2026, 1, 31, 18, tzinfo=UTC)),
    ("2026-01-31T18:00:00-05:30", datetime(2026, 1, 31, 23, 30, tzinfo=UTC)),
    ("2026-01-31T18:00:00-00:00", datetime(2026, 1, 31, 18, tzinfo=UTC)),
    ("2026-01-31T00:00:00+23:59", datetime(2026, 1, 30, 0, 1, tzinfo=UTC)),
    ("2026-01-31T18:00:00.999999999Z", datetime(2026, 1, 31, 18, tzinfo=UTC)),
    ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
    ("2017-01-01T00:59:60.5+01:00", datetime(2017, 1, 1, tzinfo=UTC)),
    ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ("0001-01-01T00:00:00-23:59", datetime(1, 1, 1, 23, 59, tzinfo=UTC)),
    ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
]
NO_MOMENTS = [
    "",
    "2026-01-31",
    "2026-01-31T18:00:00",
    "2026-02-30T00:00:00Z",
    "2026-01-31T24:00:00Z",
    "2026-01-31T18:60:00Z",
    "2026-01-31T18:00:61Z",
    "2026-01-31T18:00:00+24:00",
    "2026-01-31T18:00:00+01:60",
    "2026-01-31T18:00:00+01",
    "2026-01-31T18:00:00+010",
    "2026-01-31T18:00:00+2400",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:60Z",
    "9999-12-31T23:59:59-00:01",
    "2026-01-31T18:00:00Z ",
]


@pytest.mark.parametrize(("text", "moment"), MOMENTS)
def test_a_time_of_rfc_3339_is_read_to_the_second_in_utc(text: str, moment: datetime) -> None:
    parsed = parse_rfc3339(text)
    assert parsed == moment
    assert parsed is not None
    assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", NO_MOMENTS)
def test_text_other_than_a_time_of_rfc_3339_is_none(text: str) -> None:
    assert parse_rfc3339(text) is None


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis wants it without
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - hypothesis wants it without
    ),
    st.integers(-(24 * 60 - 1), 24 * 60 - 1),
)
def test_every_time_that_python_writes_is_read_as_that_moment(
    moment: datetime, minutes: int
) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_rfc3339(local.isoformat()) == local.replace(microsecond=0).astimezone(UTC)


@given(st.text(alphabet="0123456789-:TZtz+. \u0661", max_size=30))
def test_no_text_is_a_surprise(text: str) -> None:
    parsed = parse_rfc3339(text)
    assert parsed is None or parsed.microsecond == 0


GIVEN_IDS = st.one_of(
    st.integers(0, 30).map(str),
    st.sampled_from(["007", "x", "-1", "1_0", "9" * 17, "9" * 19, "_"]),
)


@st.composite
def definitions(draw: st.DrawFn) -> list[OptionDefinition]:
    ids = iter(draw(st.lists(GIVEN_IDS, unique=True, max_size=6)))
    options: list[OptionDefinition] = []
    for has_id in draw(st.lists(st.booleans(), max_size=8)):
        option: OptionDefinition = {"title": "a", "order": len(options)}
        if has_id and (option_id := next(ids, None)) is not None:
            option["id"] = option_id
        options.append(option)
    return options


@given(st.lists(definitions(), max_size=8))
def test_a_number_that_was_given_is_never_given_again(
    replacements: list[list[OptionDefinition]],
) -> None:
    highest = 0
    kept: list[OptionDocument] = []
    ever: set[str] = set()
    for definition in replacements:
        numbered, now = number_options(definition, highest, kept)
        ids = [option["id"] for option in numbered]
        assert len(set(ids)) == len(ids)
        made = {
            option["id"]
            for option, sent in zip(numbered, definition, strict=True)
            if "id" not in sent
        }
        assert not made & ever
        assert now >= highest
        assert all(int(option_id) > highest for option_id in made)
        ever |= set(ids)
        highest, kept = now, numbered


@given(definitions(), st.sets(st.integers(0, 30).map(str)))
def test_an_option_is_correct_only_where_it_was(
    definition: list[OptionDefinition], correct: set[str]
) -> None:
    kept: list[OptionDocument] = [
        {"id": option_id, "title": "", "order": 0, "is_correct": True} for option_id in correct
    ]
    highest = max([0, *map(int, correct)])
    numbered, _ = number_options(definition, highest, kept)
    for option in numbered:
        assert option["is_correct"] is (option["id"] in correct)
    assert [option["title"] for option in numbered] == [option["title"] for option in definition]


def test_numbers_that_have_run_out_are_a_conflict() -> None:
    option: OptionDefinition = {"title": "a", "order": 0}
    numbered, highest = number_options([option], 10**18 - 2)
    assert numbered[0]["id"] == "9" * 18
    with pytest.raises(Conflict):
        number_options([option], highest)


@pytest.mark.parametrize("option_id", ["9" * 19, "x9", "-5", "5_0"])
def test_an_id_other_than_a_number_moves_no_number(option_id: str) -> None:
    options: list[OptionDefinition] = [
        {"id": option_id, "title": "a", "order": 0},
        {"title": "b", "order": 1},
    ]
    numbered, highest = number_options(options, 3)
    assert [option["id"] for option in numbered] == [option_id, "4"]
    assert highest == 4


@pytest.mark.parametrize(
    ("field", "loaded"), [(Int32(), 3), (FormInt32(), 3), (Id(), 3), (ChoiceId(), "3")]
)
def test_json_makes_no_difference_between_3_and_3_0(field: fields.Field[Any], loaded: Any) -> None:
    for sent in (3, 3.0):
        read = field.deserialize(sent)
        assert read == loaded
        assert type(read) is type(loaded)
    for other in (3.5, float("inf"), float("nan"), True):
        with pytest.raises(ValidationError):
            field.deserialize(other)


INEXACT = [2.0**53, 2.0**53 + 2, -(2.0**53), 2.0**64, 1e300, -0.0, 0.5, 3.0000000000000004]


@pytest.mark.parametrize("sent", INEXACT)
def test_a_number_that_json_does_not_carry_exactly_is_no_whole_number(sent: float) -> None:
    for field in (Int32(), FormInt32(), Id(), ChoiceId()):
        with pytest.raises(ValidationError):
            field.deserialize(sent)


@pytest.mark.parametrize("sent", [2**53, 2**63, 2**64 - 1, 0, -1])
def test_an_id_beyond_what_every_client_reads_exactly_is_refused_as_a_number(sent: int) -> None:
    for field in (Id(), ChoiceId()):
        with pytest.raises(ValidationError):
            field.deserialize(sent)


def test_the_largest_id_may_be_written_as_any_number() -> None:
    for sent in (2**53 - 1, float(2**53 - 1)):
        assert Id().deserialize(sent) == 2**53 - 1
        assert ChoiceId().deserialize(sent) == str(2**53 - 1)


@pytest.mark.parametrize(
    "text", ["-0", "00", "01", "-01", "+1", "1.0", "1e3", " 1", "\u0661", "--1"]
)
def test_an_integer_in_a_form_is_written_in_one_way_only(text: str) -> None:
    with pytest.raises(ValidationError):
        FormInt32().deserialize(text)


NOTHING_TO_SEE = ("Cc", "Cf", "Zs", "Zl", "Zp")


def test_a_title_needs_more_than_space_format_and_control_characters() -> None:
    """Of all that this Python knows of Unicode."""
    for character in map(chr, range(0x110000)):
        if unicodedata.category(character) in NOTHING_TO_SEE:
            with pytest.raises(ValidationError):
                Title().deserialize(character)
    for visible in ("a", "\u00e9", "\u0301", "\U0001f375", "\ue000", "-", "\u0600a"):
        assert Title().deserialize(visible) == visible


def test_control_characters_are_in_no_title() -> None:
    for character in map(chr, range(0x110000)):
        is_control = unicodedata.category(character) == "Cc"
        if is_control:
            with pytest.raises(ValidationError, match="must not have control characters"):
                Title().deserialize(f"a{character}")
