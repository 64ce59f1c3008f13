"""The log on standard error: JSON lines, or short lines on a terminal.

Events are rare and go through structlog. Request lines are frequent, so they are rendered here and
written in batches. A service writes both through ``service.telemetry.output``.
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

from storage.documents import UserId

FLUSH_SECONDS = 0.05
NO_ROUTE = "-"


RequestLine = tuple[
    float, str, str, str | None, int, float, str | None, UserId | None, str | None, bool
]
"""One answered request: Unix time in seconds, id, method, route or None, status, duration in ms,
address, user id, token name, whether it was an event stream.

There is no query string, which may hold a token. A plain tuple, for speed.
"""


class RequestLog:
    """One line for each request, written in batches every ``FLUSH_SECONDS``.

    Rendering lines in batches takes a third of the time of rendering each after its request. Call
    ``flush`` before the process exits.
    """

    def __init__(self, stream: IO[bytes], *, enabled: bool = True, readable: bool = False) -> None:
        self._stream = stream
        self._enabled = enabled
        self._render = _readable if readable else _as_json
        self._listeners: list[Callable[[Sequence[RequestLine]], None]] = []
        self._waiting: list[RequestLine] = []

    def tell(self, listener: Callable[[Sequence[RequestLine]], None]) -> None:
        """Calls ``listener`` with each batch, even if the log is not ``enabled``."""
        self._listeners.append(listener)

    def write(self, line: RequestLine) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._waiting.append(line)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        for listener in self._listeners:
            listener(waiting)
        if self._enabled:
            self._stream.write(b"".join(map(self._render, waiting)))
            self._stream.flush()


REQUEST_LOG = web.AppKey("request_log", RequestLog)


def _as_json(line: RequestLine) -> bytes:
    at, request_id, method, route, status, ms, remote, user, token, _ = line
    members = {
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
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _readable(line: RequestLine) -> bytes:
    at, request_id, method, route, status, ms, _, user, token, _ = line
    who = "-" if user is None else f"user {user} ({token})"
    return (
        f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} {status} {method:6} {route or NO_ROUTE} "
        f"{ms:.1f} ms {who} {request_id}\n"
    ).encode()


def open_request_log(level: str) -> RequestLog:
    """The request log of this process, written at the levels ``info`` and ``debug``."""
    return RequestLog(
        sys.stderr.buffer,
        enabled=level in ("debug", "info"),
        readable=sys.stderr.isatty(),
    )


def configure_logging(level: str) -> None:
    """Renders the records of structlog and of the standard library alike."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(_dumps)
    if sys.stderr.isatty():
        # With rich installed, the default prints the values of all variables, tokens included.
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
    # At ``debug`` the driver logs its commands, with every vote, its time and hashes of tokens.
    logging.getLogger("pymongo.command").setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _dumps(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=repr).decode()
