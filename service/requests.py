"""Reading what came in: query, path, headers, body.

A fault of the query or the body raises marshmallow's ``ValidationError``; messages are predicates,
the path of the member is put before them where the answer is made.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from marshmallow import ValidationError

from schemas.polls import NEW_POLL, POLL_REPLACEMENT
from service import keys
from service.principal import MAX_ID
from storage.documents import ContainerKey, PollDefinition
from storage.idempotency import IdempotencyKey
from storage.polls import Revisions

ISSUE_KEY = re.compile(r"[A-Z][A-Z0-9_]*-[0-9]+", re.ASCII)
WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"')
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")

TOKEN_PARAMETERS = ("token", "access_token")
BODY = "body"
"""What a fault of the body as a whole is filed under."""


@dataclass(frozen=True, slots=True)
class ContentQuery:
    """The query of the content API: where, and which poll."""

    key: ContainerKey
    poll_id: str | None


def parse_query(request: web.BaseRequest) -> list[tuple[str, str]]:
    """All parameters in order. Bytes that are no UTF-8 become surrogates, which no check passes."""
    return parse_qsl(request.rel_url.raw_query_string, True, errors="surrogateescape")


def parse_id(text: str) -> int | None:
    """A whole number from 1 to 2^53-1, in digits alone; None for everything else."""
    if WHOLE_NUMBER.fullmatch(text) and int(text) <= MAX_ID:
        return int(text)
    return None


def read_content_query(request: web.Request) -> ContentQuery:
    """The container, and the poll where ``pollId`` is there; one fault for each bad parameter."""
    query = request[keys.QUERY]
    faults: dict[str, Any] = {}
    kind = _read_parameter(query, "type", faults)
    workspace = _read_parameter(query, "workspace", faults)
    content = _read_parameter(query, "content", faults)
    poll_id = _read_parameter(query, "pollId", faults, required=False)
    container = _read_container(query, content, faults)
    if kind not in (None, "polls"):
        faults["type"] = ["must be polls"]
    if faults:
        raise ValidationError(faults)
    key = ContainerKey(workspace or "", content or "", container or "")
    return ContentQuery(key, poll_id.lower() if poll_id is not None else None)


def read_poll_address(request: web.Request) -> tuple[ContainerKey, str]:
    """Like ``read_content_query``, where ``pollId`` must be there."""
    query = read_content_query(request)
    if query.poll_id is None:
        raise ValidationError("is missing", "pollId")
    return query.key, query.poll_id


def _read_container(
    query: list[tuple[str, str]], content: str | None, faults: dict[str, Any]
) -> str | None:
    """Issues have no containers, everything else does."""
    if content is not None and ISSUE_KEY.fullmatch(content):
        if any(value for name, value in query if name == "container"):
            faults["container"] = ["must be empty for an issue"]
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


async def read_new_poll(request: web.Request) -> tuple[PollDefinition, IdempotencyKey | None]:
    """The poll of a POST, and the key under which it may be asked for again."""
    body = await _read_json(request)
    definition = cast(PollDefinition, NEW_POLL.load(body))
    return definition, _read_idempotency_key(request, body)


async def read_poll_replacement(request: web.Request, poll_id: str) -> PollDefinition:
    """The poll of a PUT; its ``id``, where there is one, must be that of the query."""
    definition = cast(PollDefinition, POLL_REPLACEMENT.load(await _read_json(request)))
    if definition.get("id", poll_id) != poll_id:
        raise ValidationError("must be the pollId of the query", "id")
    return definition


def read_if_match(request: web.Request) -> Revisions | None:
    """The revisions of ``If-Match``; None where any will do.

    A weak tag matches nothing (RFC 9110, 13.1.1), and neither does one that is malformed.
    """
    headers = request.headers.getall("If-Match", [])
    if not headers or headers == ["*"]:
        return None
    tags = ENTITY_TAG.findall(",".join(headers))
    return frozenset(tag for weak, tag in tags if not weak)


def _read_idempotency_key(request: web.Request, body: Any) -> IdempotencyKey | None:
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        return None
    if len(values) > 1 or not IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise ValidationError("must be 1 to 255 printable ASCII characters", "Idempotency-Key")
    principal = request[keys.PRINCIPAL]
    query = sorted(pair for pair in request[keys.QUERY] if pair[0] not in TOKEN_PARAMETERS)
    path = request.rel_url.raw_path
    same = [request.method, path, query, principal.user_id, principal.is_acting, body]
    return IdempotencyKey(
        id=_digest(f"{principal.token_id} {values[0]}"),
        fingerprint=_digest(json.dumps(same, sort_keys=True)),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def _read_json(request: web.Request) -> Any:
    """The JSON value of the body. Raises 413, 415 and ``ValidationError``, in this order."""
    limit = request.app[keys.SETTINGS].max_body_bytes
    if (request.content_length or 0) > limit:
        _refuse_size(limit)
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        _refuse_size(limit)
    except web.RequestPayloadError as error:
        raise ValidationError("cannot be read: its encoding is broken", BODY) from error
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send the body as application/json.")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at byte {error.pos}" if raw else "is missing"
        raise ValidationError(reason, BODY) from error


def _refuse_size(limit: int) -> NoReturn:
    raise web.HTTPRequestEntityTooLarge(
        limit, limit, text=f"The body is over the limit of {limit:,} bytes."
    )


def field_faults(messages: Mapping[Any, Any] | list[Any], path: str = "") -> list[tuple[str, str]]:
    """Flattens marshmallow's messages to pairs of path, as ``options[2].title``, and sentence."""
    if isinstance(messages, list):
        field = path or BODY
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
