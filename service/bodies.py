"""Reading bodies: JSON, and the forms of the polling API, into what schemas load.

The limit of the size comes first (413), then the media type (415), then what the body holds (400).
"""

import hashlib
import json
import re
from io import BytesIO
from typing import Any, NamedTuple, NoReturn, cast
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from marshmallow import ValidationError
from multipart import MultipartParser, parse_options_header

from schemas.polling import NEW_SUBMISSION, LenientSchema
from schemas.polls import MAX_OPTIONS, NEW_POLL, NEW_VOTE, POLL_REPLACEMENT
from service import keys
from service.forms import MAX_FIELDS, Objects, Resource, read_fields, read_json
from service.requests import BODY, TOKEN_PARAMETERS
from storage.documents import PollDefinition
from storage.idempotency import IdempotencyKey

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

ENCODINGS = ("gzip", "deflate", "identity", "")
"""The content codings that are undone before a body is read here."""

MAX_CHOICES = MAX_OPTIONS + 1
"""No poll takes more choices than it may have options; one more is refused like any number."""

IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class CastKey(NamedTuple):
    """An Idempotency-Key with the token it came from, and a hash of all that must be the same."""

    key: str
    fingerprint: str


async def read_new_poll(request: web.Request) -> tuple[PollDefinition, IdempotencyKey | None]:
    """The poll of a POST, and the key under which it may be asked for again."""
    body = await _read_json_body(request)
    definition = cast(PollDefinition, NEW_POLL.load(body))
    return definition, _read_idempotency_key(request, body)


async def read_vote(request: web.Request) -> tuple[dict[str, Any], CastKey | None]:
    """The vote of a POST of the content API: ``optionIds`` and ``comment``, which may be None."""
    body = await _read_json_body(request)
    return NEW_VOTE.load(body), _read_cast_key(request, body)


async def read_submission(
    request: web.Request, resource: Resource
) -> tuple[list[str], str | None, CastKey | None]:
    """The options and the comment of a POST of the polling API; all objects count."""
    objects, is_form = await _read_objects(request, resource)
    loaded = [
        _load([members], resource, NEW_SUBMISSION, is_form, place=place)
        for place, members in enumerate(objects[:MAX_CHOICES])
    ] or [_load(objects, resource, NEW_SUBMISSION, is_form)]
    options = [submission["poll_choice_id"] for submission in loaded]
    return options, loaded[0]["comment"], _read_cast_key(request, objects)


async def read_poll_replacement(request: web.Request, poll_id: str) -> PollDefinition:
    """The poll of a PUT; its ``id``, where there is one, must be that of the query."""
    definition = cast(PollDefinition, POLL_REPLACEMENT.load(await _read_json_body(request)))
    if definition.get("id", poll_id) != poll_id:
        raise ValidationError("must be the pollId of the query", "id")
    return definition


async def read_new(
    request: web.Request, resource: Resource, schema: LenientSchema
) -> tuple[Any, IdempotencyKey | None]:
    """The first object of a POST of the polling API, and the key it may be asked for again by."""
    objects, is_form = await _read_objects(request, resource)
    return _load(objects, resource, schema, is_form), _read_idempotency_key(request, objects)


async def read_changes(request: web.Request, resource: Resource, schema: LenientSchema) -> Any:
    """The first object of a PUT of the polling API, which is partial."""
    objects, is_form = await _read_objects(request, resource)
    return _load(objects, resource, schema, is_form)


def _load(
    objects: Objects, resource: Resource, schema: LenientSchema, is_form: bool, place: int = 0
) -> Any:
    """In a form an empty value is absent, unless the schema says what it clears."""
    if not objects:
        raise ValidationError("is missing", resource.plural)
    members = objects[0]
    if is_form:
        members = {
            name: value or schema.cleared.get(name)
            for name, value in members.items()
            if value or name in schema.cleared
        }
    try:
        return schema.load(members)
    except ValidationError as error:
        raise ValidationError({resource.plural: {place: error.messages}}) from error


async def _read_objects(request: web.Request, resource: Resource) -> tuple[Objects, bool]:
    """The objects of the body in whichever form they came, and whether that was a form's."""
    raw = await _read_raw(request)
    if request.content_type == JSON:
        return read_json(_parse_json(raw), resource), False
    if request.content_type == MULTIPART:
        return read_fields(_parse_multipart(raw, request.headers["Content-Type"]), resource), True
    if request.content_type == FORM or not raw:
        return read_fields(_parse_form(raw), resource), True
    raise web.HTTPUnsupportedMediaType(text=f"Send the body as {JSON}, {FORM} or {MULTIPART}.")


def _parse_form(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(raw.decode(), True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeError as error:
        raise ValidationError("must be UTF-8", BODY) from error
    except ValueError as error:
        raise ValidationError(f"must have at most {MAX_FIELDS:,} fields", BODY) from error


def _parse_multipart(raw: bytes, content_type: str) -> list[tuple[str, str]]:
    """The fields of RFC 7578; files are ignored."""
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    try:
        parts = MultipartParser(
            BytesIO(raw),
            boundary,
            strict=True,
            part_limit=MAX_FIELDS,
            partsize_limit=len(raw),
            spool_limit=len(raw),
            memory_limit=len(raw),
        )
        return [(part.name, part.raw.decode()) for part in parts if part.filename is None]
    except ValueError as error:
        reason = f"is no multipart form of UTF-8 with at most {MAX_FIELDS:,} fields"
        raise ValidationError(reason, BODY) from error


def _read_idempotency_key(request: web.Request, body: Any) -> IdempotencyKey | None:
    key = _read_cast_key(request, body)
    if key is None:
        return None
    sent_at = request.app[keys.CLOCK]()
    return IdempotencyKey(_digest(key.key), key.fingerprint, sent_at=sent_at)


def _read_cast_key(request: web.Request, body: Any) -> CastKey | None:
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        return None
    if len(values) > 1 or not IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise ValidationError("must be 1 to 255 printable ASCII characters", "Idempotency-Key")
    principal = request[keys.CALL].principal
    query = sorted(pair for pair in request[keys.CALL].query if pair[0] not in TOKEN_PARAMETERS)
    path = request.rel_url.raw_path
    same = [request.method, path, query, principal.user_id, principal.is_acting, body]
    return CastKey(f"{principal.token_id} {values[0]}", _digest(json.dumps(same, sort_keys=True)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def _read_raw(request: web.Request) -> bytes:
    limit = request.app[keys.SETTINGS].max_body_bytes
    if (request.content_length or 0) > limit:
        _refuse_size(limit)
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None and encoding.lower() not in ENCODINGS:
        # The server has left it as it came, and it would be read as what it is not.
        raise web.HTTPUnsupportedMediaType(text="Send the body as it is, or with gzip or deflate.")
    try:
        if request.content.is_eof() and request.content.total_bytes <= limit:
            return request.content.read_nowait()  # all of it came with the headers
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        _refuse_size(limit)
    except web.RequestPayloadError as error:
        raise ValidationError("cannot be read: its encoding is broken", BODY) from error


async def _read_json_body(request: web.Request) -> Any:
    raw = await _read_raw(request)
    if request.content_type != JSON:
        raise web.HTTPUnsupportedMediaType(text=f"Send the body as {JSON}.")
    return _parse_json(raw)


def _parse_json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at byte {error.pos}" if raw else "is missing"
        raise ValidationError(reason, BODY) from error


def _refuse_size(limit: int) -> NoReturn:
    raise web.HTTPRequestEntityTooLarge(
        limit, limit, text=f"The body is over the limit of {limit:,} bytes."
    )
