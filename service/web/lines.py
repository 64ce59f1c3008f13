"""Bodies that are read line by line, of any size, while they arrive."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import NamedTuple, Protocol

from aiohttp import StreamReader, web
from marshmallow import ValidationError

from service.settings import SETTINGS
from service.web.bodies import (
    BROKEN,
    DEFLATE,
    GZIP,
    MAX_MEMBERS,
    PIECE_BYTES,
    coding_of,
    media_type,
)
from service.web.call import DRAINING
from service.web.query import BODY
from storage.errors import Unavailable

NDJSON = "application/x-ndjson"
STOPPING = "The service is shutting down; send this line and those behind it again."
TOO_LATE = "The next line took too long to arrive."


class Line(NamedTuple):
    """One line and its number, from 1; ``raw`` is the refusal of one that is over the limit."""

    number: int
    raw: bytes | web.HTTPRequestEntityTooLarge


def require_lines(request: web.Request) -> None:
    """Raises ``HTTPUnsupportedMediaType`` unless the body is NDJSON, in a coding that is undone."""
    coding_of(request)
    if media_type(request) != NDJSON:
        raise web.HTTPUnsupportedMediaType(text=f"Send the body as {NDJSON}.")


async def read_lines(request: web.Request, most: int) -> AsyncGenerator[Line, None]:
    """The lines of the body that are not blank, each as soon as it is there.

    No more than one line is held. Each must arrive within ``POLLS_CLIENT_SECONDS``, counted from
    when it is asked for. Raises ``HTTPRequestTimeout`` where it does not, ``ValidationError``
    where the body is blank, broken or has more than ``most`` lines, and ``Unavailable`` once the
    service stops.
    """
    limit, seconds = request.app[SETTINGS].max_body_bytes, request.app[SETTINGS].client_seconds
    number, is_blank = 0, True
    async with aclosing(_split(_pieces(request), limit)) as lines:
        while True:
            try:
                async with asyncio.timeout(seconds):
                    raw = await anext(lines, b"")
            except TimeoutError as error:
                raise web.HTTPRequestTimeout(text=TOO_LATE) from error
            if raw == b"":
                break
            number += 1
            if number > most:
                raise ValidationError(f"must have at most {most:,} lines", BODY)
            if raw is None or raw.strip():
                is_blank = False
                yield Line(number, _too_long(limit) if raw is None else raw)
    if is_blank:
        raise ValidationError("is missing", BODY)


def _too_long(limit: int) -> web.HTTPRequestEntityTooLarge:
    text = f"The line is over the limit of {limit:,} bytes."
    return web.HTTPRequestEntityTooLarge(limit, limit, text=text)


async def _split(
    pieces: AsyncGenerator[bytes, None], limit: int
) -> AsyncGenerator[bytes | None, None]:
    """Lines with their ends, the last perhaps without; None for each that is over the limit."""
    held = bytearray()
    is_over = False
    async with aclosing(pieces):
        async for piece in pieces:
            begin = 0
            while (end := piece.find(b"\n", begin) + 1) > 0:
                held += piece[begin:end]
                yield None if is_over or len(held) > limit + 1 else bytes(held)
                held.clear()
                is_over, begin = False, end
            held += piece[begin:]
            if len(held) > limit:
                is_over = True
                held.clear()
    if is_over or held:
        yield None if is_over else bytes(held)


async def _pieces(request: web.Request) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, decompressed."""
    window = coding_of(request)
    inflate = None if window is None else _Inflater(window)
    stopping = asyncio.create_task(request.app[DRAINING].wait())
    try:
        while raw := await _next(request.content, stopping):
            if inflate is None:
                yield raw
                continue
            for piece in inflate.feed(raw):
                yield piece
                await asyncio.sleep(0)  # little that is sent may be much that is decompressed
        if inflate is not None:
            inflate.end()
    except (web.RequestPayloadError, zlib.error) as error:
        raise ValidationError(BROKEN, BODY) from error
    finally:
        stopping.cancel()


async def _next(content: StreamReader, stopping: asyncio.Task[bool]) -> bytes:
    reading = asyncio.ensure_future(content.readany())
    try:
        await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            raise Unavailable(STOPPING)
        return await reading
    finally:
        reading.cancel()


class _Member(Protocol):
    """What ``zlib.decompressobj`` returns: its class has no public name."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Inflater:
    """Undoes a content coding piece by piece; ``window`` is zlib's ``wbits``."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._members = 0
        self._member: _Member | None = None

    def feed(self, raw: bytes) -> Iterator[bytes]:
        """What comes of ``raw``, in small pieces. Raises ``zlib.error``."""
        while raw:
            member = self._member or self._begin(raw)
            piece = member.decompress(raw, PIECE_BYTES)
            raw = member.unused_data if member.eof else member.unconsumed_tail
            if piece:
                yield piece
            while not member.eof and not raw and len(piece) == PIECE_BYTES:
                piece = member.decompress(b"", PIECE_BYTES)
                raw = member.unused_data
                if piece:
                    yield piece
            self._member = None if member.eof else member

    def _begin(self, raw: bytes) -> "_Member":
        """Only gzip may have several members (RFC 1952)."""
        self._members += 1
        if self._members > (MAX_MEMBERS if self._window == GZIP else 1):
            raise zlib.error("too many members")
        if self._window == DEFLATE and raw[0] & 0x0F != zlib.DEFLATED:
            self._window = -zlib.MAX_WBITS  # without the header of zlib, as some clients send it
        return zlib.decompressobj(self._window)

    def end(self) -> None:
        """Raises ``zlib.error`` if it is cut off."""
        if self._member is not None:
            raise zlib.error("cut off")
