"""Responses of the polling API. Clients choose whether ids are numbers or strings."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from service.web.conditional import revalidate, tag_of
from service.web.responses import json_response

STRING_IDS = "application/json+canvas-string-ids"
COUNTED = frozenset({"results", "result_shares", "total_results"})
"""Members whose own members are named by the ids of options, whatever these look like."""


def polling_response(
    request: web.Request, data: Any, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON response with ids in the form that ``Accept`` asks for."""
    return json_response(accepted_ids(request, data), headers=headers)


def revalidated(
    request: web.Request, parts: tuple[Any, ...], *, revision: str | None = None
) -> dict[str, str]:
    """As ``conditional.revalidate``, for an answer that is made of ``parts`` (``validators``).

    An answer about the definition of a poll names its ``revision``, for ``If-Match``.
    """
    return revalidate(request, tag_of(parts, _takes_string_ids(request), revision=revision))


def accepted_ids(request: web.Request, data: Any) -> Any:
    """``data``, with every id as a string if ``Accept`` asks for that."""
    return _with_string_ids(data) if _takes_string_ids(request) else data


def _takes_string_ids(request: web.Request) -> bool:
    accepted = request.headers.getall("Accept", ())
    return any(STRING_IDS in line.lower() for line in accepted)


def _with_string_ids(data: Any) -> Any:
    if isinstance(data, list):
        return [_with_string_ids(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {name: _member_with_string_ids(name, value) for name, value in data.items()}


def _member_with_string_ids(name: str, value: Any) -> Any:
    if name in COUNTED:
        return value
    if isinstance(value, int) and (name == "id" or name.endswith("_id")):
        return str(value)
    if isinstance(value, list) and name.endswith("_ids"):
        return [str(item) for item in value]
    return _with_string_ids(value)
