"""The driver: connections, bounded round trips and transactions. No other module imports it.

Motor is in its last year of critical fixes, and PyMongo's own asynchronous API succeeds it:
whatever differs between the two stays in here.
"""

import asyncio
import random
import threading
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, cast

import bson
import pymongo
import pymongo.change_stream
import pymongo.collection
import pymongo.cursor
import pymongo.database
from bson.binary import UUID_SUBTYPE, Binary
from bson.raw_bson import RawBSONDocument
from motor.core import (
    AgnosticClient,
    AgnosticCollection,
    AgnosticCursor,
    AgnosticDatabase,
)
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import DeleteOne, IndexModel, InsertOne, ReadPreference, ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern
from structlog import get_logger

from storage.errors import OutcomeUnknown, StartupRefused, Unavailable
from storage.metrics import database_errors

# Only what other modules take from the driver through this one.
__all__ = [
    "BulkWriteError",
    "DeleteOne",
    "DuplicateKeyError",
    "IndexModel",
    "InsertOne",
    "ReplaceOne",
    "UpdateOne",
]

log = get_logger(__name__)

Document = dict[str, Any]
Collection = AgnosticCollection[Document]
Cursor = pymongo.cursor.Cursor[Document]
ChangeStream = pymongo.change_stream.CollectionChangeStream[Document]
T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
SessionWatch = Callable[[bytes], None]
Proof = tuple[str, Document]
"""A collection, and a query that finds something in it once a transaction is stored."""
Write = InsertOne[Document] | UpdateOne | ReplaceOne[Document] | DeleteOne

DEFAULT_DATABASE = "polls"
APP_NAME = "polls"
SNAPSHOTS = "polls snapshots"
"""By which the deployment tells the connections of services apart from others, and from those over
which snapshots are read."""
CONCERNS: dict[str, Any] = {
    "read_preference": ReadPreference.PRIMARY,
    "read_concern": ReadConcern("majority"),
    "write_concern": pymongo.WriteConcern("majority", j=True),
}

SELECTION_SECONDS = 2.0
"""How long the driver looks for a primary before it gives up."""
HEARTBEAT_SECONDS = 0.5
"""How often the driver checks each node. A node that does not answer within this and the time of a
connection together, 2.5 s, is given up along with everything that waits for its answer: a primary
that hangs costs callers no more than an election."""
ROUND_TRIP_SECONDS = 4.0
"""The longest a read or a write may take, and all statements of a transaction together."""
OUTCOME_SECONDS = 20.0
"""How long to ask for the outcome of a commit that was sent: longer than an election takes."""
CLOSE_SECONDS = 2.0
GRACE_SECONDS = 0.3
"""How long after its time limit a caller still waits for the outcome of what it began."""
STARTUP_SECONDS = 10.0
INDEX_SECONDS = 600.0
"""For each collection: an index that is new in this version is built before anything is served."""
TROUBLE_SECONDS = 1.0
"""The least time between two log lines about an unavailable database."""
MAX_REASON = 300
BACKOFF_SECONDS = (0.005, 0.030)
MAX_COMMIT_REFUSALS = 5
ABANDONED_SECONDS = ROUND_TRIP_SECONDS + 1.0
"""A transaction that got no statement for so long is that of a process that is gone."""
CONFLICT_SECONDS = 1.0
"""After so long in conflict, abandoned transactions are looked for, and no more often."""
MAX_TRANSACTIONS = 32
"""How many transactions run at once; each takes a thread."""
MAX_SNAPSHOTS = 100
"""How many snapshots are read at once; each read takes a thread and a connection."""
CHANGES_MS = 500
"""How long the server waits for a change before it says that there is none."""

