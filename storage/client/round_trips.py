"""Round trips to the database: each has a time limit, and those that block run in a thread."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar, TypeVarTuple

import pymongo
from pymongo.errors import PyMongoError

from storage.client.driver_errors import is_transient, is_unavailable, kind_of, trouble
from storage.errors import Unavailable
from storage.metrics import database_errors

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

APP_NAME = "polls"
"""By which the deployment tells the connections of services apart from others."""
ROUND_TRIP_SECONDS = 4.0
"""The longest a read or a write may take, and all statements of a transaction together."""
GRACE_SECONDS = 0.3
"""How long after its time limit a caller still waits for the outcome of what it began."""
CLOSE_SECONDS = 2.0
"""For telling the database that something it keeps open is no longer needed."""

_time_limit: ContextVar[float] = ContextVar("time_limit", default=float("inf"))


def set_time_limit(seconds: float) -> None:
    """Bounds all round trips of this context together; each request sets it anew.

    A commit that was sent is not cut short: its outcome is resolved, not guessed, although the
    caller may have been answered by then (see ``answer_by``).
    """
    _time_limit.set(time.monotonic() + seconds)


def answer_by() -> float:
    """When the caller must be answered, on the monotonic clock; infinite without a time limit."""
    return _time_limit.get() + GRACE_SECONDS


def deadline_in(seconds: float | None = None) -> float:
    """On the monotonic clock: after ``seconds``, 4 by default, or when the time limit ends."""
    limit = ROUND_TRIP_SECONDS if seconds is None else seconds
    return min(_time_limit.get(), time.monotonic() + limit)


@contextmanager
def round_trip(
    deadline: float | None = None,
    *,
    unavailable: type[Unavailable] = Unavailable,
    is_logged: bool = True,
) -> Iterator[None]:
    """Bounds the driver's calls inside, and raises ``Unavailable`` if the database cannot serve.

    ``deadline`` is on the monotonic clock. A write outside a transaction must not promise that
    nothing was changed: for it ``unavailable`` is ``OutcomeUnknown``. ``DuplicateKeyError`` and
    errors that the request is to blame for pass through unchanged.
    """
    until = deadline_in() if deadline is None else deadline
    try:
        # A timeout of 0 would mean none at all.
        with pymongo.timeout(max(until - time.monotonic(), 0.001)):
            yield
    except PyMongoError as error:
        database_errors[kind_of(error)] += 1
        if is_unavailable(error):
            if is_logged and not is_transient(error):  # which is mostly a conflict, and retried
                trouble.note(error)
            raise unavailable() from error
        raise


async def in_thread(
    threads: ThreadPoolExecutor, function: Callable[[*Arguments], T], *arguments: *Arguments
) -> T:
    """Runs ``function`` in a thread, in this context, to its end even if it is cancelled."""
    running = asyncio.get_running_loop().run_in_executor(
        threads, copy_context().run, function, *arguments
    )
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
