"""Reading bodies, and the Idempotency-Key of the request.

The limit of the size comes first (413), then the media type (415), then what the body holds (400).
"""

import hashlib
import json
import re
from typing import Any, NamedTuple, NoReturn

import orjson
from aiohttp import web
from marshmallow import ValidationError

from service.settings import SETTINGS
from service.web.call import CALL, CLOCK
from service.web.query import BODY, TOKEN_PARAMETERS
from storage.idempotency import IdempotencyKey

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

ENCODINGS = ("gzip", "deflate", "identity", "")
"""The content codings that are undone before a body is read here."""

IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class CastKey(NamedTuple):
    """An Idempotency-Key with the token it came from, and a hash of all that must be the same."""

    key: str
    fingerprint: str


def read_idempotency_key(request: web.Request, body: Any) -> IdempotencyKey | None:
    key = read_cast_key(request, body)
    if key is None:
        return None
    sent_at = request.app[CLOCK]()
    return IdempotencyKey(_digest(key.key), key.fingerprint, sent_at=sent_at)


def read_cast_key(request: web.Request, body: Any) -> CastKey | None:
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        return None
    if len(values) > 1 or not IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise ValidationError("must be 1 to 255 printable ASCII characters", "Idempotency-Key")
    principal = request[CALL].principal
    query = sorted(pair for pair in request[CALL].query if pair[0] not in TOKEN_PARAMETERS)
    path = request.rel_url.raw_path
    same = [request.method, path, query, principal.user_id, principal.is_acting, body]
    return CastKey(f"{principal.token_id} {values[0]}", _digest(json.dumps(same, sort_keys=True)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def read_raw(request: web.Request) -> bytes:
    limit = request.app[SETTINGS].max_body_bytes
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


async def read_json_body(request: web.Request) -> Any:
    raw = await read_raw(request)
    if request.content_type != JSON:
        raise web.HTTPUnsupportedMediaType(text=f"Send the body as {JSON}.")
    return parse_json(raw)


def parse_json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at byte {error.pos}" if raw else "is missing"
        raise ValidationError(reason, BODY) from error


def _refuse_size(limit: int) -> NoReturn:
    raise web.HTTPRequestEntityTooLarge(
        limit, limit, text=f"The body is over the limit of {limit:,} bytes."
    )
