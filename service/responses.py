"""What goes out: JSON, and one body for every error."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from service import views
from storage.documents import PollDocument, revision

JSON_HEADERS = {"Content-Type": "application/json; charset=utf-8"}
PROBLEM_TYPE = "application/problem+json"


class Fault(NamedTuple):
    """One thing that is wrong with a request; ``field`` is its path, None for the whole of it."""

    field: str | None
    message: str


def json_response(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    headers = JSON_HEADERS if headers is None else {**JSON_HEADERS, **headers}
    return web.Response(body=orjson.dumps(data), status=status, headers=headers)


def entity_tag(poll: PollDocument) -> dict[str, str]:
    """The ``ETag`` of a single poll: the revision of its definition, unmoved by votes."""
    return {"ETag": f'"{revision(poll)}"'}


def content_poll_response(poll: PollDocument) -> web.Response:
    return json_response(views.content_poll(poll), headers=entity_tag(poll))


def problem(
    status: int, faults: Iterable[Fault], *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """The body of RFC 9457, with the ``errors`` list that clients of the polling API read."""
    errors = [fault._asdict() for fault in faults]
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": errors[0]["message"],
        "errors": errors,
    }
    response = web.Response(body=orjson.dumps(body), status=status, headers=headers)
    response.content_type = PROBLEM_TYPE
    return response


STRING_IDS = "application/json+canvas-string-ids"


def polling_response(
    request: web.Request, data: Any, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An answer of the polling API, with the ids that the client accepts."""
    return json_response(accepted_ids(request, data), headers=headers)


def accepted_ids(request: web.Request, data: Any) -> Any:
    """``data``, where every id is a string if the client accepts only that."""
    return _with_string_ids(data) if STRING_IDS in request.headers.get("Accept", "") else data


def _with_string_ids(data: Any) -> Any:
    if isinstance(data, list):
        return [_with_string_ids(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        name: str(value)
        if (name == "id" or name.endswith("_id")) and isinstance(value, int)
        else _with_string_ids(value)
        for name, value in data.items()
    }
