"""What the driver's errors mean: which of them say that the database cannot serve now, and why.

``Unavailable`` and its kin are raised by ``round_trips``; here nothing is raised.
"""

import time
from typing import cast

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from structlog import get_logger

from storage.errors import Unavailable

log = get_logger(__name__)

TROUBLE_SECONDS = 1.0
"""The least time between two log lines about an unavailable database."""
MAX_REASON = 300
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


def access_error(error: Unavailable) -> OperationFailure | None:
    """The server's refusal of the user, if that is why it is unavailable."""
    cause = error.__cause__
    is_refusal = isinstance(cause, OperationFailure) and cause.code in ACCESS_CODES
    return cast(OperationFailure, cause) if is_refusal else None


def reason_of(error: PyMongoError) -> str:
    """What the driver says, without the server's reply that it appends."""
    return str(error).partition(", full error")[0][:MAX_REASON]


class Trouble:
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
            reason=reason_of(error),
            not_logged=self._unlogged,
        )
        self._silent_until, self._unlogged = now + TROUBLE_SECONDS, 0


trouble = Trouble()


def kind_of(error: PyMongoError) -> str:
    if error.timeout:
        return "timeout"
    if is_transient(error):
        return "transient"
    return "network" if isinstance(error, ConnectionFailure) else "other"


def is_unavailable(error: PyMongoError) -> bool:
    """Whether the database, not the request, is to blame."""
    if isinstance(error, DuplicateKeyError):
        return False
    # A primary that steps down answers writes that wait for a majority with a WriteConcernError.
    return (
        isinstance(error, ConnectionFailure | WriteConcernError)
        or error.timeout
        or is_transient(error)
        or (
            isinstance(error, OperationFailure)
            and not UNAVAILABLE_CODES.isdisjoint(codes_of(error))
        )
    )


def codes_of(error: OperationFailure) -> set[int]:
    """The codes of an error; of a bulk write, those of all writes that failed in it."""
    if not isinstance(error, BulkWriteError):
        return {error.code or 0}
    details = error.details
    return {one["code"] for one in details["writeErrors"] + details["writeConcernErrors"]}


def is_transient(error: PyMongoError) -> bool:
    # PyMongo says of a node that is only about to join its replica set again that its deployment
    # has no sessions; nothing was sent to it. At the start this is refused before any transaction.
    if isinstance(error, ConfigurationError):
        return True
    return error.has_error_label("TransientTransactionError") or (
        isinstance(error, OperationFailure) and error.code in UNLABELLED_TRANSIENT
    )


def is_lost(error: PyMongoError | None) -> bool:
    """Whether no answer came, or one that says that the outcome is unknown."""
    return error is not None and (
        isinstance(error, ConnectionFailure | WriteConcernError)
        or error.timeout
        or error.has_error_label("UnknownTransactionCommitResult")
    )
