"""The OpenAPI document, derived from the routes, their handlers, schemas and operations."""

import inspect
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema

from schemas.responses import ProblemSchema
from service.openapi import audit, components, content, live, monitoring, people, polling, tokens
from service.openapi.fields import CONDITIONS, USER_ID, describe
from service.openapi.live import HTML, TEXT
from service.openapi.names import component_name
from service.openapi.operation import (
    Answer,
    Either,
    Envelope,
    Json,
    OneOrSeveral,
    Operation,
    Operations,
)
from service.web.authentication import PUBLIC
from service.web.bodies import JSON
from service.web.lines import NDJSON
from service.web.responses import STATUS_CODES
from storage.errors import Code

TITLE = "Polls service"
SERVER = "http://127.0.0.1:8080"
"""Where the service is unless told otherwise; ``service.app.document`` says where it is."""
ABOUT = """\
Polls attached to content, run in sessions, counted exactly.

There are two APIs over one store: the content API under `/rest` and the polling API under
`/api/v1`. A poll created through one is available through the other: what `/rest` calls `title`,
`options` and `order` are `question`, choices and `position` under `/api/v1`.

Existing clients work unchanged. What only they use is not described here: `/rest` and `/x1/{name}`
with the query parameter `type`; bodies of the polling API as forms, and with the object itself in
place of the list; ids as strings with `Accept: application/json+canvas-string-ids`.

Every error is a problem document (RFC 9457) whose `errors` name each invalid member by its path,
and whose `code` tells apart what shares a status. A code keeps its meaning; the texts may change. A
missing or invalid token is answered with 403, never with 401. Every response has `X-Request-Id`.
Besides the responses listed for each operation, an unknown route is answered with 404, an
unsupported method with 405 and `Allow`, malformed HTTP with 400, headers that are too large with
431, and headers that do not arrive in time with 408. `HEAD` works wherever `GET` does, except where
`GET` opens or closes a session.
"""
CONTENT_POLLS = (
    "Polls attached to a piece of content. `/rest` and `/x1/{name}` with the query parameter "
    "`type` (`polls`, `votes` or `results`) offer the same operations."
)
TAGS: dict[str, tuple[str, str]] = {
    "service.content": ("Content polls", CONTENT_POLLS),
    "service.polling.polls": ("Polls", "Polls of the polling API."),
    "service.polling.choices": ("Poll choices", "The options of a poll."),
    "service.polling.sessions": ("Poll sessions", "Runs of a poll in a course."),
    "service.polling.submissions": ("Poll submissions", "Votes in a session."),
    "service.live": ("Pages", "The pages of polls, for people with a link."),
    "service.polling.enrollments": ("Courses and users", "Who is enrolled in which course."),
    "service.tokens": ("Tokens", "Who may do what, for how long. For admins."),
    "service.people": ("Data of users", "What is held of a user, and its erasure."),
    "service.audit": ("Audit", "Who changed what. For admins."),
    "service": ("Operation", "For operators of the service. No token is needed."),
}
"""Name and description, by the module or the package of the handler."""
OPERATIONS: Operations = {
    **monitoring.OPERATIONS,
    **content.OPERATIONS,
    **polling.OPERATIONS,
    **live.OPERATIONS,
    **tokens.OPERATIONS,
    **people.OPERATIONS,
    **audit.OPERATIONS,
}


class Undescribed(Exception):
    """The routes and the descriptions disagree; the message says what to do."""


Table = Mapping[str, Mapping[str, Callable[..., Any]]]
"""Handlers by path and method, like ``service.routes.ROUTES``."""


def build(table: Table) -> Json:
    """The document of ``table``; raises ``Undescribed``."""
    _require_agreement(table)
    plugin = MarshmallowPlugin(schema_name_resolver=component_name)
    spec = APISpec(
        TITLE,
        version("polls-service"),
        "3.1.0",
        plugins=[plugin],
        info={"description": _markdown(ABOUT), "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": SERVER}],
        tags=[{"name": name, "description": text} for name, text in TAGS.values()],
        components={
            "headers": components.HEADERS,
            "parameters": components.PARAMETERS,
            "securitySchemes": components.SECURITY_SCHEMES,
        },
    )
    converter = plugin.converter
    assert converter is not None  # noqa: S101 - APISpec has just set it
    converter.add_attribute_function(describe)  # type: ignore[no-untyped-call] # apispec's
    spec.components.schema("UserId", USER_ID)
    for name, (status, codes) in _all_refusals().items():
        shape: Json = converter.schema2jsonschema(ProblemSchema())  # type: ignore[no-untyped-call] # apispec's
        spec.components.schema(name, components.problem(shape, codes))
        spec.components.response(name, components.refusal(name, status))
    for path, handlers in table.items():
        described = {
            method.lower(): _resolved(_operation(path, method, handler), converter)
            for method, handler in handlers.items()
        }
        spec.path(path, operations=described)
    built: Json = spec.to_dict()
    _complete_schemas(built["components"]["schemas"], converter)
    return built


