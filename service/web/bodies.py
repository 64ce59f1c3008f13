"""Reading bodies, and the Idempotency-Key of the request.

The limit of the size comes first (413), then the media type (415), then what the body holds (400).
"""

import asyncio
import codecs
import hashlib
import json
import re
import zlib
from decimal import Decimal, InvalidOperation
from time import monotonic
from typing import Any, NoReturn

import orjson
from aiohttp import StreamReader, web
from marshmallow import ValidationError

from schemas.fields import MAX_ID
from service.settings import SETTINGS
from service.web.call import CALL, CLOCK, BodyCameLate
from service.web.query import BODY, TOKEN_PARAMETERS
from storage.idempotency import IdempotencyKey

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

LATE_SECONDS = 1.0
"""A body that takes longer to arrive has its request decided again."""
DEFLATE = zlib.MAX_WBITS
GZIP = 16 + zlib.MAX_WBITS
CODINGS = {"gzip": GZIP, "x-gzip": GZIP, "deflate": DEFLATE, "identity": None, "": None}
"""The content codings that are undone (RFC 9110, section 8.4.1), each with zlib's ``wbits``."""
MAX_MEMBERS = 1000
"""Of a gzip body; each costs time, even an empty one."""
PIECE_BYTES = 16 * 1024
"""What is decompressed at once, since zlib copies what is left of it at the end of each member."""

MAX_VALUES = 20_000
"""Of a JSON body, at any depth. A session that is sent back with 1,000 submissions has half."""
MAX_DEPTH = 100
STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
"""A string, or what is around the values of JSON: up to four of these for each value."""
FRACTION = re.compile(rb"[0-9][.eE][-+0-9]")
STRING_OR_NUMBER = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"|(-?[0-9]++(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?)', re.DOTALL
)
MAX_SHOWN = 40
"""Of the characters of a number, in a message."""

BROKEN = "cannot be read: its encoding is broken"
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def read_idempotency_key(request: web.Request, body: Any) -> IdempotencyKey | None:
    """The key, with a hash of all that a repeated request must have in common with this one."""
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        return None
    if len(values) > 1 or not IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise ValidationError("must be 1 to 255 printable ASCII characters", "Idempotency-Key")
    principal = request[CALL].principal
    query = sorted(pair for pair in request[CALL].query if pair[0] not in TOKEN_PARAMETERS)
    path = request.rel_url.raw_path
    same = [request.method, path, query, principal.user_id, principal.is_acting, body]
    fingerprint = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
    key = f"{principal.token_id} {values[0]}"
    return IdempotencyKey(key, fingerprint, sent_at=request.app[CLOCK]())


async def read_raw(request: web.Request) -> bytes:
    """The whole body, decompressed.

    Raises ``BodyCameLate`` where it took over a second to arrive, ``HTTPRequestEntityTooLarge``
    beyond the limit, ``HTTPUnsupportedMediaType`` for an unknown coding, ``HTTPRequestTimeout``
    where the client takes too long, and ``ValidationError`` where the body is broken or cut off.
    """
    call = request[CALL]
    if call.late_body is not None:
        return call.late_body
    settings = request.app[SETTINGS]
    limit = settings.max_body_bytes
    if (request.content_length or 0) > limit:
        _refuse_size(limit)
    window = coding_of(request)
    began = monotonic()
    content = request.content
    try:
        if content.is_eof() and content.total_bytes <= limit:
            raw = content.read_nowait()  # all of it came with the headers
        else:
            async with asyncio.timeout(settings.client_seconds):
                raw = await _read_to_end(content, limit)
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="The body took too long to arrive.") from error
    except web.RequestPayloadError as error:
        raise ValidationError(BROKEN, BODY) from error
    body = _decompressed(raw, window, limit)
    if monotonic() - began > LATE_SECONDS:
        call.late_body = body
        raise BodyCameLate
    return body


def coding_of(request: web.Request) -> int | None:
    """The ``wbits`` of the content coding, None for none; raises ``HTTPUnsupportedMediaType``."""
    coding = ",".join(request.headers.getall("Content-Encoding", ())).strip().lower()
    if coding not in CODINGS:
        raise web.HTTPUnsupportedMediaType(text="Send the body as it is, or with gzip or deflate.")
    return CODINGS[coding]


