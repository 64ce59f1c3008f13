"""The OpenAPI document: routes and schemas say what there is, ``operation`` says the rest."""

import inspect
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema

from service.openapi import components, content, operating, polling
from service.openapi.fields import BESIDES, describe
from service.openapi.operation import Json, Operation, Operations
from service.polling.paths import API
from service.web.authentication import PUBLIC

TITLE = "Polls service"
ABOUT = """\
Polls attached to content, run in sessions, counted exactly.

One store under two faces: a poll made through one is the same poll in the other. What `/rest` calls
`title`, options and `order` are `question`, choices and `position` under `/api/v1`.

Every refusal is a problem (RFC 9457) whose `errors` name each bad member by its path. A missing or
bad token is a 403, never a 401. Every answer carries `X-Request-Id`. Beside what the operations
list, an unknown route is answered with 404, an unknown method with 405 and `Allow`, what is no
HTTP with 400, too large headers with 431, and headers that never end with 408;
`HEAD` is answered wherever `GET` is that changes nothing.
"""
TAGS: dict[str, str] = {
    content.TAG: "Polls attached to a piece of content. `/rest` and `/x1/{name}` with a "
    "query parameter `type` (`polls`, `votes` or `results`) are the same operations.",
    "Polls": "Polls of the polling API.",
    "Poll choices": "The options of a poll.",
    "Poll sessions": "Runs of a poll in a course.",
    "Poll submissions": "Votes in a session.",
    "Courses and users": "Who is in which course.",
    operating.TAG: "For who runs the service; needs no token.",
}
OPERATIONS: Operations = {**operating.OPERATIONS, **content.OPERATIONS, **polling.OPERATIONS}

WITH_TOKEN = (400, 403, 429, 500, 503)
"""What every request that needs a token may be answered with."""


class Undescribed(Exception):
    """The URL table and the descriptions disagree; the text says what to do."""


Table = Mapping[str, Iterable[str]]
"""Methods by path, as ``service.routes.ROUTES`` has them."""

_built: dict[int, bytes] = {}


def document(table: Table) -> bytes:
    """The document of ``table`` as JSON, built once."""
    if id(table) not in _built:
        _built[id(table)] = orjson.dumps(build(table))
    return _built[id(table)]


def build(table: Table) -> Json:
    """The document of ``table``; raises ``Undescribed``."""
    operations = OPERATIONS
    _require_agreement(table, operations)
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec(
        TITLE,
        version("polls-service"),
        "3.1.0",
        plugins=[plugin],
        info={"description": ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        # Relative to where the document is, so that it holds behind every proxy too.
        servers=[{"url": "."}],
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    converter = plugin.converter
    assert converter is not None  # noqa: S101 - APISpec has just set it
    converter.add_attribute_function(describe)  # type: ignore[no-untyped-call] # apispec's
    _add_components(spec, converter)
    for path in table:
        described = {
            method.lower(): _resolved(_operation(path, method, operations[path][method]), converter)
            for method in table[path]
        }
        spec.path(path, operations=described)
    built: Json = spec.to_dict()
    _add_descriptions(built["components"]["schemas"], converter)
    return built


def _require_agreement(table: Mapping[str, Iterable[str]], operations: Operations) -> None:
    routed = {(method, path) for path in table for method in table[path]}
    described = {(method, path) for path in operations for method in operations[path]}
    for method, path in sorted(routed - described):
        raise Undescribed(
            f"{method} {path} is routed and not described: write an Operation for it where its "
            "neighbours have theirs, in service/openapi/content.py, polling.py or operating.py."
        )
    for method, path in sorted(described - routed):
        raise Undescribed(f"{method} {path} is described in service/openapi and not routed.")


def _name(schema: Any) -> str:
    """What a schema is called in the document: by its class, unless two classes share a name."""
    cls = schema if isinstance(schema, type) else type(schema)
    name: str = cls.__name__.removesuffix("Schema")
    return f"Content{name}" if cls.__module__ == "schemas.content" else name


def _add_components(spec: APISpec, converter: OpenAPIConverter) -> None:
    for name, header in components.HEADERS.items():
        spec.components.header(name, header)
    for name, parameter in components.PARAMETERS.items():
        spec.components.parameter(name, parameter["in"], parameter)
    for status in components.REFUSALS:
        refusal = _resolved(components.refusal(status), converter)
        spec.components.response(components.refusal_name(status), refusal)
    for name, scheme in components.SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)


def _resolved(value: Any, converter: OpenAPIConverter) -> Any:
    """A copy with a reference in the place of every marshmallow schema, wherever it stands."""
    if isinstance(value, Schema):
        return converter.resolve_nested_schema(value)  # type: ignore[no-untyped-call] # apispec's
    if isinstance(value, Mapping):
        return {name: _resolved(item, converter) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(item, converter) for item in value]
    return value


def _add_descriptions(schemas: Json, converter: OpenAPIConverter) -> None:
    """What goes out is described by its schema's own words; what comes in tells of our insides."""
    for (schema, *_), name in converter.refs.items():
        schemas[name].update(BESIDES.get(schema, {}))
        text = inspect.cleandoc(schema.__doc__ or "")
        if schema.__module__ == "schemas.shown" and text:
            schemas[name]["description"] = text.replace("``", "`")


def _operation(path: str, method: str, operation: Operation) -> Json:
    needs_token = path not in PUBLIC
    in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters: list[Any] = [components.parameter_of_path(path, name) for name in in_path]
    parameters += operation.parameters
    described: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(path, method, operation),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": operation.body,
        }
    if needs_token:
        described["security"] = [{name: []} for name in components.SECURITY_SCHEMES]
        parameters.append("ActingFor")
        if path.startswith(API):
            parameters.append("Accept")
        if method == "POST":
            parameters.append("IdempotencyKey")
    described["parameters"] = [*parameters, "RequestId"]
    return described


def _responses(path: str, method: str, operation: Operation) -> Json:
    answer = operation.answer
    success: Json = {
        "description": answer.description,
        "headers": components.headers_of("X-Request-Id", *answer.headers),
    }
    if answer.content:
        success["content"] = answer.content
    if operation.leads_to:
        success["links"] = {
            name: {"operationId": name, "parameters": parameters}
            for name, parameters in operation.leads_to.items()
        }
    refusals = {*operation.refusals, *((404,) if "{" in path else ())}
    if path not in PUBLIC:
        refusals |= {*WITH_TOKEN}
        if operation.body is not None:
            refusals |= {408, 413, 415}
        if method == "POST":
            refusals.add(409)
    return {
        str(answer.status): success,
        **{str(status): components.refusal_name(status) for status in sorted(refusals)},
    }
