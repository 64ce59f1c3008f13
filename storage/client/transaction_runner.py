"""Runs transactions until they are stored: conflicts, lost answers, and what killed processes left.

``Database.transaction`` is the way in.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar, TypeVarTuple, cast

import pymongo
import pymongo.database
from motor.core import AgnosticClient, AgnosticDatabase
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from structlog import get_logger

from storage.client.documents import Document
from storage.client.driver_errors import NO_SUCH_TRANSACTION, is_lost
from storage.client.round_trips import (
    APP_NAME,
    ROUND_TRIP_SECONDS,
    answer_by,
    deadline_in,
    in_thread,
    round_trip,
)
from storage.client.transaction import Proof, RunAgain, TooManyConflicts, Transaction, Work
from storage.errors import OutcomeUnknown, Unavailable

log = get_logger(__name__)

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
SessionWatch = Callable[[bytes], None]

OUTCOME_SECONDS = 20.0
"""How long to ask for the outcome of a commit that was sent: longer than an election takes."""
BACKOFF_SECONDS = (0.005, 0.030)
MAX_COMMIT_REFUSALS = 5
ABANDONED_SECONDS = ROUND_TRIP_SECONDS + 1.0
"""A transaction that got no statement for so long is that of a process that is gone."""
CONFLICT_SECONDS = 1.0
"""After so long in conflict, abandoned transactions are looked for, and no more often."""


class TransactionRunner:
    """Runs the transactions of one database in threads, and learns the outcome of each."""

    def __init__(
        self,
        client: AgnosticClient[Document],
        database: AgnosticDatabase[Document],
        threads: ThreadPoolExecutor,
    ) -> None:
        self._client = client
        self._database = database
        self._blocking = cast("pymongo.database.Database[Document]", database.delegate)
        self._threads = threads
        self._watched: set[bytes] = set()
        # Strong references: the loop itself keeps only weak ones.
        self._unanswered: set[asyncio.Task[Any]] = set()
        self._looked_at = 0.0
        self.watch: SessionWatch | None = None
        """See ``Database.watch``."""

    async def run(
        self,
        work: Work[T],
        *,
        max_conflicts: int | None,
        seconds: float | None,
        committed: Callable[[], None],
    ) -> T:
        """See ``Database.transaction``."""
        running = self._until_committed(work, max_conflicts, deadline_in(seconds), committed)
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
            refusals += not is_lost(error)
            is_unknown = isinstance(error, OperationFailure) and error.code == NO_SUCH_TRANSACTION
            asks_proof = is_unknown or refusals >= MAX_COMMIT_REFUSALS
            if asks_proof:
                name, query = proof
                # Not cut short by the time limit of the caller.
                with suppress(Unavailable), round_trip(time.monotonic() + ROUND_TRIP_SECONDS):
                    return (
                        await self._database.get_collection(name).find_one(query, {"_id": 1})
                        is not None
                    )
            if time.monotonic() >= deadline:
                raise OutcomeUnknown from error
            await _pause()
            if not asks_proof:
                error = await self._in_thread(_commit, session)
        return True

    async def _in_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await in_thread(self._threads, function, *arguments)


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
        if isinstance(error.__cause__, PyMongoError) and is_lost(error.__cause__):
            session.client.admin.command("killSessions", [session.session_id])


async def _pause() -> None:
    await asyncio.sleep(random.uniform(*BACKOFF_SECONDS))  # noqa: S311 - jitter is no secret
