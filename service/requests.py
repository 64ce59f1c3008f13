"""Reading queries and headers; ``bodies`` reads what comes after them.

A fault raises marshmallow's ``ValidationError``; messages are predicates, the path of the member is
put before them where the answer is made.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from marshmallow import ValidationError

from service import keys
from storage.documents import ContainerKey
from storage.polls import Revisions

ISSUE_KEY = re.compile(r"[A-Z][A-Z0-9_]*-[0-9]+", re.ASCII)
ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"')

TOKEN_PARAMETERS = ("token", "access_token")
MAX_SHOWN = 200
"""So much of a path is repeated: a member's name may be a megabyte long."""
BODY = "body"
"""What a fault of the body as a whole is filed under."""


@dataclass(frozen=True, slots=True)
class ContentQuery:
    """The query of the content API: where, which poll, and whether with results."""

    key: ContainerKey
    poll_id: str | None
    expands_results: bool


def parse_query(request: web.BaseRequest) -> list[tuple[str, str]]:
    """All parameters in order. Bytes that are no UTF-8 become surrogates, which no check passes."""
    return parse_qsl(request.rel_url.raw_query_string, True, errors="surrogateescape")


def read_content_query(
    request: web.Request, kind: str = "polls", *, needs_poll: bool = False
) -> ContentQuery:
    """The container, and the poll where ``pollId`` is there; one fault for each bad parameter.

    ``kind`` is the ``type`` that the handler is for, ``needs_poll`` that ``pollId`` must be there.
    """
    query = request[keys.QUERY]
    faults: dict[str, Any] = {}
    given = _read_parameter(query, "type", faults)
    workspace = _read_parameter(query, "workspace", faults)
    content = _read_parameter(query, "content", faults)
    poll_id = _read_parameter(query, "pollId", faults, required=needs_poll)
    container = _read_container(query, content, faults)
    if given not in (None, kind):
        faults["type"] = ["must be polls or votes, and votes cannot be put"]
    expand = _read_parameter(query, "expand", faults, required=False)
    if expand not in (None, "results"):
        faults["expand"] = ["must be results"]
    if faults:
        raise ValidationError(faults)
    key = ContainerKey(workspace or "", content or "", container or "")
    poll_id = poll_id.lower() if poll_id is not None else None
    return ContentQuery(key, poll_id, expands_results=expand is not None)


def read_poll_address(request: web.Request, kind: str = "polls") -> tuple[ContainerKey, str]:
    """Like ``read_content_query``, where ``pollId`` must be there."""
    query = read_content_query(request, kind, needs_poll=True)
    return query.key, query.poll_id or ""


def _read_container(
    query: list[tuple[str, str]], content: str | None, faults: dict[str, Any]
) -> str | None:
    """Issues have no containers, everything else does."""
    if content is not None and ISSUE_KEY.fullmatch(content):
        containers = [value for name, value in query if name == "container"]
        if any(containers) or len(containers) > 1:
            faults["container"] = ["must be empty, and given once, for an issue"]
        return ""
    return _read_parameter(query, "container", faults, required=content is not None)


def _read_parameter(
    query: list[tuple[str, str]],
    name: str,
    faults: dict[str, Any],
    *,
    required: bool = True,
) -> str | None:
    values = [value for key, value in query if key == name]
    if not values:
        if required:
            faults[name] = ["is missing"]
        return None
    value = values[0]
    if len(values) > 1:
        faults[name] = ["must be given once"]
    elif not value:
        faults[name] = ["must not be empty"]
    elif len(value) > 255:
        faults[name] = ["must have at most 255 characters"]
    elif not value.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        faults[name] = ["must be UTF-8 without control characters"]
    else:
        return value
    return None


def read_if_match(request: web.Request) -> Revisions | None:
    """The revisions of ``If-Match``; None where any will do.

    A weak tag matches nothing (RFC 9110, 13.1.1), and neither does one that is malformed.
    """
    headers = request.headers.getall("If-Match", [])
    if not headers or headers == ["*"]:
        return None
    tags = ENTITY_TAG.findall(",".join(headers))
    return frozenset(tag for weak, tag in tags if not weak)


def field_faults(messages: Mapping[Any, Any] | list[Any], path: str = "") -> list[tuple[str, str]]:
    """Flattens marshmallow's messages to pairs of path, as ``options[2].title``, and sentence."""
    if isinstance(messages, list):
        field = (path or BODY)[:MAX_SHOWN]
        return [(field, f"{field} {message}") for message in messages]
    faults: list[tuple[str, str]] = []
    for member, below in messages.items():
        if member == "_schema":
            place = path
        elif isinstance(member, int):
            place = f"{path}[{member}]"
        else:
            place = f"{path}.{member}" if path else str(member)
        faults += field_faults(below, place)
    return faults