NAMESPACE_EXISTS = 48
NOT_YET_INITIALIZED = 94
USER_EXISTS = 51003
ACCESS_CODES = frozenset({13, 18})
"""Unauthorized, AuthenticationFailed."""
NO_SUCH_TRANSACTION = 251
UNAVAILABLE_CODES = frozenset(
    {
        *ACCESS_CODES,  # the password or the rights were changed
        # HostUnreachable, HostNotFound, NetworkTimeout, NetworkInterfaceExceededTimeLimit,
        # ClientDisconnect, SocketException
        *(6, 7, 89, 202, 279, 9001),
        # ShutdownInProgress, NotYetInitialized, PrimarySteppedDown, NotWritablePrimary,
        # InterruptedAtShutdown, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk,
        # NotPrimaryOrSecondary; KeyNotFound: a new primary has no keys yet to sign its time with
        *(91, 94, 189, 10107, 11600, 11602, 13435, 13436, 211),
        # WriteConcernFailed, FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet,
        # SnapshotUnavailable
        *(64, 133, 134, 246),
        # LockBusy, MaxTimeMSExpired, WriteConflict (outside a transaction), ExceededMemoryLimit,
        # QueryPlanKilled, TooManyLogicalSessions, ExceededTimeLimit,
        # TransactionExceededLifetimeLimitSeconds, TemporarilyUnavailable,
        # IngressRequestRateLimitExceeded, Interrupted
        *(46, 50, 112, 146, 175, 261, 262, 290, 365, 462, 11601),
        # CursorNotFound (the server was restarted), CursorKilled, ReauthenticationRequired
        *(43, 237, 391),
        # InternalError (as of WiredTiger after a panic), UnknownError, FileStreamFailed,
        # OutOfDiskSpace
        *(1, 8, 39, 14031),
    }
)
"""Codes by which a database says that it cannot serve now, whatever it was asked. Any other code is
a bug of ours. The names are those of MongoDB's ``error_codes.yml``."""
UNLABELLED_TRANSIENT = frozenset({24, NO_SUCH_TRANSACTION})
"""SecantusDB does not label these as transient: a lock timeout, and a transaction that it forgot in
a restart."""

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


def _deadline(seconds: float | None = None) -> float:
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

    ``deadline`` is on the monotonic clock. A write outside a transaction must not
    promise that nothing was changed: for it ``unavailable`` is ``OutcomeUnknown``.
    ``DuplicateKeyError`` and errors that the request is to blame for pass through unchanged.
    """
    until = _deadline() if deadline is None else deadline
    try:
        # A timeout of 0 would mean none at all.
        with pymongo.timeout(max(until - time.monotonic(), 0.001)):
            yield
    except PyMongoError as error:
        database_errors[_kind_of(error)] += 1
        if _is_unavailable(error):
            if is_logged and not _is_transient(error):  # which is mostly a conflict, and retried
                _trouble.note(error)
            raise unavailable() from error
        raise


def _access_error(error: Unavailable) -> OperationFailure | None:
    """The server's refusal of the user, if that is why it is unavailable."""
    cause = error.__cause__
    is_refusal = isinstance(cause, OperationFailure) and cause.code in ACCESS_CODES
    return cast(OperationFailure, cause) if is_refusal else None


def _reason(error: PyMongoError) -> str:
    """What the driver says, without the server's reply that it appends."""
    return str(error).partition(", full error")[0][:MAX_REASON]


class _Trouble:
    """Logs why the database is unavailable: at most a line a second, however many callers ask."""

    def __init__(self) -> None:
        self._silent_until = 0.0
        self._unlogged = 0

    def note(self, error: PyMongoError) -> None:
        now = time.monotonic()
        if now < self._silent_until:
            self._unlogged += 1
            return
        log.warning(
            "database unavailable",
            error=type(error).__name__,
            code=error.code if isinstance(error, OperationFailure) else None,
            reason=_reason(error),
            not_logged=self._unlogged,
        )
        self._silent_until, self._unlogged = now + TROUBLE_SECONDS, 0


_trouble = _Trouble()


def _kind_of(error: PyMongoError) -> str:
    if error.timeout:
        return "timeout"
    if _is_transient(error):
        return "transient"
    return "network" if isinstance(error, ConnectionFailure) else "other"


def _is_unavailable(error: PyMongoError) -> bool:
    """Whether the database, not the request, is to blame."""
    if isinstance(error, DuplicateKeyError):
        return False
    # A primary that steps down answers writes that wait for a majority with a WriteConcernError.
    return (
        isinstance(error, ConnectionFailure | WriteConcernError)
        or error.timeout
        or _is_transient(error)
        or (isinstance(error, OperationFailure) and not UNAVAILABLE_CODES.isdisjoint(_codes(error)))
    )


def _codes(error: OperationFailure) -> set[int]:
    """The codes of an error; of a bulk write, those of all writes that failed in it."""
    if not isinstance(error, BulkWriteError):
        return {error.code or 0}
    details = error.details
    return {one["code"] for one in details["writeErrors"] + details["writeConcernErrors"]}


