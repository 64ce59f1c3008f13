"""Everything that knows the driver: Motor, PyMongo and bson are named nowhere else.

Other modules import from here, never from the modules inside. Read these in this order:
``documents`` (types, raw reads), ``driver_errors`` (what an error means), ``round_trips`` (time
limits), ``transaction`` (what work can do in one), ``transaction_runner`` (until it is stored),
``snapshots``, ``change_stream``, ``connecting``, ``database`` (all of it together), and
``replica_set``, which prepares the embedded server.

Motor is in its last year of critical fixes, and PyMongo's own asynchronous API succeeds it:
whatever differs between the two stays in here.
"""

from pymongo import DeleteOne, IndexModel, InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from storage.client.change_stream import Changes
from storage.client.connecting import STARTUP_SECONDS
from storage.client.database import Database
from storage.client.documents import (
    Collection,
    Cursor,
    Document,
    decode,
    find_raw,
    find_raw_within,
    snapshot_of,
    stored_size,
)
from storage.client.driver_errors import UNAVAILABLE_CODES
from storage.client.replica_set import init_replica_set
from storage.client.round_trips import (
    GRACE_SECONDS,
    ROUND_TRIP_SECONDS,
    answer_by,
    round_trip,
    set_time_limit,
)
from storage.client.snapshots import Snapshot
from storage.client.transaction import (
    Proof,
    RunAgain,
    TooManyConflicts,
    Transaction,
    Work,
    Write,
)
from storage.client.transaction_runner import BACKOFF_SECONDS, OUTCOME_SECONDS, SessionWatch

__all__ = [
    "BACKOFF_SECONDS",
    "GRACE_SECONDS",
    "OUTCOME_SECONDS",
    "ROUND_TRIP_SECONDS",
    "STARTUP_SECONDS",
    "UNAVAILABLE_CODES",
    "BulkWriteError",
    "Changes",
    "Collection",
    "Cursor",
    "Database",
    "DeleteOne",
    "Document",
    "DuplicateKeyError",
    "IndexModel",
    "InsertOne",
    "Proof",
    "ReplaceOne",
    "RunAgain",
    "SessionWatch",
    "Snapshot",
    "TooManyConflicts",
    "Transaction",
    "UpdateOne",
    "Work",
    "Write",
    "answer_by",
    "decode",
    "find_raw",
    "find_raw_within",
    "init_replica_set",
    "round_trip",
    "set_time_limit",
    "snapshot_of",
    "stored_size",
]
