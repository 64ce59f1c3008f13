"""Our marshmallow fields as JSON Schema.

apispec translates marshmallow's own fields and validators; the rest is here.
"""

from collections.abc import Callable
from typing import Any

from marshmallow import Schema, fields

from schemas.content import (
    ISSUE_KEY,
    MAX_OPTIONS,
    NewPlaceSchema,
    NewPollSchema,
    PollReferenceSchema,
    SettingsSchema,
)
from schemas.fields import (
    BLANKS,
    CONTROLS,
    MAX_ID,
    MAX_USER_ID,
    OPTION_ID,
    UUID,
    Id,
    Items,
    Moment,
    Name,
    Pattern,
    Title,
    UserId,
)
from schemas.links import VIEW, LinkActions
from schemas.moving import MAX_NUMBER, Instant, Number, Owner, PollLineSchema, Tally
from schemas.polling import ChoiceId, Flag, NewSubmission
from schemas.responses import Counts, ShownChoiceId, ShownCourse, ShownUserId, Time
from schemas.tokens import Course, Workspace
from service.openapi.descriptions import description_of
from service.openapi.operation import Json

MOMENT = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:?[0-9]{2})"
)

STRING: Json = {"type": "string"}
WHOLE_ID: Json = {"type": "integer", "minimum": 1, "maximum": MAX_ID}


def text(pattern: str, **more: Any) -> Json:
    return {"type": "string", "pattern": f"^({pattern})$", **more}


def either(*shapes: Json) -> Json:
    return {"anyOf": [*shapes]}


CHOICE_ID = either(WHOLE_ID, text(OPTION_ID.pattern))
COURSE = either(WHOLE_ID, text(r"\*"))


def _user_text() -> Json:
    """Strings that are no number: with another character than digits, or digits that are no id.

    Without assertions, which not every validator knows. It admits some characters that are not
    printable, which would be too many to list.
    """
    other, inner, outer = f"[^{CONTROLS} 0-9]", f"[^{CONTROLS}]*", f"[^{CONTROLS} ]"
    worded = f"[0-9]*{other}({inner}{outer})?|[0-9]+ {inner}{outer}"
    return text(f"{worded}|0[0-9]+|[0-9]{{16,}}", minLength=1, maxLength=MAX_USER_ID)


USER_ID: Json = {
    "description": "The id of a user, as the caller's system has it: a number, or a string of "
    "printable characters that is no number. 0 is the user of tokens that belong to nobody.",
    **either({**WHOLE_ID, "minimum": 0}, _user_text()),
}
SHOWN_USER: Json = {"$ref": "#/components/schemas/UserId"}
GIVEN_USER: Json = {**SHOWN_USER, "minimum": 1}

KEYWORDS: dict[type[fields.Field[Any]], Callable[[Any], Json]] = {
    Time: lambda field: {"format": "date-time", "pattern": f"^{field.pattern.pattern}$"},
    Pattern: lambda field: (
        {"format": "uuid"} if field.pattern is UUID else {"pattern": f"^{field.pattern.pattern}$"}
    ),
    Name: lambda _: text(f"[^{CONTROLS}]*"),
    Title: lambda _: text(f"[^{CONTROLS}]*[^{CONTROLS}{BLANKS}][^{CONTROLS}]*"),
    LinkActions: lambda field: {
        "minItems": field.least,
        "maxItems": field.most,
        "uniqueItems": True,
        "contains": {"type": "string", "enum": [VIEW]},
    },
    Items: lambda field: {"minItems": field.least, "maxItems": field.most},
    # Generators parse ``date-time``, and fail where there is no time.
    Moment: lambda _: text(f"|{MOMENT}"),
    Flag: lambda _: {"type": "boolean"},
    Id: lambda _: WHOLE_ID,
    Number: lambda _: {**WHOLE_ID, "maximum": MAX_NUMBER},
    Instant: lambda _: text(MOMENT),
    Owner: lambda _: SHOWN_USER,
    Tally: lambda _: {"propertyNames": text(OPTION_ID.pattern)},
    UserId: lambda _: GIVEN_USER,
    ShownUserId: lambda _: SHOWN_USER,
    ChoiceId: lambda _: CHOICE_ID,
    ShownChoiceId: lambda _: CHOICE_ID,
    Course: lambda _: COURSE,
    ShownCourse: lambda _: COURSE,
    Workspace: lambda _: text(f"[^{CONTROLS}]*"),
    Counts: lambda _: {"propertyNames": text(OPTION_ID.pattern), "maxProperties": MAX_OPTIONS},
}
"""By class of the field; the most derived class counts."""

