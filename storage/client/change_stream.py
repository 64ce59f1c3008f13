"""Change streams: which documents of a collection change, in whatever process."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pymongo
import pymongo.change_stream
import pymongo.collection
from pymongo.errors import PyMongoError
from structlog import get_logger

from storage.client.documents import Document
from storage.client.driver_errors import kind_of, trouble
from storage.client.round_trips import CLOSE_SECONDS, round_trip
from storage.errors import Unavailable
from storage.metrics import database_errors

log = get_logger(__name__)

ChangeStream = pymongo.change_stream.CollectionChangeStream[Document]
T = TypeVar("T")

CHANGES_MS = 500
"""How long the server waits for a change before it says that there is none."""


class Changes:
    """The ``_id``s of the documents of a collection that change, in whatever process.

    Changes arrive once a majority has them, so that reads find them. A thread reads them: each
    call of Motor would pass through the event loop twice. The driver itself goes on after an
    election or a lost connection.
    """

    def __init__(self, name: str, stream: ChangeStream) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._changed: set[Any] = set()
        self._error: Exception | None = None
        self._arrived = asyncio.Event()
        self._is_closed = False
        threading.Thread(target=self._read, name=f"changes of {name}", daemon=True).start()

    async def next(self) -> set[Any]:
        """What has changed since this was last called, once there is something.

        Raises ``Unavailable`` if the changes can no longer be told without a gap.
        """
        await self._arrived.wait()
        if self._error is not None:
            raise Unavailable from self._error
        self._arrived.clear()
        changed, self._changed = self._changed, set()
        return changed

    def close(self) -> None:
        """Does not wait: the thread ends when the server answers it next."""
        self._is_closed = True

    def _read(self) -> None:
        error: Exception = PyMongoError("The collection was dropped.")
        try:
            while not self._is_closed and self._stream.alive:
                change = self._stream.try_next()
                if change is not None and "documentKey" in change:
                    self._tell(self._note, change["documentKey"]["_id"])
        except Exception as lost:
            # Whatever it is: who waits for the next change must not wait for a thread that is gone.
            error = lost
        self._tell(self._fail, error)
        with suppress(PyMongoError), pymongo.timeout(CLOSE_SECONDS):
            self._stream.close()

    def _tell(self, what: Callable[[T], None], about: T) -> None:
        with suppress(RuntimeError):  # the loop was closed before
            self._loop.call_soon_threadsafe(what, about)

    def _note(self, changed: Any) -> None:
        self._changed.add(changed)
        self._arrived.set()

    def _fail(self, error: Exception) -> None:
        if not self._is_closed and isinstance(error, PyMongoError):
            database_errors[kind_of(error)] += 1
            trouble.note(error)
        elif not self._is_closed:
            log.error("changes cannot be followed", exc_info=error)
        self._error = error
        self._arrived.set()


def open_changes(
    collection: pymongo.collection.Collection[Document], deadline: float
) -> ChangeStream:
    try:
        with round_trip(deadline):
            # An update alone tells which document it changed; the document itself is read.
            return collection.watch(
                [{"$project": {"documentKey": 1}}], max_await_time_ms=CHANGES_MS
            )
    except PyMongoError as error:
        raise Unavailable from error
