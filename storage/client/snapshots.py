"""Snapshots: long reads that all see one moment."""

import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import pymongo
from pymongo.client_session import ClientSession
from pymongo.read_concern import ReadConcern

from storage.client.documents import Cursor, Document
from storage.client.round_trips import CLOSE_SECONDS, deadline_in, in_thread, round_trip
from storage.client.transaction import Transaction, Work
from storage.errors import Unavailable

T = TypeVar("T")

MAX_SNAPSHOTS = 100
"""How many snapshots are read at once; each read takes a thread and a connection."""


class Snapshot:
    """Reads that all see one moment. One runs at a time."""

    def __init__(self, transaction: Transaction, threads: ThreadPoolExecutor) -> None:
        self._transaction = transaction
        self._threads = threads

    async def read(self, work: Work[T], *, seconds: float | None = None) -> T:
        """The result of ``work``; its limit is ``seconds``, or else that of the caller."""
        deadline = deadline_in() if seconds is None else time.monotonic() + seconds
        return await in_thread(self._threads, self._read, work, deadline)

    def _read(self, work: Work[T], deadline: float) -> T:
        with round_trip(deadline):
            return work(self._transaction)

    async def close(self, name: str, cursor: Cursor) -> None:
        """Closes a cursor over a collection."""
        with suppress(Unavailable):
            await self.read(
                lambda transaction: transaction.close(name, cursor), seconds=CLOSE_SECONDS
            )


class Snapshots:
    """Opens snapshots of a database, with a client and threads for nothing else.

    Long reads must leave connections and threads to all others.
    """

    def __init__(
        self, client: pymongo.MongoClient[Document], name: str, concerns: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._name = name
        self._concerns = concerns
        self._threads = ThreadPoolExecutor(MAX_SNAPSHOTS, "snapshot")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Snapshot]:
        """See ``Database.snapshot``."""
        database = self._client.get_database(self._name, **self._concerns)
        with self._client.start_session() as session:
            session.start_transaction(read_concern=ReadConcern("snapshot"))
            snapshot = Snapshot(Transaction(database, session), self._threads)
            try:
                yield snapshot
            finally:
                with suppress(Unavailable):
                    await snapshot.read(partial(_end, session), seconds=CLOSE_SECONDS)

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        self._client.close()


def _end(session: ClientSession, _: Transaction) -> None:
    """Ends the transaction of a snapshot."""
    session.abort_transaction()
    # By name too: the driver does not report an abort that was lost.
    session.client.admin.command("killSessions", [session.session_id])