def _is_transient(error: PyMongoError) -> bool:
    # PyMongo says of a node that is only about to join its replica set again that its deployment
    # has no sessions; nothing was sent to it. At the start this is refused before any transaction.
    if isinstance(error, ConfigurationError):
        return True
    return error.has_error_label("TransientTransactionError") or (
        isinstance(error, OperationFailure) and error.code in UNLABELLED_TRANSIENT
    )


def _is_lost(error: PyMongoError | None) -> bool:
    """Whether no answer came, or one that says that the outcome is unknown."""
    return error is not None and (
        isinstance(error, ConnectionFailure | WriteConcernError)
        or error.timeout
        or error.has_error_label("UnknownTransactionCommitResult")
    )


def _nothing() -> None:
    pass


def snapshot_of(collection: Collection) -> Collection:
    """The collection, for reads of which each sees one moment, other collections included."""
    return collection.with_options(read_concern=ReadConcern("snapshot"))


async def find_raw(collection: Collection, ids: Sequence[Any]) -> list[bytes]:
    """The documents with these ``_id``s as they are stored (BSON), in no order."""
    return [_raw(one) for one in await _raw_cursor(collection, ids).to_list(None)]


async def find_raw_within(
    collection: Collection, ids: Sequence[Any], max_bytes: int
) -> list[bytes] | None:
    """Like ``find_raw``; None if they are larger all together, and then not all are read."""
    cursor = _raw_cursor(collection, ids)
    found: list[bytes] = []
    size = 0
    async for one in cursor:
        found.append(_raw(one))
        size += len(found[-1])
        if size > max_bytes:
            await cursor.close()
            return None
    return found


def _raw_cursor(collection: Collection, ids: Sequence[Any]) -> "AgnosticCursor[Document]":
    raw = collection.codec_options.with_options(document_class=RawBSONDocument)
    return collection.with_options(codec_options=raw).find(
        {"_id": {"$in": ids}}, batch_size=len(ids) + 1
    )


def _raw(document: Document) -> bytes:
    return cast(bytes, cast(RawBSONDocument, document).raw)


def decode(collection: Collection, raw: bytes) -> Document:
    """A document of ``find_raw`` as ``find`` would give it."""
    return bson.decode(raw, collection.codec_options)


def stored_size(document: Document) -> int:
    """Bytes of a document as MongoDB stores it (BSON)."""
    return len(bson.encode(document))


class RunAgain(Exception):
    """One run of a transaction stored nothing; another run may succeed."""


class TooManyConflicts(Exception):
    """A transaction conflicted as often as its caller allows; nothing is stored."""


