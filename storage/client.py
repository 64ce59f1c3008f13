"""The one module that names the driver: connections, bounded round trips, transactions.

Motor is in its last year of critical fixes and PyMongo's own asynchronous API succeeds it. Whatever
differs between the two stays in here; the other modules take their types and errors from this one.
"""

import asyncio
import random
import time
import uuid
import warnings
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar, TypeVarTuple, cast

import bson
import pymongo
import pymongo.client_session
import pymongo.collection
from bson.binary import UUID_SUBTYPE, Binary
from bson.raw_bson import RawBSONDocument
from motor.core import (
    AgnosticClient,
    AgnosticClientSession,
    AgnosticCollection,
    AgnosticCursor,
    AgnosticDatabase,
)
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession
from pymongo import (
    DeleteOne,
    IndexModel,
    MongoClient,
    ReadPreference,
    ReplaceOne,
    ReturnDocument,
    UpdateOne,
    WriteConcern,
)
from pymongo.errors import (
    BulkWriteError,
    CollectionInvalid,
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

from storage.errors import StartupRefused, Unavailable
from storage.meters import database_errors

__all__ = [
    "NOTHING_CHANGED",
    "OUTCOME_UNKNOWN",
    "BlockingSession",
    "BulkWriteError",
    "Collection",
    "Database",
    "DeleteOne",
    "Document",
    "DuplicateKeyError",
    "IndexModel",
    "ReplaceOne",
    "ReturnDocument",
    "RunAgain",
    "Session",
    "SessionWatch",
    "TooManyConflicts",
    "UpdateOne",
    "answer_by",
    "closing",
    "decode",
    "find_raw",
    "patience_left",
    "round_trip",
    "set_patience",
    "stored_size",
]

log = get_logger(__name__)

Document = dict[str, Any]
Collection = AgnosticCollection[Document]
Cursor = AgnosticCursor[Document]
Session = AgnosticClientSession
BlockingCollection = pymongo.collection.Collection[Document]
BlockingSession = pymongo.client_session.ClientSession
T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
SessionWatch = Callable[[bytes], None]

DEFAULT_DATABASE = "polls"

SELECTION_SECONDS = 2.0
"""How long the driver looks for a primary before it gives up."""
HEARTBEAT_SECONDS = 0.5
"""How often the driver hears from each node. One that says nothing for as long as this and a
connection may take together, 2.5 s, is given up with all that waits for its answer: a primary that
hangs costs its callers no more than an election."""
ROUND_TRIP_SECONDS = 4.0
"""The longest a read or a write may take, and all statements of a transaction together."""
OUTCOME_SECONDS = 20.0
"""How long the outcome of a commit that was sent is asked for: longer than an election takes."""
CLOSE_SECONDS = 2.0
LAST_SECONDS = 0.3
"""How much longer than its patience a caller waits for the outcome of what it began."""
STARTUP_SECONDS = 10.0
TROUBLE_SECONDS = 1.0
"""The least time between two lines in the log about a database that is away."""
MAX_REASON = 300
BACKOFF_SECONDS = (0.005, 0.030)
MAX_COMMIT_REFUSALS = 5

NOTHING_CHANGED = "The database gave no answer in time; nothing was changed."
OUTCOME_UNKNOWN = (
    "The database gave no answer in time; whether the change was stored is not known yet. Ask for "
    "it, or send the request again with the same Idempotency-Key."
)

NAMESPACE_EXISTS = 48
NOT_YET_INITIALIZED = 94
USER_EXISTS = 51003
ACCESS_REFUSED = frozenset({13, 18})
"""Unauthorized, AuthenticationFailed."""
NO_SUCH_TRANSACTION = 251
UNABLE = frozenset(
    {
        1,  # InternalError, as of WiredTiger after a panic
        6,  # HostUnreachable
        7,  # HostNotFound
        8,  # UnknownError
        *ACCESS_REFUSED,  # somebody has changed the password, or the rights
        39,  # FileStreamFailed
        43,  # CursorNotFound: it was on a server that was started again
        46,  # LockBusy
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        94,  # NotYetInitialized
        112,  # WriteConflict, of a write that is no transaction
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        146,  # ExceededMemoryLimit
        175,  # QueryPlanKilled
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        211,  # KeyNotFound: it has just become primary, and has no keys yet to sign its time with
        237,  # CursorKilled
        246,  # SnapshotUnavailable
        261,  # TooManyLogicalSessions
        262,  # ExceededTimeLimit
        279,  # ClientDisconnect
        290,  # TransactionExceededLifetimeLimitSeconds
        365,  # TemporarilyUnavailable
        391,  # ReauthenticationRequired
        462,  # IngressRequestRateLimitExceeded
        9001,  # SocketException
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        14031,  # OutOfDiskSpace
    }
)
"""Codes with which a database says that it cannot now, whatever it was asked. Any other code is our
mistake. The names are those of MongoDB's ``error_codes.yml``."""
UNLABELLED_TRANSIENT = frozenset({24, NO_SUCH_TRANSACTION})
"""The stand-in gives these no label: a lock given up, and a transaction that it does not
know any more since it was started again."""

_patience: ContextVar[float] = ContextVar("patience", default=float("inf"))


def set_patience(seconds: float) -> None:
    """Bounds all round trips of this context together: several take no longer than one.

    To be set anew by each request. A commit that was sent is not cut short: its outcome is
    resolved, not guessed, although the caller may have been answered by then (``answer_by``).
    """
    _patience.set(time.monotonic() + seconds)


def answer_by() -> float:
    """When the caller is to be answered, whatever it began; monotonic, infinite if nobody said."""
    return _patience.get() + LAST_SECONDS


def patience_left() -> float | None:
    """The seconds that the caller may still wait; None where nobody said."""
    until = _patience.get()
    return None if until == float("inf") else max(until - time.monotonic(), 0.0)


@contextmanager
def _waiting_until(deadline: float) -> Iterator[None]:
    token = _patience.set(deadline)
    try:
        yield
    finally:
        _patience.reset(token)


def _deadline(seconds: float | None = None) -> float:
    limit = ROUND_TRIP_SECONDS if seconds is None else seconds
    return min(_patience.get(), time.monotonic() + limit)


@contextmanager
def round_trip(
    deadline: float | None = None,
    *,
    unavailable: str = NOTHING_CHANGED,
    is_logged: bool = True,
) -> Iterator[None]:
    """Bounds the driver's calls inside and raises ``Unavailable`` where the database is away.

    ``deadline`` is on the monotonic clock. ``unavailable`` is the text of ``Unavailable``: a write
    outside of a transaction must not promise that nothing was changed. ``DuplicateKeyError`` and
    errors that are no fault of the connection pass through as they are.
    """
    until = _deadline() if deadline is None else deadline
    try:
        # A timeout of 0 would mean none at all.
        with pymongo.timeout(max(until - time.monotonic(), 0.001)):
            yield
    except PyMongoError as error:
        database_errors[_kind_of(error)] += 1
        if _is_absence(error):
            if is_logged:
                _trouble.note(error)
            raise Unavailable(unavailable) from error
        raise


def _refusal_of(error: Unavailable) -> OperationFailure | None:
    """The answer that lets a user not in, or not do something, if that is the reason."""
    cause = error.__cause__
    is_refusal = isinstance(cause, OperationFailure) and cause.code in ACCESS_REFUSED
    return cast(OperationFailure, cause) if is_refusal else None


def _reason(error: PyMongoError) -> str:
    """What the driver says, without the answer that it repeats behind that."""
    return str(error).partition(", full error")[0][:MAX_REASON]


class _Trouble:
    """Logs what the database answers while it cannot serve: a line a second, however many ask."""

    def __init__(self) -> None:
        self._silent_until = 0.0
        self._unlogged = 0

    def note(self, error: PyMongoError) -> None:
        if _is_transient(error):
            return  # a conflict, mostly: it is tried again
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


def _is_absence(error: PyMongoError) -> bool:
    """Whether the database, not the request, is to blame."""
    if isinstance(error, DuplicateKeyError):
        return False
    # A primary that steps down says of writes that wait for a majority: their concern failed.
    return (
        isinstance(error, ConnectionFailure | WriteConcernError)
        or error.timeout
        or _is_transient(error)
        or (isinstance(error, OperationFailure) and not UNABLE.isdisjoint(_codes_of(error)))
    )


def _codes_of(error: OperationFailure) -> set[int]:
    """Of a bulk write, those of all that failed in it."""
    if not isinstance(error, BulkWriteError):
        return {error.code or 0}
    details = error.details
    return {one["code"] for one in details["writeErrors"] + details["writeConcernErrors"]}


def _is_transient(error: PyMongoError) -> bool:
    return error.has_error_label("TransientTransactionError") or (
        isinstance(error, OperationFailure) and error.code in UNLABELLED_TRANSIENT
    )


def _is_lost(error: PyMongoError) -> bool:
    """Whether an answer never came, or says that nobody knows."""
    return (
        isinstance(error, ConnectionFailure | WriteConcernError)
        or error.timeout
        or error.has_error_label("UnknownTransactionCommitResult")
    )


def _is_unknown(error: PyMongoError) -> bool:
    return isinstance(error, OperationFailure) and error.code == NO_SUCH_TRANSACTION


async def find_raw(collection: Collection, ids: Sequence[Any]) -> list[bytes]:
    """The documents with these ``_id``s as they are stored (BSON), in no order."""
    raw = collection.codec_options.with_options(document_class=RawBSONDocument)
    cursor = collection.with_options(codec_options=raw).find(
        {"_id": {"$in": ids}}, batch_size=len(ids) + 1
    )
    return [cast(bytes, cast(RawBSONDocument, one).raw) for one in await cursor.to_list(None)]


@asynccontextmanager
async def closing(collection: Collection, cursor: Cursor) -> AsyncIterator[None]:
    """Closes a cursor of a transaction, over the collection, at the end of the block.

    On MongoDB it goes with its transaction, on the stand-in it does not; and where its connection
    broke the driver believes that it is gone.
    """
    try:
        yield
    except Unavailable:
        with suppress(Unavailable), round_trip(time.monotonic() + CLOSE_SECONDS):
            ids = [cursor.cursor_id]
            await collection.database.command("killCursors", collection.name, cursors=ids)
        raise
    finally:
        with suppress(Unavailable), round_trip(time.monotonic() + CLOSE_SECONDS):
            await cursor.close()


def decode(collection: Collection, raw: bytes) -> Document:
    """A document of ``find_raw`` as ``find`` would give it."""
    return bson.decode(raw, collection.codec_options)


def stored_size(document: Document) -> int:
    """Bytes of a document as MongoDB stores it (BSON)."""
    return len(bson.encode(document))


def _require_replica_set(hello: Document) -> None:
    if "setName" not in hello:
        kind = "a sharded cluster" if hello.get("msg") == "isdbgrid" else "standalone"
        raise StartupRefused(
            f"The MongoDB of MONGODB_URI is {kind}, and this service needs the transactions of a "
            "replica set: start mongod with --replSet rs0 and run rs.initiate() once (one node is "
            "enough)."
        )


def found_replica_set(
    address: str, *, name: str, key: str, user: str, password: str, seconds: float
) -> None:
    """Makes the mongod at ``address`` a replica set of one node, with one administrator.

    ``key`` is the content of its key file, with which it lets us in before there is any user. Safe
    to repeat, also after a start on another port, which the set must be told. Blocks until the node
    takes writes; raises ``StartupRefused`` where it does not within ``seconds``.
    """
    with MongoClient[Document](
        address,
        username="__system",
        password=key,
        authSource="local",
        directConnection=True,
        serverSelectionTimeoutMS=int(seconds * 1000),
        appname="polls",
    ) as client:
        try:
            with pymongo.timeout(seconds):
                _configure_set(client, name, address)
                while not client.admin.command("hello")["isWritablePrimary"]:
                    time.sleep(0.01)
                _let_in(client, user, password)
        except PyMongoError as error:
            raise StartupRefused(
                f"The embedded MongoDB takes no writes: {_reason(error)}."
            ) from error


def _configure_set(client: MongoClient[Document], name: str, address: str) -> None:
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
            except OperationFailure as error:
                # It listens before it has read its own configuration. First it looks for itself
                # under the old address, where somebody may listen now who does not answer.
                if error.code != NOT_YET_INITIALIZED:
                    raise
                time.sleep(0.01)
            else:
                return


def _let_in(client: MongoClient[Document], user: str, password: str) -> None:
    try:
        client.admin.command("createUser", user, pwd=password, roles=["root"])
    except OperationFailure as error:
        if error.code != USER_EXISTS:
            raise
        # The file of the password may have been lost, or put back from elsewhere.
        client.admin.command("updateUser", user, pwd=password)


class Run(NamedTuple, Generic[T]):
    """What one run of a transaction came to; ``refusal`` is what its commit was answered with."""

    result: T
    refusal: PyMongoError | None


class RunAgain(Exception):
    """One run of a transaction stored nothing, and another may."""


class TooManyConflicts(Exception):
    """A transaction conflicted as often as its caller would bear; nothing is stored."""


class Database:
    """One database of one deployment: its collections, and transactions over them.

    It belongs to the event loop it was made in.
    """

    def __init__(self, client: AgnosticClient[Document], name: str) -> None:
        self._client = client
        self._database: AgnosticDatabase[Document] = client.get_database(
            name,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority", j=True),
        )
        self._attempts = self.collection("attempts")
        self._watched: set[bytes] = set()
        # Strong references: the loop itself keeps only weak ones.
        self._unanswered: set[asyncio.Task[Any]] = set()
        self.watch: SessionWatch | None = None
        """Is told the id of each session of a transaction, once, before it is used."""

    @classmethod
    async def connect(cls, uri: str) -> "Database":
        """Reaches the deployment, or raises ``StartupRefused`` within 10 s.

        The database is the one that ``uri`` names, or ``polls``. The deployment must be a replica
        set: transactions need one. No text of an error holds any part of ``uri``.
        """
        try:
            # The driver ignores an option it does not know, with a warning that repeats it: that
            # may be a piece of a password, or the option that was to protect the connection.
            with warnings.catch_warnings(action="error", category=UserWarning):
                client: AgnosticClient[Document] = AsyncIOMotorClient(
                    uri,
                    tz_aware=True,
                    tzinfo=UTC,
                    serverSelectionTimeoutMS=int(SELECTION_SECONDS * 1000),
                    connectTimeoutMS=int(SELECTION_SECONDS * 1000),
                    heartbeatFrequencyMS=int(HEARTBEAT_SECONDS * 1000),
                    retryWrites=True,
                    retryReads=True,
                    appname="polls",
                )
            name = client.get_default_database(DEFAULT_DATABASE).name
        except (ConfigurationError, InvalidURI, ValueError, UserWarning, OSError) as error:
            raise StartupRefused(
                "MONGODB_URI cannot be used: write it as "
                "mongodb://user:password@host:27017/polls?replicaSet=rs0, with user and password "
                "percent-encoded, and with options that PyMongo knows and files that are there."
            ) from error
        try:
            _require_replica_set(await cls._greet(client))
        except BaseException:
            client.close()
            raise
        return cls(client, name)

    @staticmethod
    async def _greet(client: AgnosticClient[Document]) -> Document:
        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                with round_trip(deadline, is_logged=False):
                    # The second asks for nothing but proves that the user is let in.
                    hello: Document = await client.admin.command("hello")
                    await client.get_default_database(DEFAULT_DATABASE).command("ping")
                    return hello
            except Unavailable as error:
                if (refusal := _refusal_of(error)) is not None:
                    raise StartupRefused(
                        "MongoDB does not let the user of MONGODB_URI in: check user, password and "
                        f"authSource (error code {refusal.code})."
                    ) from error
                if time.monotonic() + 0.2 >= deadline:
                    raise StartupRefused(
                        "MongoDB cannot be reached within 10 s at the address of MONGODB_URI, or "
                        "has no primary: check that it runs, that rs.initiate() was run once and "
                        "that replicaSet, host, port and TLS settings are right."
                    ) from error
                await asyncio.sleep(0.2)

    def collection(self, name: str) -> Collection:
        return self._database.get_collection(name)

    def blocking_collection(self, name: str) -> BlockingCollection:
        """For ``transaction_at_once``; elsewhere it would stop the event loop."""
        return cast(BlockingCollection, self._database.get_collection(name).delegate)

    async def ensure(self, name: str, indexes: list[IndexModel]) -> None:
        """Creates what is missing of a collection; before traffic, since a transaction must not."""
        deadline = time.monotonic() + STARTUP_SECONDS
        try:
            with round_trip(deadline, is_logged=False):
                if name not in await self._database.list_collection_names(filter={"name": name}):
                    await self._create(name)
                if indexes:
                    await self.collection(name).create_indexes(indexes)
        except Unavailable as error:
            refusal = _refusal_of(error)
            if refusal is None:
                raise
            raise StartupRefused(
                "MongoDB does not give the user of MONGODB_URI every right that is needed, which "
                f"docs/deployment.md lists: {_reason(refusal)}"
            ) from error

    async def _create(self, name: str) -> None:
        try:
            await self._database.create_collection(name)
        except CollectionInvalid:
            pass  # another process was faster
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise

    async def check_writes(self) -> None:
        """Raises ``Unavailable`` unless a write can be made, and made durable.

        A database may answer reads and refuse every write: on a full disk, or without a majority.
        """
        with round_trip():
            await self.collection("meta").update_one(
                {"_id": "writes"}, {"$set": {"checked_at": datetime.now(UTC)}}, upsert=True
            )

    async def is_answering(self) -> bool:
        """Whether a server is there at all, whatever it can do."""
        try:
            with round_trip():
                await self._client.admin.command("hello", read_preference=ReadPreference.NEAREST)
        except Unavailable as error:
            return isinstance(error.__cause__, OperationFailure)
        except OperationFailure:
            return True
        return True

    async def end_sessions(self, sessions: Iterable[bytes]) -> None:
        """Ends sessions by name; what their transactions held is free again."""
        names = [{"id": Binary(name, UUID_SUBTYPE)} for name in sessions]
        with round_trip():
            await self._client.admin.command("killSessions", names)

    def close(self) -> None:
        self._client.close()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """A session whose reads all see one moment; for a minute at most, then MongoDB ends it."""
        async with await self._client.start_session() as session:
            session.start_transaction(read_concern=ReadConcern("snapshot"))
            try:
                yield session
            except BaseException as error:
                await self._abort(session, time.monotonic() + ROUND_TRIP_SECONDS, error)
                raise
            with suppress(Unavailable), round_trip(time.monotonic() + ROUND_TRIP_SECONDS):
                await session.abort_transaction()

    async def transaction(
        self,
        work: Callable[[Session], Awaitable[T]],
        *,
        max_conflicts: int | None = None,
        seconds: float | None = None,
    ) -> T:
        """Runs ``work`` in one snapshot transaction until it is committed, and returns its result.

        ``work`` runs again after a conflict, or where it raises ``RunAgain``, so it must decide on
        nothing but its arguments and what it reads through the session. What else it raises ends
        the transaction and is raised here: nothing is stored then.

        Each run leaves a mark of this attempt in the transaction itself. Where the answer to a
        commit was lost, and the deployment no longer knows the transaction when asked again, the
        mark tells whether it was stored: nothing is done twice, no success is reported as a
        failure.

        Raises ``Unavailable`` when conflicts or an absent database used up ``seconds``, 4 of them
        unless given, or when the caller is to be answered and the outcome is not known; then it is
        resolved without the caller. Raises ``TooManyConflicts`` after ``max_conflicts`` runs.
        """

        async def run(session: Session, mark: Document, deadline: float) -> Run[T]:
            with round_trip(deadline):
                result = await work(session)
                await self._attempts.insert_one(mark, session=session)
            return Run(result, await _send_commit(session))

        return await self._in_time(self._until_committed(run, max_conflicts, seconds))

    async def transaction_at_once(
        self, work: Callable[[BlockingSession], T], *, max_conflicts: int | None = None
    ) -> T:
        """As ``transaction``, for ``work`` that needs nothing of the event loop.

        A thread runs it to the end, the commit included. Each call of Motor goes through the event
        loop twice, which under load takes longer than the call.
        """

        def run_in_thread(session: BlockingSession, mark: Document, deadline: float) -> Run[T]:
            with round_trip(deadline):
                result = work(session)
                self._attempts.delegate.insert_one(mark, session=session)
            try:
                with pymongo.timeout(ROUND_TRIP_SECONDS):
                    session.commit_transaction()
            except PyMongoError as error:
                return Run(result, error)
            return Run(result, None)

        async def run(session: Session, mark: Document, deadline: float) -> Run[T]:
            return await _in_thread(run_in_thread, session.delegate, mark, deadline)

        return await self._in_time(self._until_committed(run, max_conflicts, None))

    async def _in_time(self, transaction: Coroutine[Any, Any, T]) -> T:
        """What comes of a transaction; it goes on alone where its caller can wait no longer."""
        if answer_by() == float("inf"):
            return await transaction
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
            raise Unavailable(OUTCOME_UNKNOWN)
        return running.result()

    def _note_end(self, transaction: asyncio.Task[Any]) -> None:
        self._unanswered.discard(transaction)
        if not transaction.cancelled():
            transaction.exception()  # its caller may have gone, and the loop would complain

    async def _until_committed(
        self,
        run: Callable[[Session, Document, float], Awaitable["Run[T]"]],
        max_conflicts: int | None,
        seconds: float | None,
    ) -> T:
        attempt = uuid.uuid4().hex
        deadline = _deadline(seconds)
        runs = 0
        while True:
            with suppress(RunAgain):
                return await self._attempt(run, attempt, deadline)
            runs += 1
            if runs == max_conflicts:
                raise TooManyConflicts
            if time.monotonic() + BACKOFF_SECONDS[1] >= deadline:
                raise Unavailable("The database is too busy; nothing was changed.")
            await _pause()

    async def _attempt(
        self,
        run: Callable[[Session, Document, float], Awaitable["Run[T]"]],
        attempt: str,
        deadline: float,
    ) -> T:
        # Neither the start nor the end of a session asks the server, so neither needs a thread.
        with self._client.delegate.start_session() as blocking:
            session: Session = AsyncIOMotorClientSession(blocking, self._client)
            if self.watch is not None:
                self._tell_watch(session, self.watch)
            session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority", j=True),
            )
            mark = {"_id": attempt, "created_at": datetime.now(UTC)}
            try:
                result, refusal = await run(session, mark, deadline)
            except BaseException as error:
                await self._abort(session, deadline, error)
                if isinstance(error, Unavailable) and time.monotonic() < deadline:
                    raise RunAgain from error
                raise
            if refusal is None or await self._find_outcome(session, attempt, refusal):
                return result
            raise RunAgain

    def _tell_watch(self, session: Session, watch: SessionWatch) -> None:
        name = bytes(cast(Document, session.session_id)["id"])
        if name not in self._watched:
            self._watched.add(name)
            watch(name)

    async def _abort(self, session: Session, deadline: float, error: BaseException) -> None:
        """Ends the transaction; where the database is gone it is gone with it.

        Until it was told, the server holds what this transaction wrote, and the next run conflicts:
        for a minute on MongoDB, for ever on the stand-in. The driver keeps silent about an abort
        that was lost, so after a broken connection the session is ended by name.
        """
        # After a broken connection the driver looks for the server for half a second or more.
        until = max(deadline, time.monotonic() + 0.5)
        with suppress(Unavailable, PyMongoError), round_trip(until):
            await session.abort_transaction()
            cause = error.__cause__
            if isinstance(cause, PyMongoError) and _is_lost(cause):
                await self._client.admin.command("killSessions", [session.session_id])

    async def _find_outcome(self, session: Session, attempt: str, refusal: PyMongoError) -> bool:
        """What became of a commit that was answered with ``refusal``.

        True: it is stored. False: it certainly is not. ``Unavailable``: nobody could say.
        """
        deadline = time.monotonic() + OUTCOME_SECONDS
        refusals = 0
        error: PyMongoError | None = refusal
        with _waiting_until(deadline):
            while error is not None:
                # After a refusal it may still be open, and hold what it wrote: sent again, it
                # is stored, or unknown. And the driver itself sends a commit again, so "no such
                # transaction" may be the second answer to one that was stored.
                refusals += not _is_lost(error)
                if _is_unknown(error) or refusals == MAX_COMMIT_REFUSALS:
                    return await self._has_mark(attempt, deadline)
                if time.monotonic() >= deadline:
                    raise Unavailable(OUTCOME_UNKNOWN) from error
                await _pause()
                error = await _send_commit(session)
        return True

    async def _has_mark(self, attempt: str, deadline: float) -> bool:
        while True:
            try:
                with round_trip(unavailable=OUTCOME_UNKNOWN):
                    return await self._attempts.find_one({"_id": attempt}) is not None
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
                await _pause()


async def _send_commit(session: Session) -> PyMongoError | None:
    """None where it is stored; however short the patience of the caller, it is not cut short."""
    try:
        with pymongo.timeout(ROUND_TRIP_SECONDS):
            await session.commit_transaction()
    except PyMongoError as error:
        return error
    return None


async def _in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Runs ``function`` in a thread, in this context, to its end even if its caller goes."""
    running = asyncio.get_running_loop().run_in_executor(
        None, copy_context().run, function, *arguments
    )
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def _pause() -> None:
    await asyncio.sleep(random.uniform(*BACKOFF_SECONDS))  # noqa: S311 - jitter is no secret
