"""The whole store as one typed object, and how it is opened and closed."""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from structlog import get_logger

from storage.ballots import Ballots
from storage.batching import Batcher
from storage.client import Database, DuplicateKeyError, SessionWatch, round_trip
from storage.embedded.directory import Holder, read_private, write_private
from storage.embedded.engines import ANY_ENGINE, EngineChoice
from storage.embedded.server import EmbeddedServer, start, start_or_share
from storage.enrollments import Enrollments
from storage.errors import StartupRefused, Unavailable
from storage.exports import Exports
from storage.idempotency import Idempotency
from storage.indexes import ensure_indexes
from storage.polls import Polls
from storage.purges import Purges
from storage.recounts import Recounts
from storage.sequences import Sequences
from storage.sessions import Sessions
from storage.tokens import Tokens

__all__ = ["EngineChoice", "Location", "SessionWatch", "Store", "open_store"]

SECRET_BYTES = 32
CHECKED_SECONDS = 1.0
"""Anybody may ask for ``/readyz``, so it makes no more than a write a second."""
CHECK_SECONDS = 5.0
STUCK_SECONDS = (10.0, 60.0)
"""How long a server may take no writes before it is restarted: at first, and at the most."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is: at ``uri``, or embedded in ``data_dir`` where ``uri`` is None.

    ``secret`` keys the hashes of voters. None, which only an embedded store allows, stands for the
    one that is kept in the data directory and made on its first start. ``engine`` is what the
    operator says about the embedded server.
    """

    uri: str | None
    data_dir: Path
    secret: str | None
    engine: EngineChoice = ANY_ENGINE


class Store:
    """Everything that is stored, by kind."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self.server: EmbeddedServer | None = None
        """The embedded server that this process keeps."""
        self.tokens = Tokens(database)
        sequences, idempotency = Sequences(database), Idempotency(database)
        self.purges = Purges(database)
        self.polls = Polls(database, sequences, idempotency, self.purges)
        self.sessions = Sessions(database, sequences, idempotency, self.polls, self.purges)
        self.ballots = Ballots(database, secret)
        self.enrollments = Enrollments(database, sequences, idempotency)
        self.recounts = Recounts(database)
        self.exports = Exports(database)
        self._checks: Batcher[None, None] = Batcher(self._check_writes)
        self._checked_until = 0.0
        self._refusal: str | None = None

    async def check_writes(self) -> None:
        """Raises ``Unavailable`` unless the database takes writes, as of this second."""
        await self._checks.submit(None)

    async def _check_writes(self, callers: Sequence[None]) -> Sequence[None]:
        if time.monotonic() >= self._checked_until:
            self._refusal = None
            try:
                await self._database.check_writes()
            except Unavailable as error:
                self._refusal = str(error)
            self._checked_until = time.monotonic() + CHECKED_SECONDS
        if self._refusal is not None:
            raise Unavailable(self._refusal)
        return callers

    async def is_answering(self) -> bool:
        """Whether there is a server that answers, whatever it can do."""
        return await self._database.is_answering()

    async def end_sessions(self, sessions: Collection[bytes]) -> None:
        """Ends the sessions of a process that died, and with them what it left open.

        Sessions that have ended already, or never began, do no harm. Raises ``Unavailable``.
        """
        await self._database.end_sessions(sessions)

    async def is_empty(self) -> bool:
        """Whether nobody has stored anything yet, a token included."""
        return await self.tokens.is_empty() and await self.polls.is_empty()


@asynccontextmanager
async def open_store(
    location: Location,
    *,
    holder: Holder = "service",
    watch: SessionWatch | None = None,
) -> AsyncIterator[Store]:
    """Opens the store for a service, which keeps an embedded server, or for a command.

    Raises ``StartupRefused`` with a sentence: where the database cannot be reached within 10 s or
    has no transactions, where another service holds the directory, where the secret is another
    than the store was begun with.

    ``watch`` is told of each session of the driver before it is used: if this process is killed in
    the midst of a transaction, whoever was told can end it.
    """
    if location.uri is not None:
        async with _connected(location, location.uri, watch) as store:
            yield store
        return
    if holder == "service":
        server = start(location.data_dir, location.engine)
        try:
            async with _connected(location, server.uri) as store, _kept(server, store):
                store.server = server
                yield store
        finally:
            server.stop()
        return
    reached = start_or_share(location.data_dir, location.engine)
    try:
        async with _connected(location, reached.uri) as store:
            yield store
    finally:
        reached.stop()


@asynccontextmanager
async def _kept(server: EmbeddedServer, store: Store) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(server.keep()),
        asyncio.create_task(_restart_when_stuck(server, store)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _restart_when_stuck(server: EmbeddedServer, store: Store) -> None:
    """Restarts a server that lives and takes no writes, as after an error of the disk.

    The guard sees to a server that died. One that does not even answer is left alone: it may be
    slow, or stopped by somebody who looks into it.
    """
    patience = STUCK_SECONDS[0]
    failing_since: float | None = None
    while True:
        await asyncio.sleep(CHECK_SECONDS if failing_since is None else 1.0)
        try:
            await store.check_writes()
        except Exception:
            # Nobody awaits this task: whatever it is, it is a check that failed.
            now = time.monotonic()
            if failing_since is None:
                failing_since = now
            elif now - failing_since >= patience and await store.is_answering():
                log.warning("the embedded server takes no writes, and is started again")
                server.restart()
                failing_since = now
                patience = min(patience * 2, STUCK_SECONDS[1])
        else:
            failing_since, patience = None, STUCK_SECONDS[0]


@asynccontextmanager
async def _connected(
    location: Location, uri: str, watch: SessionWatch | None = None
) -> AsyncIterator[Store]:
    try:
        database = await Database.connect(uri)
    except StartupRefused as error:
        if location.uri is not None:
            raise
        raise StartupRefused(
            f"The embedded database in {location.data_dir} cannot be reached: try again, or see "
            "its server.log."
        ) from error
    database.watch = watch
    with contextlib.closing(database):
        await ensure_indexes(database)
        yield Store(database, await _agreed_secret(database, location))


async def _agreed_secret(database: Database, location: Location) -> bytes:
    """The secret that this store was begun with; begins the store where it is new.

    Only a hash of it is stored: enough to notice another one, under which every voter would be a
    stranger and could vote again.
    """
    kept = location.data_dir / "secret"
    given = location.secret
    if given is None:
        given = read_private(kept)
    meta = database.collection("meta")
    with round_trip():
        begun = await meta.find_one({"_id": "secret"})
    if begun is None:
        if given is None:
            given = secrets.token_urlsafe(SECRET_BYTES)
            write_private(kept, given)
        with suppress(DuplicateKeyError), round_trip():
            await meta.insert_one({"_id": "secret", "check": _check(given)})
        with round_trip():
            begun = await meta.find_one({"_id": "secret"})
    if given is None:
        raise StartupRefused(
            f"The file {kept} is missing: put it back, or set POLLS_SECRET to what it held."
        )
    if begun is None or not hmac.compare_digest(begun["check"], _check(given)):
        raise StartupRefused(
            "This store was begun with another POLLS_SECRET: set the one it was begun with "
            f"(an embedded store may keep it in {kept})."
        )
    return given.encode()


def _check(secret: str) -> str:
    return hmac.new(secret.encode(), b"polls: the secret of this store", hashlib.sha256).hexdigest()