class Transaction:
    """One run of a transaction: its reads see one moment, its writes are stored together.

    Collections are given by name. Every method blocks: they are for the thread of the transaction.
    They raise the driver's errors, which ``Database.transaction`` translates.
    """

    def __init__(
        self, database: pymongo.database.Database[Document], session: ClientSession
    ) -> None:
        self._database = database
        self._session = session
        self.proof: Proof | None = None
        """Set by work whose own writes tell whether it is stored; else a mark is written for it."""

    def find_one(
        self, name: str, query: Document, projection: Document | None = None
    ) -> Document | None:
        return self._database[name].find_one(query, projection, session=self._session)

    def find(
        self, name: str, query: Document, projection: Document | None = None, *, batch_size: int = 0
    ) -> Cursor:
        """Must be read to its end or closed: SecantusDB keeps it beyond the transaction."""
        return self._database[name].find(
            query, projection, batch_size=batch_size, session=self._session
        )

    def close(self, name: str, cursor: Cursor) -> None:
        """Closes a cursor over a collection.

        SecantusDB keeps it beyond the transaction, and beyond a broken connection, after which the
        driver believes that it is gone.
        """
        if number := cursor.cursor_id:
            self._database.command("killCursors", name, cursors=[number])
        cursor.close()

    def aggregate(
        self, name: str, pipeline: Sequence[Document], **options: Any
    ) -> Iterator[Document]:
        return self._database[name].aggregate(pipeline, session=self._session, **options)

    def insert(self, name: str, document: Document) -> None:
        self._database[name].insert_one(document, session=self._session)

    def insert_numbered(self, name: str, documents: Sequence[Document]) -> None:
        """Inserts documents whose ``_id``s are of a sequence, or not known to be taken.

        Raises ``RunAgain`` if one is: an import may have stored another under it since.
        """
        try:
            self.bulk_write(name, [InsertOne(one) for one in documents])
        except BulkWriteError as error:
            raise RunAgain from error

    def put(self, name: str, document: Document) -> None:
        """Stores the document in place of the one with its ``_id``, if there is one."""
        self._database[name].replace_one(
            {"_id": document["_id"]}, document, upsert=True, session=self._session
        )

    def update(self, name: str, query: Document, update: Document) -> None:
        """Updates all documents that match."""
        self._database[name].update_many(query, update, session=self._session)

    def delete(self, name: str, query: Document) -> None:
        """Deletes all documents that match."""
        self._database[name].delete_many(query, session=self._session)

    def next_number(self, sequence: str) -> int:
        """The next number of a sequence: see ``next_numbers``."""
        return self.next_numbers(sequence, 1)[0]

    def next_numbers(self, sequence: str, count: int) -> range:
        """The next numbers of a sequence, from 1: small, increasing, never used before.

        Taken outside the transaction, or everything that is numbered would wait for each other; a
        run that fails leaves a gap, and gaps are fine.
        """
        while True:
            # Of several that start a sequence at once, some find that another was faster.
            with suppress(DuplicateKeyError):
                document = self._database["sequences"].find_one_and_update(
                    {"_id": sequence},
                    {"$inc": {"last": count}},
                    upsert=True,
                    return_document=pymongo.ReturnDocument.AFTER,
                )
                if document is not None:
                    last = int(document["last"])
                    return range(last - count + 1, last + 1)

    def skip_numbers(self, sequence: str, last: int) -> None:
        """Numbers up to ``last`` are not taken from the sequence any more.

        Outside the transaction, as they are taken, and not awaited on the disk: what comes first is
        there whenever the transaction is.
        """
        quick = pymongo.WriteConcern(1)
        sequences = self._database.get_collection("sequences", write_concern=quick)
        while True:
            with suppress(DuplicateKeyError):
                sequences.update_one({"_id": sequence}, {"$max": {"last": last}}, upsert=True)
                return

    def bulk_write(self, name: str, writes: Sequence[Write]) -> int:
        """Returns how many documents the updates matched. Sends nothing if there are no writes."""
        if not writes:
            return 0
        return self._database[name].bulk_write(writes, session=self._session).matched_count