async def _read_to_end(content: StreamReader, limit: int) -> bytes:
    body = bytearray()
    while piece := await content.readany():
        body += piece
        if len(body) > limit:
            _refuse_size(limit)
    return bytes(body)


def _decompressed(raw: bytes, window: int | None, limit: int) -> bytes:
    """Decompresses no more than the limit; ``window`` is zlib's ``wbits``, None for plain bytes."""
    if window is None or not raw:
        return raw
    if window == DEFLATE and raw[0] & 0x0F != zlib.DEFLATED:
        window = -zlib.MAX_WBITS  # without the header of zlib, as some clients send it
    body, rest = bytearray(), memoryview(raw)
    for _ in range(MAX_MEMBERS if window == GZIP else 1):  # only gzip may have several (RFC 1952)
        decompressor = zlib.decompressobj(window)
        while rest and not decompressor.eof:
            piece = rest[:PIECE_BYTES]
            try:
                body += decompressor.decompress(piece, limit + 1 - len(body))
            except zlib.error as error:
                raise ValidationError(BROKEN, BODY) from error
            if len(body) > limit:
                _refuse_size(limit)
            rest = rest[len(piece) - len(decompressor.unused_data) :]
        if not decompressor.eof:
            break  # it is cut off
        if not rest:
            return bytes(body)
    raise ValidationError(BROKEN, BODY)


def media_type(request: web.Request) -> str:
    """That of the body, without parameters; what aiohttp makes of it takes time without bound."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def read_json_body(request: web.Request) -> Any:
    return parse_json(await read_json_text(request))


async def read_json_text(request: web.Request) -> bytes:
    """The body as it came, to be given to ``parse_json``."""
    raw = await read_raw(request)
    if media_type(request) != JSON:
        raise web.HTTPUnsupportedMediaType(text=f"Send JSON, with the header Content-Type: {JSON}.")
    return raw


def parse_json(raw: bytes) -> Any:
    """A byte order mark is ignored (RFC 8259, section 8.1)."""
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if len(raw) > 2 * MAX_DEPTH:
        _require_bounds(raw)
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at byte {error.pos}" if raw else "is missing"
        raise ValidationError(reason, BODY) from error
    if FRACTION.search(raw):
        _require_exact(raw)
    return parsed


def _require_exact(raw: bytes) -> None:
    """Refuses what only rounding makes a whole number: as an id it would name another thing.

    Beyond ``MAX_ID`` no number is taken for a whole one (``schemas.fields.as_whole``).
    """
    for token in STRING_OR_NUMBER.finditer(raw):
        text = (token[1] or b"").decode()
        if not text or text.lstrip("-").isdigit():
            continue
        value = float(text)
        if value.is_integer() and abs(value) <= MAX_ID and not _is_exact(text, value):
            reason = f"must not have numbers that cannot be read exactly: {text[:MAX_SHOWN]}"
            raise ValidationError(reason, BODY)


def _is_exact(text: str, value: float) -> bool:
    try:
        return Decimal(text) == value
    except InvalidOperation:
        return False  # an exponent of 19 digits


def _require_bounds(raw: bytes) -> None:
    """Refuses what takes long to parse, and what is nested too deeply to be walked through.

    Looks at each bracket and comma only where so many bytes may be one.
    """
    opened = raw.count(b"[") + raw.count(b"{")
    if opened <= MAX_DEPTH and opened + raw.count(b",") <= MAX_VALUES:
        return
    depth = values = 0
    for count, token in enumerate(STRUCTURE.finditer(raw)):
        sign = raw[token.start()]
        depth += (sign in b"[{") - (sign in b"]}")
        values += sign in b"[{,"
        if depth > MAX_DEPTH:
            raise ValidationError(f"must not be nested more than {MAX_DEPTH} levels deep", BODY)
        if values > MAX_VALUES or count > 4 * MAX_VALUES:
            raise ValidationError(f"must have at most {MAX_VALUES:,} values", BODY)


def _refuse_size(limit: int) -> NoReturn:
    raise web.HTTPRequestEntityTooLarge(
        limit, limit, text=f"The body is over the limit of {limit:,} bytes."
    )
