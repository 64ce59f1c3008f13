"""Bodies of the polling API: JSON or forms (docs/api.md, section 4)."""

from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from marshmallow import ValidationError
from multipart import MultipartParser, parse_options_header

from schemas.content import MAX_OPTIONS
from schemas.polling import NEW_SUBMISSION, LenientSchema, Resource
from service.polling.forms import MAX_FIELDS, Objects, read_fields, read_json
from service.web.bodies import (
    FORM,
    JSON,
    MULTIPART,
    media_type,
    parse_json,
    read_idempotency_key,
    read_raw,
)
from service.web.query import BODY
from storage.idempotency import IdempotencyKey

MAX_CHOICES = MAX_OPTIONS + 1
"""More choices than any poll has; the rest of a longer body need not be read."""
MAX_ESCAPES = 100_000
"""Of a urlencoded form: each takes time. 100 choices of 255 Chinese characters have 3/4 of it."""


async def read_submission(
    request: web.Request, resource: Resource
) -> tuple[list[str], str | None, IdempotencyKey | None]:
    """The option ids, the comment and the key of a cast. Each object names one option."""
    objects, is_form = await _read_objects(request, resource)
    loaded = [
        _load([members], resource, NEW_SUBMISSION, is_form, place=place)
        for place, members in enumerate(objects[:MAX_CHOICES])
    ] or [_load(objects, resource, NEW_SUBMISSION, is_form)]
    options = [submission["poll_choice_id"] for submission in loaded]
    return options, loaded[0]["comment"], read_idempotency_key(request, objects)


async def read_new(
    request: web.Request, resource: Resource, schema: LenientSchema
) -> tuple[Any, IdempotencyKey | None]:
    """The first object of a POST, as ``schema`` loads it, and its idempotency key."""
    objects, is_form = await _read_objects(request, resource)
    return _load(objects, resource, schema, is_form), read_idempotency_key(request, objects)


async def read_changes(request: web.Request, resource: Resource, schema: LenientSchema) -> Any:
    """The first object of a PUT, with only the members that it sets."""
    objects, is_form = await _read_objects(request, resource)
    return _load(objects, resource, schema, is_form)


def _load(
    objects: Objects, resource: Resource, schema: LenientSchema, is_form: bool, place: int = 0
) -> Any:
    """An empty form value counts as absent, unless the schema lists it as ``cleared``."""
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
    """The objects of the body, and whether it is a form."""
    raw = await read_raw(request)
    kind = media_type(request)
    if kind == JSON:
        return read_json(parse_json(raw), resource), False
    if kind == MULTIPART:
        return read_fields(_parse_multipart(raw, request.headers["Content-Type"]), resource), True
    if kind == FORM or not raw:
        return read_fields(_parse_form(raw), resource), True
    raise web.HTTPUnsupportedMediaType(text=f"Send the body as {JSON}, {FORM} or {MULTIPART}.")


def _parse_form(raw: bytes) -> list[tuple[str, str]]:
    if raw.count(b"&") >= MAX_FIELDS:
        raise ValidationError(f"must have at most {MAX_FIELDS:,} fields", BODY)
    if raw.count(b"%") > MAX_ESCAPES:
        raise ValidationError(f"must have at most {MAX_ESCAPES:,} percent signs: send JSON", BODY)
    pairs = [field.partition(b"=") for field in raw.split(b"&") if field]
    try:
        return [(_unquote(name), _unquote(value)) for name, _, value in pairs]
    except UnicodeError as error:
        raise ValidationError("must be UTF-8", BODY) from error


def _unquote(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode()


def _parse_multipart(raw: bytes, content_type: str) -> list[tuple[str, str]]:
    """The fields of a form (RFC 7578); files are ignored."""
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
        reason = f"is not a multipart form in UTF-8 with at most {MAX_FIELDS:,} fields"
        raise ValidationError(reason, BODY) from error