def _require_agreement(table: Table) -> None:
    routed = {f"{method} {path}" for path in table for method in table[path]}
    for route in sorted(routed - OPERATIONS.keys()):
        raise Undescribed(
            f"{route} is routed but not described: add an Operation beside its neighbours in "
            "service/openapi/content.py, polling.py, tokens.py or monitoring.py."
        )
    for route in sorted(OPERATIONS.keys() - routed):
        raise Undescribed(f"{route} is described in service/openapi but not routed.")


def _resolved(value: Any, converter: OpenAPIConverter) -> Any:
    """A copy with a reference in place of every marshmallow schema and envelope, at any depth."""
    if isinstance(value, Schema):
        return converter.resolve_nested_schema(value)  # type: ignore[no-untyped-call] # apispec's
    if isinstance(value, Envelope):
        return _enveloped(value, converter)
    if isinstance(value, OneOrSeveral):
        return _one_or_several(value, converter)
    if isinstance(value, Either):
        return _either(value, converter)
    if isinstance(value, Mapping):
        return {name: _resolved(item, converter) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(item, converter) for item in value]
    return value


def _enveloped(envelope: Envelope, converter: OpenAPIConverter) -> Json:
    components = converter.spec.components
    if envelope.name not in components.schemas:
        shape: Json = {
            "type": "object",
            "properties": {
                envelope.member: {
                    **_resolved(envelope.content, converter),
                    "description": envelope.description,
                }
            },
            "required": [envelope.member],
        }
        closed = {"additionalProperties": False} if envelope.is_closed else {}
        components.schema(envelope.name, {**shape, **closed})
    return {"$ref": f"#/components/schemas/{envelope.name}"}


def _one_or_several(shape: OneOrSeveral, converter: OpenAPIConverter) -> Json:
    one = _resolved(shape.content, converter)
    several = {"type": "array", "items": one, "minItems": 2, "maxItems": shape.most}
    converter.spec.components.schema(shape.name, {"anyOf": [one, several]})
    return {"$ref": f"#/components/schemas/{shape.name}"}


def _either(shape: Either, converter: OpenAPIConverter) -> Json:
    components = converter.spec.components
    if shape.name not in components.schemas:
        either = [_resolved(one, converter) for one in shape.shapes]
        components.schema(shape.name, {"anyOf": either})
    return {"$ref": f"#/components/schemas/{shape.name}"}


def _complete_schemas(schemas: Json, converter: OpenAPIConverter) -> None:
    """Adds conditions, and the docstrings of output schemas: those of input are for developers."""
    for (schema, *_), name in converter.refs.items():
        schemas[name].update(CONDITIONS.get(schema, {}))
        if schema.__module__ == "schemas.responses" and schema.__doc__:
            schemas[name]["description"] = _markdown(schema.__doc__)


def _markdown(docstring: str) -> str:
    """With one line for each paragraph: viewers may show line breaks."""
    text = inspect.cleandoc(docstring).replace("``", "`")
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)


def _operation(path: str, method: str, handler: Callable[..., Any]) -> Json:
    operation = OPERATIONS[f"{method} {path}"]
    summary, _, description = _markdown(handler.__doc__ or "").partition("\n\n")
    module = f"{handler.__module__}."
    described: Json = {
        "operationId": operation.id,
        "summary": summary.removesuffix("."),
        "tags": [next(tag for name, (tag, _) in TAGS.items() if module.startswith(f"{name}."))],
        "parameters": _parameters(path, method, operation),
        "responses": _responses(path, method, operation),
    }
    if description:
        described["description"] = description
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": operation.body}
    schemes = () if path in PUBLIC else components.SECURITY_SCHEMES
    described["security"] = [{name: []} for name in schemes]
    return described


