"""Our marshmallow fields and forms as JSON Schema.

apispec translates marshmallow's own fields and validators; the rest is here.
"""

from collections.abc import Callable
from typing import Any

from marshmallow import Schema, fields, validate

from schemas.content import MAX_OPTIONS, SettingsSchema
from schemas.fields import MAX_ID, OPTION_ID, Items, Moment, Pattern
from schemas.polling import ChoiceId, Flag, FormInt32, Id
from schemas.responses import Counts, ShownChoiceId, ShownId, ShownSchema, Time
from service.openapi.operation import Json

MOMENT = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

WHOLE_ID: Json = {"type": "integer", "minimum": 1, "maximum": MAX_ID}
SHOWN_ID: Json = {"type": "integer", "minimum": 0, "maximum": MAX_ID}


def text(pattern: str, **more: Any) -> Json:
    return {"type": "string", "pattern": f"^({pattern})$", **more}


def either(*shapes: Json) -> Json:
    return {"anyOf": [*shapes]}


TEXTS: dict[type[Any], str] = {
    Flag: "[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|1|0",
    FormInt32: "-?[0-9]{1,9}",
    # 2^53-1 has 16 digits, but not every number of 16 digits is an id.
    Id: "[1-9][0-9]{0,14}",
}
"""The text that these fields accept, in JSON too."""

KEYWORDS: dict[type[fields.Field[Any]], Callable[[Any], Json]] = {
    Time: lambda field: {"format": "date-time", "pattern": f"^{field.pattern.pattern}$"},
    Pattern: lambda field: {"pattern": f"^{field.pattern.pattern}$"},
    Items: lambda field: {"minItems": field.least, "maxItems": field.most},
    # Shown as it was sent: perhaps with a space in place of the T that the format requires.
    Moment: lambda field: either(
        {"const": ""},
        text(MOMENT)
        if isinstance(field.parent, ShownSchema)
        else {"type": "string", "format": "date-time"},
    ),
    Flag: lambda _: either({"type": "boolean"}, text(TEXTS[Flag])),
    FormInt32: lambda _: either(
        {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}, text(TEXTS[FormInt32])
    ),
    Id: lambda _: either(WHOLE_ID, text(TEXTS[Id])),
    ChoiceId: lambda _: either({"type": "integer"}, {"type": "string"}),
    ShownId: lambda _: either(SHOWN_ID, text("0|[1-9][0-9]{0,15}")),
    ShownChoiceId: lambda _: either(WHOLE_ID, text(OPTION_ID.pattern)),
    Counts: lambda _: {"propertyNames": text(OPTION_ID.pattern), "maxProperties": MAX_OPTIONS},
}
"""By class of the field; the most derived class counts."""

CLOSES = {"properties": {"closePollOnEndDate": {"const": True}}, "required": ["closePollOnEndDate"]}
ENDS = {"properties": {"endDate": {"type": "string", "minLength": 1}}, "required": ["endDate"]}
CONDITIONS: dict[type[Schema], Json] = {SettingsSchema: {"if": CLOSES, "then": ENDS}}
"""What schemas require of several members at once."""


def describe(_: Any, field: fields.Field[Any], *, ret: Json) -> Json:
    """Returns what apispec does not derive from ``field``; ``ret`` is what it did derive."""
    found = next((KEYWORDS[kind](field) for kind in type(field).__mro__ if kind in KEYWORDS), {})
    if "anyOf" in found:
        for name in ("type", "minimum", "maximum"):
            ret.pop(name, None)
        if field.allow_none:
            found = either(*found["anyOf"], {"type": "null"})
    return found


def _form_member(field: fields.Field[Any]) -> Json:
    """A member as text in a form, where an empty value counts as absent."""
    pattern = next((TEXTS[kind] for kind in type(field).__mro__ if kind in TEXTS), None)
    shape: Json = {"type": "string", **({"minLength": 1} if field.required else {})}
    if pattern is not None:
        shape = text(pattern if field.required else f"|{pattern}")
    for validator in field.validators:
        if isinstance(validator, validate.Length):
            shape["maxLength"] = validator.max
        elif isinstance(validator, validate.OneOf):
            shape["enum"] = [*validator.choices, *([] if field.required else [""])]
    return shape


def form_of(schema: Schema, field_name: str, *, many: bool = False) -> Json:
    """A form with the members of ``schema``, in fields such as ``polls[][{}]``."""
    members = {field_name.format(name): field for name, field in schema.fields.items()}
    shapes = {name: _form_member(field) for name, field in members.items()}
    required = [name for name, field in members.items() if field.required]
    if many:
        shapes |= {
            name: {"type": "array", "items": shapes[name], "minItems": 1} for name in required
        }
    form: Json = {"type": "object", "properties": shapes}
    if required:
        return {**form, "required": required}
    return {**form, "anyOf": [{"required": [name]} for name in shapes]}
