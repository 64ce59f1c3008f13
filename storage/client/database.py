"""One database of a deployment: its collections, transactions, snapshots and changes."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast

import pymongo
import pymongo.database
from bson.binary import UUID_SUBTYPE, Binary
from motor.core import AgnosticClient, AgnosticDatabase
from pymongo import IndexModel, ReadPreference
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from storage.client.change_stream import Changes, open_changes
from storage.client.connecting import connect
from storage.client.documents import Collection, Document
from storage.client.driver_errors import access_error, reason_of
from storage.client.round_trips import deadline_in, in_thread, round_trip
from storage.client.snapshots import Snapshot, Snapshots
from storage.client.transaction import Work
from storage.client.transaction_runner import SessionWatch, TransactionRunner
from storage.errors import StartupRefused, Unavailable

T = TypeVar("T")
CONCERNS: dict[str, Any] = {
    "read_preference": ReadPreference.PRIMARY,
    "read_concern": ReadConcern("majority"),
    "write_concern": pymongo.WriteConcern("majority", j=True),
}
MAX_TRANSACTIONS = 32
"""How many transactions run at once; each takes a thread."""
INDEX_SECONDS = 600.0
"""For each collection: an index that is new in this version is built before anything is served."""
NAMESPACE_EXISTS = 48


def _nothing() -> None:
    pass


class Database:
    """One database of one deployment: its collections, and transactions over them.

    It belongs to the event loop in which it was made.
    """

    def __init__(
        self,
        client: AgnosticClient[Document],
        name: str,
        snapshots: pymongo.MongoClient[Document] | None = None,
    ) -> None:
        """``snapshots`` is the client of snapshots; without it these share ``client``."""
        self._client = client
        self._database: AgnosticDatabase[Document] = client.get_database(name, **CONCERNS)
        reading: pymongo.MongoClient[Document] = snapshots or client.delegate
        self._snapshots = Snapshots(reading, name, CONCERNS)
        self._blocking = cast("pymongo.database.Database[Document]", self._database.delegate)
        # Each call of Motor passes through the event loop twice, which under load takes longer
        # than the call. A transaction is many calls: one thread makes them all.
        self._threads = ThreadPoolExecutor(MAX_TRANSACTIONS, "transaction")
        self._transactions = TransactionRunner(client, self._database, self._threads)

    @classmethod
    async def connect(cls, uri: str) -> "Database":
        """Connects to the deployment, or raises ``StartupRefused`` within 10 s.

        The database is the one that ``uri`` names, or ``polls``. The deployment must be a replica
        set, since a transaction needs one. No error text contains any part of ``uri``.
        """
        return cls(*await connect(uri))

    @property
    def watch(self) -> SessionWatch | None:
        """Is called with the id of each driver session of a transaction, once, before its use."""
        return self._transactions.watch

    @watch.setter
    def watch(self, watch: SessionWatch | None) -> None:
        self._transactions.watch = watch

    def collection(self, name: str) -> Collection:
        """For reads and single writes outside transactions, each within a ``round_trip``."""
        return self._database.get_collection(name)

    async def ensure(self, name: str, indexes: list[IndexModel]) -> None:
        """Creates a collection and its indexes where they are missing.

        To be called before traffic: a transaction must not create them.
        """
        try:
            with round_trip(time.monotonic() + INDEX_SECONDS, is_logged=False):
                if indexes:  # which makes the collection too
                    await self.collection(name).create_indexes(indexes)
                    return
                try:
                    await self._database.create_collection(name, check_exists=False)
                except OperationFailure as error:
                    if error.code != NAMESPACE_EXISTS:
                        raise
        except Unavailable as error:
            refusal = access_error(error)
            if refusal is None:
                raise
            raise StartupRefused(
                "The user of MONGODB_URI lacks a right that the service needs "
                f"(docs/deployment.md lists them): {reason_of(refusal)}"
            ) from error

    async def check_writes(self) -> None:
        """Raises ``Unavailable`` unless the database accepts a durable write.

        It may answer reads and refuse every write: on a full disk, or without a majority.
        """
        with round_trip():
            await self.collection("meta").update_one(
                {"_id": "writes"}, {"$set": {"checked_at": datetime.now(UTC)}}, upsert=True
            )

    async def is_answering(self) -> bool:
        """Whether a server answers at all, if only with an error."""
        try:
            with round_trip():
                await self._client.admin.command("hello", read_preference=ReadPreference.NEAREST)
        except (Unavailable, OperationFailure) as error:
            return isinstance(error.__cause__ or error, OperationFailure)
        return True

    async def end_sessions(self, sessions: Iterable[bytes]) -> None:
        """Ends the driver sessions of a process that died, and releases what they hold.

        Sessions that have ended already, or never began, do no harm. Raises ``Unavailable``.
        """
        names = [{"id": Binary(name, UUID_SUBTYPE)} for name in sessions]
        with round_trip():
            await self._client.admin.command("killSessions", names)

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        self._snapshots.close()
        self._client.close()

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Reads that all see one moment, for a minute at most.

        They have connections and threads of their own, so that nobody else waits for long ones.
        """
        return self._snapshots.open()

    async def changes(self, name: str) -> Changes:
        """What changes in a collection from the return of this on; raises ``Unavailable``."""
        opening = partial(open_changes, self._blocking[name])
        return Changes(name, await in_thread(self._threads, opening, deadline_in()))

    async def transaction(
        self,
        work: Work[T],
        *,
        max_conflicts: int | None = None,
        seconds: float | None = None,
        committed: Callable[[], None] = _nothing,
    ) -> T:
        """Runs ``work`` in a thread until its transaction is committed, and returns its result.

        ``work`` runs again after a conflict, and if it raises ``RunAgain``: it must decide on
        nothing but its arguments and what it reads through the ``Transaction``. Any other error
        that it raises ends the transaction and is raised here; nothing is stored then.

        Each run stores a mark of this attempt in the transaction itself, or has a ``proof`` among
        its own writes. If the answer to a commit is lost, and the deployment no longer knows the
        transaction when asked again, that tells whether it was stored: nothing is done twice, no
        success is reported as a failure.

        ``committed`` is called in the thread as soon as the database says that all is stored.

        Raises ``Unavailable`` if conflicts or an unavailable database used up ``seconds`` (4 by
        default), or if the caller must be answered and the outcome is not known; it is resolved in
        the background then. Raises ``TooManyConflicts`` after ``max_conflicts`` runs.
        """
        return await self._transactions.run(
            work, max_conflicts=max_conflicts, seconds=seconds, committed=committed
        )