Work = Callable[[Transaction], T]


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
        self._blocking = cast("pymongo.database.Database[Document]", self._database.delegate)
        # Long reads must leave connections and threads to all others.
        self._snapshots: pymongo.MongoClient[Document] = snapshots or client.delegate
        self._snapshot_threads = ThreadPoolExecutor(MAX_SNAPSHOTS, "snapshot")
        # Each call of Motor passes through the event loop twice, which under load takes longer
        # than the call. A transaction is many calls: one thread makes them all.
        self._threads = ThreadPoolExecutor(MAX_TRANSACTIONS, "transaction")
        self._watched: set[bytes] = set()
        # Strong references: the loop itself keeps only weak ones.
        self._unanswered: set[asyncio.Task[Any]] = set()
        self._looked_at = 0.0
        self.watch: SessionWatch | None = None
        """Is called with the id of each driver session of a transaction, once, before its use."""

    @classmethod
    async def connect(cls, uri: str) -> "Database":
        """Connects to the deployment, or raises ``StartupRefused`` within 10 s.

        The database is the one that ``uri`` names, or ``polls``. The deployment must be a replica
        set, since a transaction needs one. No error text contains any part of ``uri``.
        """
        options: dict[str, Any] = {
            "tz_aware": True,
            "tzinfo": UTC,
            "serverSelectionTimeoutMS": int(SELECTION_SECONDS * 1000),
            "connectTimeoutMS": int(SELECTION_SECONDS * 1000),
            "heartbeatFrequencyMS": int(HEARTBEAT_SECONDS * 1000),
            "retryWrites": True,
            "retryReads": True,
            "appname": APP_NAME,
        }
        try:
            # The driver ignores an option that it does not know, and repeats it in a warning: it
            # may be part of a password, or the option that was to protect the connection.
            with warnings.catch_warnings(action="error", category=UserWarning):
                client: AgnosticClient[Document] = AsyncIOMotorClient(uri, **options)
            name = client.get_default_database(DEFAULT_DATABASE).name
        except (ConfigurationError, InvalidURI, ValueError, UserWarning, OSError) as error:
            raise StartupRefused(
                "MONGODB_URI is not valid: write it as "
                "mongodb://user:password@host:27017/polls?replicaSet=rs0, with user and password "
                "percent-encoded, with options that PyMongo knows, and with files that exist."
            ) from error
        try:
            _require_replica_set(await cls._greet(client))
        except BaseException:
            client.close()
            raise
        snapshots = {**options, "appname": SNAPSHOTS}
        return cls(client, name, pymongo.MongoClient(uri, connect=False, **snapshots))

    @staticmethod
    async def _greet(client: AgnosticClient[Document]) -> Document:
        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                with round_trip(deadline, is_logged=False):
                    hello: Document = await client.admin.command("hello")
                    # Needs no right, but proves that the user can log in.
                    await client.get_default_database(DEFAULT_DATABASE).command("ping")
                    return hello
            except Unavailable as error:
                if (refusal := _access_error(error)) is not None:
                    raise StartupRefused(
                        "MongoDB rejects the user of MONGODB_URI: check user, password and "
                        f"authSource (error code {refusal.code})."
                    ) from error
                if time.monotonic() + 0.2 >= deadline:
                    raise StartupRefused(
                        "MongoDB at MONGODB_URI did not answer within 10 s, or has no primary: "
                        "check that it runs, that rs.initiate() was run once, and that "
                        "replicaSet, host, port and TLS settings are right."
                    ) from error
                await asyncio.sleep(0.2)

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
            refusal = _access_error(error)
            if refusal is None:
                raise
            raise StartupRefused(
                "The user of MONGODB_URI lacks a right that the service needs "
                f"(docs/deployment.md lists them): {_reason(refusal)}"
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
        self._snapshot_threads.shutdown(wait=False)
        self._snapshots.close()
        self._client.close()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["Snapshot"]:
        """Reads that all see one moment, for a minute at most.

        They have connections and threads of their own, so that nobody else waits for long ones.
        """
        with self._snapshots.start_session() as session:
            session.start_transaction(read_concern=ReadConcern("snapshot"))
            database = self._snapshots.get_database(self._database.name, **CONCERNS)
            snapshot = Snapshot(Transaction(database, session), self._snapshot_threads)
            try:
                yield snapshot
            finally:
                with suppress(Unavailable):
                    await snapshot.read(partial(_end, session), seconds=CLOSE_SECONDS)

    async def changes(self, name: str) -> "Changes":
        """What changes in a collection from the return of this on; raises ``Unavailable``."""
        opening = partial(_open_changes, self._blocking[name])
        return Changes(name, await self._in_thread(opening, _deadline()))

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
        running = self._until_committed(work, max_conflicts, _deadline(seconds), committed)
        return await (running if answer_by() == float("inf") else self._in_time(running))

    async def _in_time(self, transaction: Coroutine[Any, Any, T]) -> T:
        """The result of a transaction, which continues alone if its caller must be answered."""
        running = asyncio.create_task(transaction)
        self._unanswered.add(running)
        running.add_done_callback(self._note_end)
        try:
            await asyncio.wait([running], timeout=max(answer_by() - time.monotonic(), 0.0))
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.wait([running])
            raise
        if not running.done():
            raise OutcomeUnknown
        return running.result()

    def _note_end(self, transaction: asyncio.Task[Any]) -> None:
        self._unanswered.discard(transaction)
        if not transaction.cancelled():
            transaction.exception()  # or the loop would report it as never retrieved

    async def _until_committed(
        self,
        work: Work[T],
        max_conflicts: int | None,
        deadline: float,
        committed: Callable[[], None],
    ) -> T:
        attempt = uuid.uuid4().hex
        runs = 0
        began = time.monotonic()
        while True:
            with suppress(RunAgain):
                return await self._attempt(work, attempt, deadline, committed)
            runs += 1
            if runs == max_conflicts:
                raise TooManyConflicts
            if time.monotonic() + BACKOFF_SECONDS[1] >= deadline:
                raise Unavailable("The database is too busy; nothing was changed.")
            if time.monotonic() - max(began, self._looked_at) >= CONFLICT_SECONDS:
                self._looked_at = time.monotonic()
                await self._end_abandoned(deadline)
            await _pause()

    async def _end_abandoned(self, deadline: float) -> None:
        """Ends the transactions of processes that were killed, or cannot reach the database.

        Whatever these wrote conflicts with everybody else, until MongoDB ends them after a minute.
        A process that is only slow finds its transaction gone, and runs it again. Snapshots may
        wait for their reader. The deployment shows only what its user began.
        """
        pipeline: list[Document] = [
            {"$currentOp": {"allUsers": False, "idleSessions": True}},
            {
                "$match": {
                    "type": "idleSession",
                    "appName": APP_NAME,
                    "transaction.timeInactiveMicros": {"$gte": int(ABANDONED_SECONDS * 1e6)},
                }
            },
        ]
        # SecantusDB does not know them; there the parent of the workers ends theirs.
        with suppress(Unavailable, OperationFailure), round_trip(deadline, is_logged=False):
            found = await self._client.admin.aggregate(pipeline).to_list(None)
            if names := [{"id": one["lsid"]["id"]} for one in found]:
                await self._client.admin.command("killSessions", names)
                log.warning("abandoned transactions ended", count=len(names))

    async def _attempt(
        self, work: Work[T], attempt: str, deadline: float, committed: Callable[[], None]
    ) -> T:
        # Neither the start nor the end of a session asks the server, so neither needs a thread.
        with cast(ClientSession, self._client.delegate.start_session()) as session:
            name = bytes(session.session_id["id"])
            if self.watch is not None and name not in self._watched:
                self._watched.add(name)
                self.watch(name)
            session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=pymongo.WriteConcern("majority", j=True),
            )
            try:
                result, proof, refusal = await self._in_thread(
                    self._run, work, session, attempt, deadline, committed
                )
            except BaseException as error:
                await self._in_thread(_abort, session, deadline, error)
                if isinstance(error, Unavailable) and time.monotonic() < deadline:
                    raise RunAgain from error
                raise
            if refusal is None or await self._is_stored(session, proof, refusal):
                return result
            raise RunAgain

    def _run(
        self,
        work: Work[T],
        session: ClientSession,
        attempt: str,
        deadline: float,
        committed: Callable[[], None],
    ) -> tuple[T, Proof, PyMongoError | None]:
        """The result of ``work``, its proof, and the error that its commit was answered with."""
        transaction = Transaction(self._blocking, session)
        with round_trip(deadline):
            result = work(transaction)
            proof = transaction.proof
            if proof is None:
                proof = "attempts", {"_id": attempt}
                transaction.insert("attempts", {"_id": attempt, "created_at": datetime.now(UTC)})
        refusal = _commit(session)
        if refusal is None:
            committed()
        return result, proof, refusal

    async def _is_stored(self, session: ClientSession, proof: Proof, refusal: PyMongoError) -> bool:
        """What became of a commit that was answered with ``refusal``.

        False means that it certainly is not stored. Raises ``Unavailable`` if it stays unknown.
        """
        deadline = time.monotonic() + OUTCOME_SECONDS
        refusals = 0
        error: PyMongoError | None = refusal
        while error is not None:
            # After a refusal it may still be open, and hold what it wrote: sent again, it is
            # stored, or unknown. And the driver itself sends a commit again, so "no such
            # transaction" may be the second answer to one that was stored.
            refusals += not _is_lost(error)
            is_unknown = isinstance(error, OperationFailure) and error.code == NO_SUCH_TRANSACTION
            asks_proof = is_unknown or refusals >= MAX_COMMIT_REFUSALS
            if asks_proof:
                name, query = proof
                # Not cut short by the time limit of the caller.
                with suppress(Unavailable), round_trip(time.monotonic() + ROUND_TRIP_SECONDS):
                    return await self.collection(name).find_one(query, {"_id": 1}) is not None
            if time.monotonic() >= deadline:
                raise OutcomeUnknown from error
            await _pause()
            if not asks_proof:
                error = await self._in_thread(_commit, session)
        return True

    async def _in_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await _in_thread(self._threads, function, *arguments)


