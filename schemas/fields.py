"""Strict fields, without marshmallow's conversions (docs/api.md, sections 3 and 4).

Messages are predicates: the path of the member is put before them.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unicodedata import category

from marshmallow import Schema, ValidationError, fields, pre_load, validate

MESSAGES: dict[str, Any] = {
    "required": "is missing",
    "null": "must not be null",
    "invalid": "is not valid",
    "invalid_utf8": "must be UTF-8",
    "type": "must be an object",
    "unknown": "is not a known member",
}

RFC3339 = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})[Tt ](?P<minute>\d{2}:\d{2}):(?P<second>\d{2})(?:\.\d+)?"
    r"(?P<offset>[Zz]|[+-]\d{2}:?[0-5]\d)",
    re.ASCII,
)
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
OPTION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

CONTROLS = r"\u0000-\u001f\u007f-\u009f"
BLANKS = (
    # White space and separators.
    r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    # Format characters.
    r"\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\ufeff\ufff9-\ufffb"
    # Letters and marks that are drawn as nothing: fillers, joiners, variation selectors.
    r"\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
)
"""Of the Basic Multilingual Plane: not every reader of the document knows ranges beyond it."""
MORE_BLANKS = (
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
CONTROL = re.compile(f"[{CONTROLS}]")
VISIBLE = re.compile(f"[^{CONTROLS}{BLANKS}{MORE_BLANKS}]")

MAX_ID = 2**53 - 1
"""The largest integer that every JSON client reads exactly (RFC 8259, section 6)."""
DIGITS = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
ID_MESSAGE = "must be a whole number from 1 to 2^53-1"

USERS = "users"
"""The workspace of users' own polls, which no token covers."""
MAX_USER_ID = 128
"""The characters of a user id that is a string."""
USER_MESSAGE = (
    f"{ID_MESSAGE}, or a string of 1 to {MAX_USER_ID} printable characters without a space at "
    "either end, which is neither 0 nor self"
)


MAX_MEMBERS = 50
"""Of an object; beyond it they are not named one by one, which takes long."""


class StrictSchema(Schema):
    """Refuses unknown members."""

    error_messages = MESSAGES

    def load(self, data: Any, **options: Any) -> Any:
        if isinstance(data, dict) and len(data) > MAX_MEMBERS:
            raise ValidationError(f"must have at most {MAX_MEMBERS} members")
        return super().load(data, **options)