def _parameters(path: str, method: str, operation: Operation) -> list[Json | str]:
    parameters: list[Json | str] = [*components.path_parameters(path), *operation.parameters]
    if "Link" in operation.answer.headers and "cursor" not in operation.parameters:
        parameters += ["page", "per_page"]
    if path not in PUBLIC:
        parameters.append("as_user_id")
        if method == "POST" and operation.takes_key:
            parameters.append("Idempotency-Key")
    if _is_revalidated(method, operation):
        parameters.append("If-None-Match")
    return [*parameters, "X-Request-Id"]


def _is_revalidated(method: str, operation: Operation) -> bool:
    return method == "GET" and "ETag" in operation.answer.headers


def _responses(path: str, method: str, operation: Operation) -> Json:
    answer = operation.answer
    success: Json = {
        "description": answer.description,
        "headers": components.headers_of(*answer.headers),
    }
    if answer.content:
        success["content"] = answer.content
    is_creation = method == "POST" and path not in PUBLIC and JSON in answer.content
    links = {**operation.links, **(_links(path, answer) if is_creation else {})}
    if links:
        success["links"] = {
            name: {"operationId": name, "parameters": parameters}
            for name, parameters in links.items()
        }
    unmodified = {"description": "Not modified.", "headers": components.headers_of("ETag")}
    return {
        str(answer.status or (200 if answer.content else 204)): success,
        **({"304": unmodified} if _is_revalidated(method, operation) else {}),
        **{str(status): _page(status, text) for status, text in operation.pages.items()},
        **{
            str(status): components.refusal_name(operation.id, status, codes)
            for status, codes in _refusals(f"{method} {path}", operation).items()
        },
    }


def _page(status: int, description: str) -> Json:
    names = ("Retry-After",) if status in (429, 503) else ()
    headers = components.headers_of(*names)
    return {"description": description, "headers": headers, "content": {HTML: TEXT}}


def _links(path: str, created: Answer) -> dict[str, dict[str, str]]:
    """To the operations on what was created: their paths add its id or name, and no other."""
    shape = created.content[JSON]["schema"]
    place = f"/{shape.member}/0" if isinstance(shape, Envelope) else ""
    known = {f"path.{name}": f"$request.path.{name}" for name in _ids(path)}
    return {
        operation.id: {
            **known,
            f"path.{_ids(route)[-1]}": (
                f"$response.body#{place}/{'name' if path == '/tokens' else 'id'}"
            ),
        }
        for route, operation in OPERATIONS.items()
        if f" {path}/{{" in route and len(_ids(route)) == len(known) + 1
    }


def _ids(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _all_refusals() -> dict[str, tuple[int, frozenset[Code]]]:
    """Status and codes by name, of all operations."""
    return {
        components.refusal_name(operation.id, status, codes): (status, codes)
        for route, operation in OPERATIONS.items()
        for status, codes in _refusals(route, operation).items()
    }


def _refusals(route: str, operation: Operation) -> dict[int, frozenset[Code]]:
    """The codes by status: those of the operation, and those that follow from what it takes."""
    method, path = route.split()
    takes = {*operation.parameters}
    statuses: set[int] = set()
    refusals = [operation.refusals]
    if ("{" in path and not operation.pages) or takes & {"pollId", "onlyPollId"}:
        refusals.append({404: (Code.NOT_FOUND,)})
    if path not in PUBLIC:
        statuses |= {400, 403, 429, 500, 503}
        refusals.append({403: (Code.TOKEN_REQUIRED, Code.BAD_TOKEN)})
        if method != "GET" and not operation.is_safe:
            refusals.append({503: (Code.OUTCOME_UNKNOWN,)})
        if method == "POST" and operation.takes_key:
            refusals.append({409: (Code.IDEMPOTENCY_KEY_REUSED,)})
    if operation.body is not None and path not in PUBLIC:
        # A line that is too large is refused by itself.
        statuses |= {408, 415} if NDJSON in operation.body else {408, 413, 415}
    if "If-Match" in takes:
        statuses.add(412)
    refusals.append({status: (STATUS_CODES[status],) for status in statuses})
    return {
        status: frozenset(code for codes in refusals for code in codes.get(status, ()))
        for status in sorted({status for codes in refusals for status in codes})
    }
