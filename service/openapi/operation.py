"""What is said of each operation, and how."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from service.openapi.examples import EVENTS, EXAMPLES
from service.web.accept import EVENT_STREAM
from service.web.bodies import JSON
from storage.errors import Code

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Envelope:
    """An object around ``content``, with a name in the document, as generators of clients need.

    ``is_closed``: it has no other members.
    """

    name: str
    member: str
    description: str
    content: "Shape"
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class OneOrSeveral:
    """One object, or a list of up to ``most``, under a name in the document."""

    name: str
    content: Schema
    most: int


@dataclass(frozen=True, slots=True)
class Either:
    """One of several shapes, under a name in the document."""

    name: str
    shapes: tuple["Shape", ...]


Shape = Json | Schema | Envelope | OneOrSeveral | Either
"""A JSON schema, or what becomes a reference to one."""
Content = Mapping[str, Json]
"""OpenAPI media type objects by media type."""
Refusals = Mapping[int, Iterable[Code]]
"""The codes that an operation may be refused with, by status."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful response: 200, or 204 without ``content``, unless it has another ``status``.

    ``headers`` are names in ``components.HEADERS``. An answer with ``Link`` is one page of a list:
    its operation takes the parameters of paging.
    """

    description: str
    content: Content = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """What neither the route nor its handler says of an operation.

    ``document`` adds what follows from the route: the summary and the description (the handler's
    docstring), the tag, the parameters of the path and of all requests with a token, security, and
    the refusals that all operations of its kind have.

    * ``parameters`` are names in ``components.PARAMETERS``;
    * ``refusals`` are the codes by status beyond those that ``document`` adds;
    * ``pages`` are refusals in HTML, by status;
    * ``links`` are the parameters of other operations, as runtime expressions, by operation id;
    * ``is_safe``: a ``POST`` that changes nothing, and so takes no ``Idempotency-Key``;
    * ``is_keyed`` is false for one that takes none, since it can be repeated as it is.
    """

    id: str
    answer: Answer
    parameters: tuple[str, ...] = ()
    body: Content | None = None
    refusals: Refusals = field(default_factory=dict)
    pages: Mapping[int, str] = field(default_factory=dict)
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    is_safe: bool = False
    is_keyed: bool = True

    @property
    def takes_key(self) -> bool:
        """Whether its ``POST`` takes an ``Idempotency-Key``."""
        return self.is_keyed and not self.is_safe


Operations = dict[str, Operation]
"""By method and path, such as ``GET /docs``."""


def json_answer(description: str, shape: Shape, *headers: str) -> Answer:
    return Answer(description, json_content(shape), headers)


def live_answer(results: Schema) -> Answer:
    """Results once, or as they change.

    JSON comes first, since generated clients that know one type of answer take that for both.
    """
    events = {EVENT_STREAM: {"schema": {"type": "string"}, "example": EVENTS}}
    return Answer("The results.", {**json_content(results), **events}, ("ETag",))


def json_content(shape: Shape) -> Content:
    return {JSON: {"schema": shape, "example": _example(shape)}}


def _example(shape: Shape) -> Any:
    """Made of the examples of the schemas in ``shape``."""
    if isinstance(shape, Schema):
        return EXAMPLES[type(shape)]
    if isinstance(shape, Envelope):
        return {shape.member: _example(shape.content)}
    if isinstance(shape, OneOrSeveral):
        return _example(shape.content)
    if isinstance(shape, Either):
        return _example(shape.shapes[0])
    return [_example(shape["items"])]


def list_of(shape: Shape, **bounds: Any) -> Json:
    return {"type": "array", "items": shape, **bounds}