class ReceivedSchema(StrictSchema):
    """What a client sends: null for an optional member is as if the member were left out.

    But for those in ``nullable``, whose null says that there is to be none.
    """

    nullable: frozenset[str] = frozenset()

    def on_bind_field(self, _: str, field_obj: fields.Field[Any]) -> None:
        # For the OpenAPI document: no field is given a null.
        field_obj.allow_none = not field_obj.required

    @pre_load
    def _drop_nulls(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        nulls = {
            name
            for name, field in self.fields.items()
            if not field.required and name not in self.nullable and data.get(name, ...) is None
        }
        return {name: data[name] for name in data if name not in nulls}


class String(fields.String):
    default_error_messages = {**MESSAGES, "invalid": "must be a string"}


class Choice(String):
    """One of some strings."""

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        one_of = validate.OneOf(choices, error="must be one of {choices}")
        super().__init__(validate=one_of, **options)


class Text(String):
    """A string of ``least`` to ``most`` characters."""

    def __init__(self, *, least: int = 0, most: int, **options: Any) -> None:
        bounds = f"{least} to {most:,}" if least else f"at most {most:,}"
        length = validate.Length(least, most, error=f"must have {bounds} characters")
        super().__init__(validate=length, **options)


class Name(Text):
    """What a caller calls a place: no control characters, and valid as UTF-8."""

    def __init__(self, *, least: int = 1, **options: Any) -> None:
        super().__init__(least=least, most=255, **options)
        self.validators = [*self.validators, _require_printable]


def _require_printable(name: str) -> None:
    if not name.isprintable() and any(category(one) in ("Cc", "Cs") for one in name):
        raise ValidationError("must be UTF-8 without control characters")


class Title(Text):
    """What a poll asks, or an option says, in one line that can be seen; the same in both APIs."""

    def __init__(self, *, most: int = 255, **options: Any) -> None:
        super().__init__(least=1, most=most, **options)
        self.validators = [*self.validators, _require_visible]


def _require_visible(title: str) -> None:
    if CONTROL.search(title):
        raise ValidationError("must not have control characters, such as line breaks")
    if title and not VISIBLE.search(title):
        raise ValidationError("must have a visible character")


class StrictBoolean(fields.Boolean):
    """JSON ``true`` or ``false``, nothing else."""

    default_error_messages = {**MESSAGES, "invalid": "must be true or false"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if value is True or value is False:
            return value
        raise self.make_error("invalid")


def as_whole(value: Any) -> Any:
    """1.0 as 1: JSON does not distinguish them, and some languages write only the former.

    Every other float stays one. Beyond ``MAX_ID`` it may stand for another number than the one that
    was sent, and minus zero is no whole number that an integer could hold.
    """
    if not isinstance(value, float) or not value.is_integer() or abs(value) > MAX_ID:
        return value
    return value if value == 0 and math.copysign(1, value) < 0 else int(value)


class Id(fields.Field[int | None]):
    """A whole number from 1 to 2^53-1, as a number or a string of digits.

    Where it ``clears``, an empty string is the id of nothing, None.
    """

    default_error_messages = {**MESSAGES, "invalid": ID_MESSAGE}

    def __init__(self, *, clears: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.clears = clears

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int | None:
        if self.clears and value == "":
            return None
        value = as_whole(value)
        number = parse_id(str(value)) if type(value) in (int, str) else None
        if number is None:
            raise self.make_error("invalid")
        return number


class UserId(fields.Field[int | str]):
    """The id of a user (``parse_user_id``); a string of digits that is a whole id is that number.

    Unless it is a form, a number must be sent as one: ``"42"`` is refused.
    """

    default_error_messages = {
        **MESSAGES,
        "invalid": USER_MESSAGE,
        "quoted": "must be sent as a number, without quotes",
    }

    def __init__(self, *, is_form: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.is_form = is_form

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int | str:
        value = as_whole(value)
        user_id = parse_user_id(str(value)) if type(value) in (int, str) else None
        # As text 2^53 is a string; as a number it is no id.
        if user_id is None or (isinstance(user_id, str) and not isinstance(value, str)):
            raise self.make_error("invalid")
        if not self.is_form and type(user_id) is not type(value):
            raise self.make_error("quoted")
        return user_id


class Whole(fields.Integer):
    """A whole number from ``least`` to ``most``, as a JSON number; ``error`` is the predicate."""

    default_error_messages = {**MESSAGES, "invalid": "must be a whole number"}

    def __init__(self, least: int, most: int, error: str, **options: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(least, most, error=error), **options)

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> int:
        # marshmallow would read true and "1" as 1.
        if isinstance(value, bool | str):
            raise self.make_error("invalid")
        return super()._deserialize(as_whole(value), *place, **options)


class Int32(Whole):
    """A whole number of 32 bits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(-(2**31), 2**31 - 1, "must fit in 32 bits", **options)


class Pattern(String):
    """A string that fully matches a pattern; ``message`` describes it."""

    def __init__(self, pattern: re.Pattern[str], message: str, **options: Any) -> None:
        def matches(value: str) -> None:
            if pattern.fullmatch(value) is None:
                raise ValidationError(message)

        super().__init__(validate=matches, **options)
        self.pattern = pattern


class Items(fields.List[Any]):
    """A list of ``least`` to ``most`` items. The length is checked before any item."""

    default_error_messages = {**MESSAGES, "invalid": "must be a list"}

    def __init__(self, item: fields.Field[Any], *, least: int, most: int, **options: Any) -> None:
        super().__init__(item, **options)
        self.least = least
        self.most = most

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> list[Any]:
        if isinstance(value, list) and not self.least <= len(value) <= self.most:
            raise ValidationError(f"must have {self.least} to {self.most} items")
        return super()._deserialize(value, *place, **options)


class Moment(String):
    """``""`` or a time that ``parse_rfc3339`` reads, kept as it was sent."""

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> str:
        text = super()._deserialize(value, *place, **options)
        if text and parse_rfc3339(text) is None:
            raise ValidationError(
                "must be empty or a time with an offset, such as 2026-01-31T18:00:00+01:00"
            )
        return text


def parse_id(text: str) -> int | None:
    """A whole number from 1 to 2^53-1 in ASCII digits; None for everything else."""
    if DIGITS.fullmatch(text) and int(text) <= MAX_ID:
        return int(text)
    return None


def parse_user_id(text: str) -> int | str | None:
    """A whole id as the number that it is; else a string id, as it was sent; None for no id.

    So no number is written like a string, and ``str`` tells any two ids apart. 0 is the user of
    tokens that belong to nobody, ``self`` the caller in a path.
    """
    number = parse_id(text)
    if number is not None:
        return number
    is_string = (
        len(text) <= MAX_USER_ID
        and text.isprintable()
        and text == text.strip()
        and text not in ("", "0", "self")
    )
    return text if is_string else None


def parse_rfc3339(text: str) -> datetime | None:
    """The time in UTC, truncated to the second; None if it is not valid (RFC 3339, section 5.6).

    The offset may lack its colon, as Jira writes it. Second 60 is read as second 0 of the next
    minute. A time whose UTC year is not in 1 to 9999 is not valid.
    """
    parts = RFC3339.fullmatch(text)
    if parts is None or int(parts["second"]) > 60:
        return None
    offset = "+00:00" if parts["offset"] in "Zz" else parts["offset"]
    try:
        minute = datetime.fromisoformat(f"{parts['date']}T{parts['minute']}{offset}")
        return minute.astimezone(UTC) + timedelta(seconds=int(parts["second"]))
    except (ValueError, OverflowError):
        return None
