"""The whole store as one typed object, and how it is opened and closed."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from storage import embedded
from storage.ballots import Ballots
from storage.client import Database, DuplicateKeyError, SessionWatch, round_trip
from storage.enrollments import Enrollments
from storage.errors import StartupRefused
from storage.exports import Exports
from storage.idempotency import Idempotency
from storage.indexes import ensure_indexes
from storage.polls import Polls
from storage.purges import Purges
from storage.recounts import Recounts
from storage.sequences import Sequences
from storage.sessions import Sessions
from storage.tokens import Tokens

__all__ = ["Location", "SessionWatch", "Store", "open_store"]

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is: at ``uri``, or embedded in ``data_dir`` where ``uri`` is None.

    ``secret`` keys the hashes of voters. None, which only an embedded store allows, stands for the
    one that is kept in the data directory and made on its first start.
    """

    uri: str | None
    data_dir: Path
    secret: str | None


class Store:
    """Everything that is stored, by kind."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self.embedded_uri: str | None = None
        """Where other processes of this service reach the embedded server that it keeps."""
        self.tokens = Tokens(database)
        sequences, idempotency = Sequences(database), Idempotency(database)
        self.purges = Purges(database)
        self.polls = Polls(database, sequences, idempotency, self.purges)
        self.sessions = Sessions(database, sequences, idempotency, self.polls, self.purges)
        self.ballots = Ballots(database, secret)
        self.enrollments = Enrollments(database, sequences, idempotency)
        self.recounts = Recounts(database)
        self.exports = Exports(database)

    async def ping(self) -> None:
        """Raises ``Unavailable`` unless the database answers."""
        await self._database.ping()

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
    holder: embedded.Holder = "service",
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
        server = embedded.start(location.data_dir)
        async with _kept(server), _connected(location, server.uri) as store:
            store.embedded_uri = server.uri
            yield store
        return
    reached = embedded.start_or_share(location.data_dir)
    try:
        async with _connected(location, reached.uri) as store:
            yield store
    finally:
        reached.stop()


@asynccontextmanager
async def _kept(server: embedded.EmbeddedServer) -> AsyncIterator[None]:
    keeper = asyncio.create_task(server.keep())
    try:
        yield
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        server.stop()


@asynccontextmanager
async def _connected(
    location: Location, uri: str, watch: SessionWatch | None = None
) -> AsyncIterator[Store]:
    database = await Database.connect(uri)
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
    if given is None and kept.exists():
        given = kept.read_text("ascii").strip()
    meta = database.collection("meta")
    with round_trip():
        begun = await meta.find_one({"_id": "secret"})
    if begun is None:
        if given is None:
            given = secrets.token_urlsafe(SECRET_BYTES)
            _write_private(kept, given)
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


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and on the disk before anything is hashed with it."""
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
