"""Where the body of a request ends, so that what is behind it is known to be the next request."""

import re
from enum import Enum, auto

MAX_LINE_BYTES = 8190
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=(?:%b|%b))?)*\r\n" % (TOKEN, TOKEN, QUOTED))
"""With extensions, without the blanks that RFC 9112 allows around them: aiohttp stops at these."""
TRAILER = re.compile(
    rb"(?!(?:content-length|transfer-encoding|host):)%b:[\t\x20-\x7e\x80-\xff]*\r\n" % TOKEN,
    re.IGNORECASE,
)
"""None that frames or routes a message, and no control character: aiohttp stops at these."""
MAX_TRAILERS = 32
"""aiohttp stops at 128 headers and trailers."""
LINE_END = b"\r\n"


class Sized:
    """A body of ``Content-Length`` bytes."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_complete(self) -> bool:
        return not self._left

    def take(self, data: bytes) -> int:
        """How many of these bytes, which follow those taken before, belong to the body."""
        taken = min(self._left, len(data))
        self._left -= taken
        return taken


class _Part(Enum):
    SIZE = auto()
    DATA = auto()
    END_OF_DATA = auto()
    TRAILERS = auto()
    NONE = auto()


class Chunked:
    """A chunked body (RFC 9112, section 7.1). Only its end is looked for: aiohttp reads it.

    Whatever aiohttp does not take must be refused here: it would not tell, and wait for more.
    """

    __slots__ = ("_left", "_line", "_part", "_trailers")

    def __init__(self) -> None:
        self._part = _Part.SIZE
        self._left = 0
        self._trailers = 0
        self._line = b""

    @property
    def is_complete(self) -> bool:
        return self._part is _Part.NONE

    def take(self, data: bytes) -> int:
        """How many of these bytes, which follow those taken before, belong to the body.

        Raises ``ValueError`` where they are not chunks.
        """
        at = 0
        while at < len(data) and not self.is_complete:
            if self._part is _Part.DATA:
                step = min(self._left, len(data) - at)
                self._left -= step
                if not self._left:
                    self._part = _Part.END_OF_DATA
            else:
                step = self._read_line(data, at)
            at += step
        return at

    def _read_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        step = (end + 1 if end >= 0 else len(data)) - at
        self._line += data[at : at + step]
        if len(self._line) > MAX_LINE_BYTES:
            raise ValueError("A line among the chunks is too long.")
        if end >= 0:
            line, self._line = self._line, b""
            self._part = self._after(line)
        return step

    def _after(self, line: bytes) -> _Part:
        """What follows this line."""
        match self._part:
            case _Part.SIZE if size := CHUNK_SIZE.fullmatch(line):
                self._left = int(size[1], 16)
                return _Part.DATA if self._left else _Part.TRAILERS
            case _Part.END_OF_DATA if line == LINE_END:
                return _Part.SIZE
            case _Part.TRAILERS if line == LINE_END:
                return _Part.NONE
            case _Part.TRAILERS if TRAILER.fullmatch(line) and self._trailers < MAX_TRAILERS:
                self._trailers += 1
                return _Part.TRAILERS
        raise ValueError("This is not a chunk.")