class Snapshot:
    """Reads that all see one moment. One runs at a time."""

    def __init__(self, transaction: Transaction, threads: ThreadPoolExecutor) -> None:
        self._transaction = transaction
        self._threads = threads

    async def read(self, work: Work[T], *, seconds: float | None = None) -> T:
        """The result of ``work``; its limit is ``seconds``, or else that of the caller."""
        deadline = _deadline() if seconds is None else time.monotonic() + seconds
        return await _in_thread(self._threads, self._read, work, deadline)

    def _read(self, work: Work[T], deadline: float) -> T:
        with round_trip(deadline):
            return work(self._transaction)

    async def close(self, name: str, cursor: Cursor) -> None:
        """Closes a cursor over a collection."""
        with suppress(Unavailable):
            await self.read(
                lambda transaction: transaction.close(name, cursor), seconds=CLOSE_SECONDS
            )


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
            database_errors[_kind_of(error)] += 1
            _trouble.note(error)
        elif not self._is_closed:
            log.error("changes cannot be followed", exc_info=error)
        self._error = error
        self._arrived.set()


def _open_changes(
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


async def _in_thread(
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


def _end(session: ClientSession, _: Transaction) -> None:
    """Ends the transaction of a snapshot."""
    session.abort_transaction()
    # By name too: the driver does not report an abort that was lost.
    session.client.admin.command("killSessions", [session.session_id])


def _require_replica_set(hello: Document) -> None:
    if "setName" not in hello:
        kind = "a sharded cluster" if hello.get("msg") == "isdbgrid" else "standalone"
        raise StartupRefused(
            f"The MongoDB at MONGODB_URI is {kind}, and this service needs the transactions of a "
            "replica set: start mongod with --replSet rs0 and run rs.initiate() once (one node is "
            "enough)."
        )


def _commit(session: ClientSession) -> PyMongoError | None:
    """None if it is stored; the time limit of the caller does not cut it short."""
    try:
        with pymongo.timeout(ROUND_TRIP_SECONDS):
            session.commit_transaction()
    except PyMongoError as error:
        return error
    return None


def _abort(session: ClientSession, deadline: float, error: BaseException) -> None:
    """Ends a transaction that failed with ``error``.

    Until the server is told, it holds what the transaction wrote, and the next run conflicts: for a
    minute on MongoDB, without end on SecantusDB. The driver does not report an abort that was lost,
    so after a broken connection the session is ended by its id.
    """
    # After a broken connection the driver looks for the server for half a second or more.
    until = max(deadline, time.monotonic() + 0.5)
    with suppress(Unavailable, PyMongoError), round_trip(until):
        session.abort_transaction()
        if isinstance(error.__cause__, PyMongoError) and _is_lost(error.__cause__):
            session.client.admin.command("killSessions", [session.session_id])


async def _pause() -> None:
    await asyncio.sleep(random.uniform(*BACKOFF_SECONDS))  # noqa: S311 - jitter is no secret


def init_replica_set(
    address: str, *, name: str, key: str, user: str, password: str, seconds: float
) -> None:
    """Makes the mongod at ``address`` a replica set of one node, with one administrator.

    ``key`` is the content of its key file, which is accepted before there is any user. Safe to
    repeat, also after a start on another port, which the set must be told. Blocks until the node
    accepts writes; raises ``StartupRefused`` if it does not within ``seconds``.
    """
    with pymongo.MongoClient[Document](
        address,
        username="__system",
        password=key,
        authSource="local",
        directConnection=True,
        serverSelectionTimeoutMS=int(seconds * 1000),
        appname=APP_NAME,
    ) as client:
        try:
            with pymongo.timeout(seconds):
                _configure_set(client, name, address)
                while not client.admin.command("hello")["isWritablePrimary"]:
                    time.sleep(0.01)
                _ensure_user(client, user, password)
        except PyMongoError as error:
            raise StartupRefused(
                f"The embedded MongoDB does not accept writes: {_reason(error)}."
            ) from error


def _configure_set(client: pymongo.MongoClient[Document], name: str, address: str) -> None:
    config = client["local"]["system.replset"].find_one()
    if config is None:
        members = [{"_id": 0, "host": address}]
        client.admin.command("replSetInitiate", {"_id": name, "members": members})
    elif config["members"][0]["host"] != address:
        config["members"][0]["host"] = address
        config["version"] += 1
        while True:
            try:
                client.admin.command("replSetReconfig", config, force=True)
                break
            except OperationFailure as error:
                # It listens before it has read its own configuration: first it looks for itself at
                # the old address, where another program that does not answer may listen now.
                if error.code != NOT_YET_INITIALIZED:
                    raise
                time.sleep(0.01)


def _ensure_user(client: pymongo.MongoClient[Document], user: str, password: str) -> None:
    try:
        client.admin.command("createUser", user, pwd=password, roles=["root"])
    except OperationFailure as error:
        if error.code != USER_EXISTS:
            raise
        # The file of the password may have been lost, or restored from elsewhere.
        client.admin.command("updateUser", user, pwd=password)
