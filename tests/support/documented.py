"""Checks answers of the service against the OpenAPI document."""

import json
from functools import cache
from typing import Any

import jsonschema_rs
from aiohttp import web
from aiohttp.web_urldispatcher import Resource

from schemas.fields import parse_id
from service.openapi.document import build
from service.polling.responses import STRING_IDS
from service.routes import ROUTES

Json = dict[str, Any]
DOCUMENT: Json = build(ROUTES)


def resolved(part: Json) -> Json:
    """The target of a reference, or the part itself."""
    found: Any = part
    while "$ref" in found:
        names = found["$ref"].removeprefix("#/").split("/")
        found = DOCUMENT
        for name in names:
            found = found[name]
    return dict(found)


def response_of(path: str, method: str, status: int) -> Json | None:
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    return resolved(responses[str(status)]) if str(status) in responses else None


@cache
def validator(path: str, method: str, status: int, kind: str) -> jsonschema_rs.Validator:
    response = response_of(path, method, status)
    assert response is not None
    return validator_of(response["content"][kind]["schema"])


def validator_of(schema: Json) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, validate_formats=True
    )


def with_numbers(data: Any) -> Any:
    """``data`` with numbers for ids that are text, as some clients ask for; a choice's may be."""
    if isinstance(data, list):
        return [with_numbers(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        name: int(value) if is_number(name, value) else with_numbers(value)
        for name, value in data.items()
    }


def is_number(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if (name, value) == ("user_id", "0"):  # which no other id is
        return True
    return (name == "id" or name.endswith("_id")) and parse_id(value) is not None


class Documented:
    """Checks every answer of an application; ``faults`` are what the document does not describe.

    Also that an answer says how it may be cached, and that one tag never names two bodies.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._tagged: dict[tuple[str, str], str | None] = {}

    async def look(self, request: web.Request, response: web.StreamResponse) -> None:
        """A receiver of ``on_response_prepare``."""
        resource = request.match_info.route.resource
        if not isinstance(resource, Resource):
            return  # the router's own 404 and 405
        method = "GET" if request.method == "HEAD" else request.method
        accepted = request.headers.getall("Accept", ())
        is_as_text = any(STRING_IDS in line.lower() for line in accepted)
        fault = self._fault(resource.canonical, method, response, is_as_text=is_as_text)
        fault = fault or self._caching_fault(request, resource.canonical, response)
        if fault is not None:
            self.faults.append(f"{method} {resource.canonical}: {fault}")

    def _fault(
        self, path: str, method: str, response: web.StreamResponse, *, is_as_text: bool
    ) -> str | None:
        described = response_of(path, method, response.status)
        if described is None:
            return f"the status {response.status} is not documented"
        for name, header in described["headers"].items():
            if resolved(header).get("required") and name not in response.headers:
                return f"{response.status} without {name}"
        body = response.body if isinstance(response, web.Response) else None
        kind = response.content_type
        if "content" not in described:
            return f"{response.status} with a body" if body else None
        if kind not in described["content"]:
            return f"{response.status} is {kind}"
        if kind.endswith("json") and isinstance(body, bytes):
            data = with_numbers(json.loads(body)) if is_as_text else json.loads(body)
            found = validator(path, method, response.status, kind).iter_errors(data)
            return next((f"{response.status}: {error}" for error in found), None)
        return None

    def _caching_fault(
        self, request: web.Request, path: str, response: web.StreamResponse
    ) -> str | None:
        told = (response.headers["Cache-Control"], response.headers.get("Vary"))
        tag = response.headers.get("ETag")
        if tag is not None and request.method in ("GET", "HEAD"):
            if told != ("private, no-cache", "Accept, Authorization"):
                return f"{told} beside a tag"
            if response.status == 200 and isinstance(response, web.Response):
                place = (request.path_qs, tag)
                if self._tagged.setdefault(place, response.text) != response.text:
                    return f"{tag} names two answers"
        elif told != ("no-store", None) and not path.startswith(
            ("/docs", "/openapi.json", "/pages")
        ):
            return f"{told}"
        return None
