"""The OpenAPI document describes the service completely, and cannot drift from it."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from marshmallow import Schema
from openapi_spec_validator import OpenAPIV31SpecValidator
from pytest_aiohttp import AiohttpClient

import schemas
from schemas import responses
from schemas.fields import ReceivedSchema, StrictSchema
from schemas.polling import LenientSchema
from service.app import create_app
from service.openapi import descriptions, examples, explorer
from service.openapi.document import Undescribed, build
from service.openapi.names import component_name
from service.polling import enrollments
from service.polling.paths import API
from service.routes import ROUTES
from service.settings import Settings
from service.web.authentication import PUBLIC
from service.web.responses import Fault, problem
from storage.errors import Code
from tests.conftest import ADMIN, Client
from tests.support.documented import DOCUMENT, Documented, resolved, validator_of
from tests.support.polling import make_choice, make_poll, make_session
from tests.support.processes import Services
from tests.support.seeds import ISSUE, STARS, UNKNOWN, Json, a_poll, refused

BASES = {
    StrictSchema,
    ReceivedSchema,
    LenientSchema,
    responses.ShownSchema,
    responses.SessionMembers,
}


def operations() -> Iterator[tuple[str, str, Json]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def of_operations(*, with_token_only: bool = False) -> pytest.MarkDecorator:
    chosen = [
        pytest.param(method, path, operation, id=f"{method} {path}")
        for method, path, operation in operations()
        if operation["security"] or not with_token_only
    ]
    return pytest.mark.parametrize(("method", "path", "operation"), chosen)


on_every_operation = of_operations()


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(DOCUMENT).validate()


async def test_the_document_is_served_without_a_token(anonymous: Client) -> None:
    async with anonymous.get("/openapi.json") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        served = await answer.json()
    assert served == {**DOCUMENT, "servers": [{"url": str(anonymous.make_url("")).rstrip("/")}]}


async def test_the_document_names_the_server_that_answered(
    aiohttp_client: AiohttpClient, settings: Settings
) -> None:
    """Generated clients take it for their default."""
    url = "https://polls.example.com/of/all"
    client = await aiohttp_client(create_app(replace(settings, public_url=url)))
    async with client.get("/openapi.json") as answer:
        assert (await answer.json())["servers"] == [{"url": url}]


def test_the_command_prints_the_document_and_opens_no_store(services: Services) -> None:
    printed = services.run("openapi", POLLS_PUBLIC_URL="https://polls.example.com")
    assert printed.status == 0, printed.err
    servers = [{"url": "https://polls.example.com"}]
    assert json.loads(printed.out) == {**DOCUMENT, "servers": servers}
    assert not services.data_dir.exists()


def test_exactly_the_routes_are_described() -> None:
    routed = {(method, path) for path, methods in ROUTES.items() for method in methods}
    assert {(method, path) for method, path, _ in operations()} == routed


def test_a_route_without_a_description_says_where_to_write_it() -> None:
    with pytest.raises(Undescribed, match=r"PATCH /new is routed but not .*openapi/content"):
        build({**ROUTES, "/new": {"PATCH": explorer.show_page}})
    without = {path: methods for path, methods in ROUTES.items() if path != "/healthz"}
    with pytest.raises(Undescribed, match="GET /healthz is described in service/openapi but not"):
        build(without)


@on_every_operation
def test_every_handler_has_a_docstring_for_a_summary(
    method: str, path: str, operation: Json
) -> None:
    assert operation["summary"], f"{ROUTES[path][method]} has no docstring"


@on_every_operation
def test_each_operation_says_who_may_call_it_and_what_it_does_not_do(
    method: str, path: str, operation: Json
) -> None:
    description = operation["description"]
    assert description.startswith("For "), f"{method} {path}: {description}"
    assert re.search(r"\. Does not [a-z]", description), f"{method} {path}: {description}"


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_each_property_has_a_sentence(name: str) -> None:
    properties = DOCUMENT["components"]["schemas"][name].get("properties", {})
    for member, described in properties.items():
        assert re.fullmatch(r"[A-Z`][^.]*(\.[^ ][^.]*)*\.", described["description"]), member


def test_only_members_that_there_are_have_a_description() -> None:
    for schema, members in descriptions.MEMBERS.items():
        assert members.keys() <= schema._declared_fields.keys(), schema


def every_schema() -> Iterator[type[Schema]]:
    for module in pkgutil.iter_modules(schemas.__path__):
        for value in vars(importlib.import_module(f"schemas.{module.name}")).values():
            is_schema = isinstance(value, type) and issubclass(value, Schema)
            if is_schema and value.__module__.startswith("schemas.") and value not in BASES:
                yield value


@pytest.mark.parametrize("schema", sorted(set(every_schema()), key=str))
def test_every_member_of_every_schema_is_in_the_document(schema: type[Schema]) -> None:
    # Each kind of problem has a schema of its own, with its codes.
    is_problem = schema is responses.ProblemSchema
    name = "InvalidRequest" if is_problem else component_name(schema)
    described = DOCUMENT["components"]["schemas"][name]
    members = schema().fields
    assert described["properties"].keys() == members.keys()
    required = {name for name, field in members.items() if field.required}
    assert set(described.get("required", ())) == required


def test_operation_ids_are_unique_and_tags_are_known() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for _, _, operation in operations():
        assert set(operation["tags"]) <= tags


def parameters_of(operation: Json) -> set[str]:
    """Like ``path.poll_id``."""
    described = [resolved(one) for one in operation["parameters"]]
    return {f"{one['in']}.{one['name']}" for one in described}


def test_every_link_names_an_operation_and_parameters_of_it() -> None:
    parameters = {one["operationId"]: parameters_of(one) for _, _, one in operations()}
    links = [
        link
        for _, _, operation in operations()
        for link in operation["responses"].get("200", {}).get("links", {}).values()
    ]
    assert len(links) > 10
    for link in links:
        assert link["parameters"].keys() <= parameters[link["operationId"]], link


@on_every_operation
def test_every_parameter_of_the_path_is_described(method: str, path: str, operation: Json) -> None:
    described = [resolved(one) for one in operation["parameters"]]
    names = [one["name"] for one in described if one["in"] == "path"]
    assert names == [part[1:-1] for part in path.split("/") if part.startswith("{")], method
    assert all(one["description"] for one in described)


@on_every_operation
def test_operations_that_need_a_token_say_so(method: str, path: str, operation: Json) -> None:
    assert bool(operation["security"]) == (path not in PUBLIC), method
    may_be_refused = path not in PUBLIC or "{link}" in path
    assert ("403" in operation["responses"]) == may_be_refused


def contents(operation: Json) -> Iterator[Json]:
    yield from operation.get("requestBody", {}).get("content", {}).values()
    for response in operation["responses"].values():
        yield from resolved(response).get("content", {}).values()


@on_every_operation
def test_every_example_is_valid(method: str, path: str, operation: Json) -> None:
    for media in contents(operation):
        shown_examples = [one["value"] for one in media.get("examples", {}).values()]
        for example in [*shown_examples, *([media["example"]] if "example" in media else [])]:
            error = next(validator_of(media["schema"]).iter_errors(example), None)
            assert error is None, f"{method} {path}: {error}"


def parts_of(schema: Any) -> Iterator[Json]:
    """A schema and all those within it, without conditions."""
    if isinstance(schema, list):
        for part in schema:
            yield from parts_of(part)
    elif isinstance(schema, dict):
        yield schema
        for name, part in schema.items():
            if name not in ("if", "then", "example", "examples"):
                yield from parts_of(part)


def test_schemas_have_nothing_that_generators_of_clients_trip_over() -> None:
    """``make test-clients`` generates some: without a type, with a wrong one, or with a warning."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for part in parts_of(schema):
            tripping = {"allOf", "oneOf", "const", "prefixItems", "default", "writeOnly"}
            assert not tripping & part.keys(), name


