"""What is said of one method of one route, and the words that such descriptions are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

Json = dict[str, Any]
Shape = Json | Schema
"""A JSON schema, or a marshmallow schema in the place of one."""

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A success: ``content`` by media type, and the names of its headers in ``components``."""

    description: str
    status: int = 200
    content: Mapping[str, Json] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What the document cannot know from the route itself.

    ``parameters`` are names in ``components.PARAMETERS``; those of the path, those that every
    request with a token may have, and ``Idempotency-Key`` are added by ``document``. So are the
    refusals that all of its kind have in common; ``refusals`` are the statuses beyond them.
    ``body`` is the content of the request by media type. ``leads_to`` names operations that go on
    with what this one answers, and where their parameters are found in it.
    """

    id: str
    summary: str
    tag: str
    answer: Answer
    description: str = ""
    parameters: tuple[str, ...] = ()
    body: Mapping[str, Json] | None = None
    refusals: tuple[int, ...] = ()
    leads_to: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


Operations = dict[str, dict[str, Operation]]
"""By path and method, as ``service.routes.ROUTES`` has them."""


def json_answer(
    shape: Shape, description: str, *, example: Any = None, headers: tuple[str, ...] = ()
) -> Answer:
    return Answer(description=description, content=json_content(shape, example), headers=headers)


def json_content(shape: Shape, example: Any = None) -> dict[str, Json]:
    media: Json = {"schema": shape}
    if example is not None:
        media["example"] = example
    return {JSON: media}


def list_of(shape: Shape, **bounds: Any) -> Json:
    return {"type": "array", "items": shape, **bounds}


def member(name: str, shape: Shape) -> Json:
    """An object with one member, which the polling API wraps its answers in."""
    return {
        "type": "object",
        "properties": {name: shape},
        "required": [name],
        "additionalProperties": False,
    }
