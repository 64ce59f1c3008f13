"""The log: JSON lines where a machine reads, short lines on a terminal; on standard error.

Events are rare and go through structlog. The line that every request pays for does not: it is
put together here and written with its neighbours.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import IO, Any

import orjson
import structlog
from aiohttp import web

FLUSH_SECONDS = 0.05
NO_ROUTE = "-"


RequestLine = tuple[float, str, str, str | None, int, float, str | None, int | None, str | None]
"""One answered request: seconds since 1970, id, method, route (None: there is none), status, how
many ms the answer took, address, user, name of the token.

No query string, which may hold a token. A plain tuple, since each request makes one.
"""


class RequestLog:
    """A line a request, those of ``FLUSH_SECONDS`` written together; ``flush`` before the end.

    Rendered one after the other, while the code for it is in the processor's cache, they take a
    third of what each took at the end of its request.
    """

    def __init__(self, stream: IO[bytes], *, enabled: bool = True, readable: bool = False) -> None:
        self._stream = stream
        self._enabled = enabled
        self._render = _readable if readable else _as_json
        self._listeners: list[Callable[[Sequence[RequestLine]], None]] = []
        self._waiting: list[RequestLine] = []

    def tell(self, listener: Callable[[Sequence[RequestLine]], None]) -> None:
        """Has it called with all lines, those that are not ``enabled`` to be written too."""
        self._listeners.append(listener)

    def write(self, line: RequestLine) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._waiting.append(line)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if self._enabled:
            self._stream.write(b"".join(map(self._render, waiting)))
            self._stream.flush()
        for listener in self._listeners:
            listener(waiting)


REQUEST_LOG = web.AppKey("request_log", RequestLog)


def _as_json(line: RequestLine) -> bytes:
    at, request_id, method, route, status, ms, remote, user, token = line
    shown = {
        "time": datetime.fromtimestamp(at, UTC),
        "level": "info",
        "event": "request",
        "id": request_id,
        "method": method,
        "route": route or NO_ROUTE,
        "status": status,
        "ms": round(ms, 2),
        "remote": remote,
        "user": user,
        "token": token,
    }
    return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _readable(line: RequestLine) -> bytes:
    at, request_id, method, route, status, ms, _, user, token = line
    who = "-" if user is None else f"user {user} ({token})"
    return (
        f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} {status} {method:6} {route or NO_ROUTE} "
        f"{ms:.1f} ms {who} {request_id}\n"
    ).encode()


def open_request_log(level: str) -> RequestLog:
    """The request log of this process; requests are of level ``info``."""
    return RequestLog(
        sys.stderr.buffer,
        enabled=level in ("debug", "info"),
        readable=sys.stderr.isatty(),
    )


def configure_logging(level: str) -> None:
    """Sends structlog's and the standard library's records through one renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(_dumps)
    if sys.stderr.isatty():
        # Where rich is installed the default would print what every variable holds: tokens too.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=plain)
    else:
        shared.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _dumps(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=repr).decode()