@on_every_operation
def test_objects_have_names_in_the_document(method: str, path: str, operation: Json) -> None:
    for media in contents(operation):
        shape = media["schema"]
        shape = shape.get("items", shape)
        is_named = "$ref" in shape or path in PUBLIC
        assert is_named or shape == {"type": "string"}, f"{method} {path}"


@on_every_operation
def test_each_body_has_one_form(method: str, path: str, operation: Json) -> None:
    if "requestBody" in operation:
        kind = "application/json" if operation["security"] else "application/x-www-form-urlencoded"
        kind = "application/x-ndjson" if path == "/rest/import" else kind
        assert [*operation["requestBody"]["content"]] == [kind], f"{method} {path}"


def test_the_examples_are_those_of_the_source_apis() -> None:
    assert examples.STARS == STARS
    create = DOCUMENT["paths"]["/rest/polls"]["post"]["requestBody"]["content"]["application/json"]
    assert create["example"] == STARS


# Statuses --------------------------------------------------------------------------------------


async def address(api: Client, path: str, operation: Json) -> tuple[str, dict[str, str]]:
    """The URL and the query of something that is there."""
    poll = await make_poll(api)
    choice = await make_choice(api, poll["id"], text="yes")
    session = await make_session(api, poll["id"])
    ids = {"poll_choices": choice["id"], "poll_sessions": session["id"]}
    for name, number in ids.items():
        path = path.replace(f"{name}/{{id}}", f"{name}/{number}")
    path = path.replace("{poll_id}", str(poll["id"])).replace(
        "{poll_session_id}", str(session["id"])
    )
    path = path.replace("{course_id}", "1").replace("{id}", "1").replace("{name}", "bot")
    query: dict[str, str] = {}
    if any(resolved(one)["name"] == "workspace" for one in operation["parameters"]):
        async with api.post("/rest/polls", params=ISSUE, json=a_poll()) as answer:
            query = {**ISSUE, "pollId": (await answer.json())["id"]}
        del query["type"]
    elif any(
        one["name"] == "pollId" and one.get("required")
        for one in map(resolved, operation["parameters"])
    ):
        async with api.post("/rest/polls", params=ISSUE, json=a_poll()) as answer:
            query = {"pollId": (await answer.json())["id"]}
    return path, query


