"""Strict fields, without marshmallow's conversions (docs/api.md, sections 3 and 4).

Messages are predicates: the path of the member is put before them.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

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
    r"(?P<offset>[Zz]|[+-]\d{2}:[0-5]\d)",
    re.ASCII,
)
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
OPTION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

MAX_ID = 2**53 - 1
"""The largest integer that every JSON client reads exactly (RFC 8259, section 6)."""
DIGITS = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
ID_MESSAGE = "must be a whole number from 1 to 2^53-1"


MAX_MEMBERS = 50
"""Of an object; beyond it they are not named one by one, which takes long."""


class StrictSchema(Schema):
    """Refuses unknown members."""

    error_messages = MESSAGES

    def load(self, data: Any, **options: Any) -> Any:
        if isinstance(data, dict) and len(data) > MAX_MEMBERS:
            raise ValidationError(f"must have at most {MAX_MEMBERS} members")
        return super().load(data, **options)


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


class Title(Text):
    """What a poll asks, or an option says; both APIs have the same limit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(least=1, most=255, **options)


class StrictBoolean(fields.Boolean):
    """JSON ``true`` or ``false``, nothing else."""

    default_error_messages = {**MESSAGES, "invalid": "must be true or false"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if value is True or value is False:
            return value
        raise self.make_error("invalid")


def as_whole(value: Any) -> Any:
    """1.0 as 1: JSON does not distinguish them, and some languages write only the former."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Int32(fields.Integer):
    """A whole number of 32 bits, as a JSON number."""

    default_error_messages = {**MESSAGES, "invalid": "must be a whole number"}

    def __init__(self, **options: Any) -> None:
        bounds = validate.Range(-(2**31), 2**31 - 1, error="must fit in 32 bits")
        super().__init__(strict=True, validate=bounds, **options)

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> int:
        # marshmallow would read true and "1" as 1.
        if isinstance(value, bool | str):
            raise self.make_error("invalid")
        return super()._deserialize(as_whole(value), *place, **options)


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
    """``""`` or an RFC 3339 time with an offset, kept as it was sent."""

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


def parse_rfc3339(text: str) -> datetime | None:
    """The time in UTC, truncated to the second; None if it is not valid (RFC 3339, section 5.6).

    Second 60 is read as second 0 of the next minute. A time whose UTC year is not in 1 to 9999 is
    not valid.
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
