"""Bodies of the polling API: JSON or forms (docs/api.md, section 4)."""

from io import BytesIO
from itertools import repeat, zip_longest
from typing import Any, NamedTuple, cast
from urllib.parse import unquote_to_bytes

from aiohttp import web
from marshmallow import ValidationError
from multipart import MultipartParser, parse_options_header

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
from service.web.call import CALL
from service.web.query import BODY
from storage.idempotency import IdempotencyKey

MAX_OBJECTS = 100
MAX_ENROLLMENTS = 1_000
MAX_ESCAPES = 100_000
"""Of a urlencoded form: each takes time. 100 choices of 255 Chinese characters have 3/4 of it."""
QUERY = "query"
"""The ``field`` of a fault in the query as a whole."""


class Submission(NamedTuple):
    """A cast: the options and the comment, each with its path in the body, and the key."""

    options: list[str]
    option_fields: list[str]
    comment: str | None
    comment_field: str
    idempotency_key: IdempotencyKey | None


async def read_submission(request: web.Request, resource: Resource) -> Submission:
    """All objects of the body are one vote."""
    submissions, idempotency_key = await read_new(request, resource, NEW_SUBMISSION)
    options: list[str] = []
    option_fields: list[str] = []
    comment: str | None = None
    commented = 0
    for place, submission in enumerate(submissions):
        try:
            choices = _choices(submission)
            if comment is None and submission["comment"] is not None:
                commented = place
            comment = _comment(submission, comment)
        except ValidationError as error:
            fault = {error.field_name: error.messages}
            raise ValidationError({resource.plural: {place: fault}}) from error
        options += choices.values()
        option_fields += [f"{resource.plural}[{place}].{member}" for member in choices]
    comment_field = f"{resource.plural}[{commented}].comment"
    return Submission(options, option_fields, comment, comment_field, idempotency_key)


def _choices(submission: dict[str, Any]) -> dict[str, str]:
    """The options of one object, by the path of each in it."""
    first: str | None = submission.get("poll_choice_id")
    choices: list[str] | None = submission.get("poll_choice_ids")
    if choices is None:
        if first is None:
            raise ValidationError("is missing", "poll_choice_id")
        return {"poll_choice_id": first}
    if first is not None and first not in choices:
        raise ValidationError("must be among poll_choice_ids", "poll_choice_id")
    return {f"poll_choice_ids[{place}]": choice for place, choice in enumerate(choices)}


def _comment(submission: dict[str, Any], before: str | None) -> str | None:
    comment: str | None = submission["comment"]
    if before is not None and comment not in (None, before):
        raise ValidationError("must be the same in all objects of one vote", "comment")
    return before if comment is None else comment


async def read_new(
    request: web.Request, resource: Resource, schema: LenientSchema, *, most: int = MAX_OBJECTS
) -> tuple[list[Any], IdempotencyKey | None]:
    """All objects of a POST, as ``schema`` loads them, and its idempotency key."""
    objects = await _read_objects(request, resource, schema)
    return _load(objects, resource, schema, most), read_idempotency_key(request, objects)


async def read_changes(request: web.Request, resource: Resource, schema: LenientSchema) -> Any:
    """The object of a PUT, with only the members that it sets."""
    objects = await _read_objects(request, resource, schema)
    if len(objects) > 1:
        raise ValidationError("must have one object", resource.plural)
    return _load(objects, resource, schema)[0]


def _load(
    objects: Objects, resource: Resource, schema: LenientSchema, most: int = MAX_OBJECTS
) -> list[Any]:
    if not objects:
        raise ValidationError("is missing", resource.plural)
    if len(objects) > most:
        raise ValidationError(f"must have at most {most:,} objects", resource.plural)
    try:
        return cast(list[Any], schema.load(objects, many=True))
    except ValidationError as error:
        raise ValidationError({resource.plural: error.messages}) from error


async def _read_objects(request: web.Request, resource: Resource, schema: LenientSchema) -> Objects:
    """The objects of the body, with the members that the query adds to them."""
    raw = await read_raw(request)
    in_query = _read_query(request, resource, schema)
    kind = media_type(request)
    if kind == JSON and (raw or not in_query):
        sent = read_json(parse_json(raw), resource)
    elif kind == MULTIPART:
        fields = _parse_multipart(raw, request.headers["Content-Type"])
        sent = _without_empty(read_fields(fields, resource), schema)
    elif kind == FORM or not raw:
        sent = _without_empty(read_fields(_parse_form(raw), resource), schema)
    else:
        raise web.HTTPUnsupportedMediaType(text=f"Send the body as {JSON}, {FORM} or {MULTIPART}.")
    if not in_query:
        return sent
    if len(in_query) == 1 and sent:
        return [_merged(*pair, schema) for pair in zip(repeat(in_query[0]), sent, strict=False)]
    nothing: dict[str, Any] = {}
    return [_merged(*pair, schema) for pair in zip_longest(in_query, sent, fillvalue=nothing)]


def _merged(
    in_query: dict[str, Any], sent: dict[str, Any], schema: LenientSchema
) -> dict[str, Any]:
    """An object of the body, with the members that only the query has."""
    given = {name: value for name, value in sent.items() if value is not None}
    hidden = schema.alternatives if given.keys() & schema.alternatives else frozenset()
    return {**{name: in_query[name] for name in in_query.keys() - hidden}, **given}


def _read_query(request: web.Request, resource: Resource, schema: LenientSchema) -> Objects:
    """The objects of the query, which is read like a form."""
    fields = [pair for pair in request[CALL].query if pair[0].partition("[")[0] in resource]
    try:
        for field in fields:
            "=".join(field).encode()
    except UnicodeEncodeError as error:
        raise ValidationError("must be UTF-8", QUERY) from error
    return _without_empty(read_fields(fields, resource), schema)


def _without_empty(objects: Objects, schema: LenientSchema) -> Objects:
    """In a form an empty value or item counts as absent, unless it clears the member."""
    given = (
        {
            name: [*filter(None, value)] if isinstance(value, list) else value
            for name, value in members.items()
        }
        for members in objects
    )
    return [
        {name: value for name, value in members.items() if value or name in schema.cleared}
        for members in given
    ]


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