CLOSES = {"properties": {"closePollOnEndDate": {"const": True}}, "required": ["closePollOnEndDate"]}
ENDS = {"properties": {"endDate": {"type": "string", "minLength": 1}}, "required": ["endDate"]}


def reference(of: type[Schema], members: Json, required: tuple[str, ...] = ()) -> Json:
    """Of a reference. Names all members, since linters take each part for the whole."""
    shapes: Json = {name: members.get(name, {}) for name in of().fields}
    return {"properties": shapes, **({"required": [*required]} if required else {})}


def place(of: type[Schema]) -> Json:
    """A workspace and a content in it, and a container unless the content is an issue."""
    named = {"workspace": STRING, "content": STRING}
    container = {**STRING, "minLength": 1}
    return {
        **reference(of, named, ("workspace", "content")),
        "if": reference(of, {"content": {"pattern": f"^({ISSUE_KEY.pattern})$"}}),
        "then": reference(of, {"container": {"type": ["string", "null"], "maxLength": 0}}),
        "else": reference(of, {"container": container}, ("container",)),
    }


NOTHING: Json = {"type": "null"}
NO_PLACE = {"workspace": NOTHING, "content": NOTHING, "container": NOTHING}
CLOSED_ON_ITS_END: Json = {
    "if": {"properties": {"settings": CLOSES}, "required": ["settings"]},
    "then": {"properties": {"settings": ENDS}},
}
CONDITIONS: dict[type[Schema], Json] = {
    PollReferenceSchema: {
        "if": reference(PollReferenceSchema, {"pollId": STRING}, ("pollId",)),
        "then": reference(PollReferenceSchema, NO_PLACE),
        "else": place(PollReferenceSchema),
    },
    NewPlaceSchema: {
        "if": reference(NewPlaceSchema, NO_PLACE),
        "else": place(NewPlaceSchema),
    },
    SettingsSchema: {"if": CLOSES, "then": {"properties": ENDS["properties"]}},
    # In a PUT the end date may be the one that the poll has.
    NewPollSchema: CLOSED_ON_ITS_END,
    PollLineSchema: CLOSED_ON_ITS_END,
    NewSubmission: {
        "if": {"properties": {"poll_choice_ids": {"type": "null"}}},
        "then": {
            "required": ["poll_choice_id"],
            "properties": {"poll_choice_id": {"type": ["integer", "string"]}},
        },
    },
}
"""What schemas require of several members at once."""


def describe(_: Any, field: fields.Field[Any], *, ret: Json) -> Json:
    """Returns what apispec does not derive from ``field``; ``ret`` is what it did derive.

    Of that it drops what confuses generators of clients: with a ``default`` they make a member
    required, with ``writeOnly`` they make each type twice.
    """
    ret.pop("default", None)
    ret.pop("writeOnly", None)
    found = next((KEYWORDS[kind](field) for kind in type(field).__mro__ if kind in KEYWORDS), {})
    if field.allow_none and "type" in found:
        found = {**found, "type": [found["type"], "null"]}
    if field.allow_none and "$ref" in found:
        found = either(found)
    if field.allow_none and "anyOf" in found:
        found = either(*found["anyOf"], {"type": "null"})
    if isinstance(field.parent, Schema):  # not the items of a list
        description = description_of(field.parent, str(field.name))
        found = {**found, "description": description} if description else found
    return found