@of_operations(with_token_only=True)
async def test_the_refusals_of_the_document_are_those_of_the_service(
    api: Client, anonymous: Client, method: str, path: str, operation: Json
) -> None:
    documented = {int(status) for status in operation["responses"]}
    url, query = await address(api, path, operation)
    await refused(await anonymous.request(method, url, params=query), 403)
    acting = {**query, "as_user_id": "0"}
    await refused(await api.request(method, url, params=acting), 400, ["as_user_id"])
    assert {400, 403, 429, 500, 503} <= documented
    if "requestBody" in operation:
        large = BytesIO(b"x" * (2**20 + 1))
        if path != "/rest/import":  # which bounds each line
            await refused(await api.request(method, url, params=query, data=large), 413)
        await refused(await api.request(method, url, params=query, data=b"x"), 415)
    assert ({408, 415} <= documented) == ("requestBody" in operation)
    assert (413 in documented) == ("requestBody" in operation and path != "/rest/import")
    if query:
        gone = {**query, "pollId": UNKNOWN}
        if (method, path) != ("POST", "/rest/polls"):
            await refused(await api.request(method, url, params=gone), 404)
    elif "{" in path:
        nowhere = re.sub("{[a-z_]+}", "0", path)
        parameters = [resolved(one) for one in operation["parameters"]]
        required = {
            one["name"]: one["schema"]["enum"][0]
            for one in parameters
            if one["in"] == "query" and one.get("required")
        }
        await refused(await api.request(method, nowhere, params=required), 404)
    names_one = bool(query) and (method, path) != ("POST", "/rest/polls")
    assert (404 in documented) == (names_one or "{" in path)
    changes_a_poll = method in ("PUT", "DELETE") and path.endswith(
        ("/polls", "/polls/{poll_id}", "/poll_choices/{id}")
    )
    if changes_a_poll:
        stale: dict[str, Any] = {"headers": {"If-Match": '"0-0"'}, "params": query}
        if method == "PUT":
            stale["json"] = {
                "/rest/polls": a_poll(),
                f"{API}/polls/{{poll_id}}": {"polls": [{"question": "?"}]},
            }.get(path, {"poll_choices": [{"text": "?"}]})
        await refused(await api.request(method, url, **stale), 412)
    assert (412 in documented) == changes_a_poll
    if method == "POST" and path != "/rest/import":
        assert 409 in documented  # the key of another request


async def test_an_answer_outside_the_document_would_be_noticed(
    aiohttp_client: AiohttpClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, documented = create_app(settings), Documented()
    app.on_response_prepare.append(documented.look)
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {ADMIN}"})
    user = f"{API}/users/7"
    for shown_user, answer in [
        ({"id": 7, "name": "User 7"}, web.json_response),
        ({"id": 7}, web.json_response),
        ({"id": "7", "name": "User 7"}, web.json_response),
        ({"id": 7, "name": "User 7", "more": 1}, web.json_response),
        ({}, lambda _: web.Response(text="User 7")),
        ({}, lambda _: web.Response(status=202)),
        ({}, lambda _: problem(400, [Fault(None, "x")], code=Code.ALREADY_VOTED)),
        ({}, lambda _: problem(400, [Fault(None, "x")], code=Code.INVALID_REQUEST)),
    ]:
        monkeypatch.setattr(
            enrollments,
            "polling_response",
            lambda *_, shown_user=shown_user, answer=answer: answer(shown_user),
        )
        await client.get(user)
    assert len(documented.faults) == 6, documented.faults
