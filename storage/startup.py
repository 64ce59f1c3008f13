"""Opening and closing a store: the database, the embedded server, the agreed secret."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from structlog import get_logger

from storage.client import Database, DuplicateKeyError, SessionWatch, round_trip
from storage.documents import utc_now
from storage.embedded.directory import DataDirectory, Holder, read_private, write_private
from storage.embedded.engines import holds_store
from storage.embedded.server import EmbeddedServer, start, start_or_share
from storage.errors import StartupRefused
from storage.indexes import ensure_indexes
from storage.location import Location
from storage.store import Store
from storage.turns import open_turn

CHECK_SECONDS = 5.0
STUCK_SECONDS = (10.0, 60.0)
"""How long a server may refuse writes before it is restarted: at first, and at the most."""

log = get_logger(__name__)


@asynccontextmanager
async def open_store(
    location: Location,
    *,
    holder: Holder = "service",
    may_create: bool = True,
    watch: SessionWatch | None = None,
    clock: Callable[[], datetime] = utc_now,
    shared: Path | None = None,
) -> AsyncIterator[Store]:
    """Opens the store for a service, which keeps an embedded server running, or for a command.

    Raises ``StartupRefused`` with one sentence if the database cannot be reached within 10 s or has
    no transactions, if another service holds the data directory, or if the store was created with
    another secret. Where there is no store it is created, or, unless ``may_create``, refused.

    ``watch`` is called with the id of each driver session before its use: if this process is killed
    within a transaction, another can end it by that id (``Database.end_sessions``). Processes
    that have the directory ``shared`` cast their votes in turns.
    """
    connected = partial(
        _connected,
        location,
        may_create=may_create,
        watch=watch,
        clock=clock,
        shared=shared,
    )
    if location.uri is not None:
        async with connected(location.uri, "the MongoDB of MONGODB_URI.") as store:
            yield store
        return
    if not may_create and not holds_store(DataDirectory(location.data_dir)):
        raise _no_store(location)
    begin = start if holder == "service" else start_or_share
    server = begin(location.data_dir, location.engine)
    tasks: list[asyncio.Task[None]] = []
    try:
        async with connected(server.uri, server.description) as store:
            if isinstance(server, EmbeddedServer):
                work = (server.keep(), _restart_when_stuck(server, store))
                tasks = [asyncio.create_task(one) for one in work]
            try:
                yield store
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        server.stop()


async def _restart_when_stuck(server: EmbeddedServer, store: Store) -> None:
    """Restarts a server that runs and does not accept writes, as after a disk error.

    The guard restarts a server that died. One that does not answer at all is left alone: it may be
    slow, or stopped by an operator who inspects it.
    """
    limit = STUCK_SECONDS[0]
    failing_since: float | None = None
    while True:
        await asyncio.sleep(CHECK_SECONDS if failing_since is None else 1.0)
        try:
            await store.check_writes()
        except Exception:
            # Nothing awaits this task: whatever the error is, the check has failed.
            now = time.monotonic()
            if failing_since is None:
                failing_since = now
            elif now - failing_since >= limit and await store.database.is_answering():
                log.warning("the embedded server does not accept writes, and is restarted")
                server.restart()
                failing_since = now
                limit = min(limit * 2, STUCK_SECONDS[1])
        else:
            failing_since, limit = None, STUCK_SECONDS[0]


@asynccontextmanager
async def _connected(
    location: Location,
    uri: str,
    description: str,
    *,
    may_create: bool,
    watch: SessionWatch | None,
    clock: Callable[[], datetime],
    shared: Path | None,
) -> AsyncIterator[Store]:
    try:
        database = await Database.connect(uri)
    except StartupRefused as error:
        if location.uri is not None:
            raise
        raise StartupRefused(
            f"The embedded database in {location.data_dir} does not answer: try again, or see "
            "its server.log."
        ) from error
    database.watch = watch
    with closing(database), closing(open_turn(shared)) as turn:
        if not may_create and await _stored_check(database) is None:
            raise _no_store(location)
        await ensure_indexes(database)
        is_new = await _stored_check(database) is None
        secret = await _agreed_secret(database, location)
        yield Store(
            *(database, secret),
            uri=uri,
            description=description,
            is_new=is_new,
            clock=clock,
            turn=turn,
        )


def _no_store(location: Location) -> StartupRefused:
    if location.uri is not None:
        return StartupRefused(
            "The database of MONGODB_URI holds no store: check the name of the database in it."
        )
    return StartupRefused(
        f"There is no store in {location.data_dir.resolve()}: set POLLS_DATA_DIR to the data "
        "directory of the service, or MONGODB_URI to its database."
    )


async def _stored_check(database: Database) -> str | None:
    """The hash of the secret that the store was created with; None where there is no store."""
    with round_trip():
        stored = await database.collection("meta").find_one({"_id": "secret"})
    return stored["check"] if stored is not None else None


async def _agreed_secret(database: Database, location: Location) -> bytes:
    """The secret that this store was created with; stores its hash if the store is new.

    The hash is enough to notice another secret, under which every voter would be unknown and could
    vote again.
    """
    kept = location.data_dir / "secret"
    given = location.secret or read_private(kept)
    stored = await _stored_check(database)
    if stored is None:
        if given is None:
            given = secrets.token_urlsafe(32)
            write_private(kept, given)
        with suppress(DuplicateKeyError), round_trip():
            check = {"_id": "secret", "check": _check(given)}
            await database.collection("meta").insert_one(check)
        stored = await _stored_check(database)
    if given is None:
        raise StartupRefused(
            f"The file {kept} is missing: restore it, or set POLLS_SECRET to its content."
        )
    if stored is None or not hmac.compare_digest(stored, _check(given)):
        raise StartupRefused(
            "This store was created with another POLLS_SECRET: set that one "
            f"(an embedded store may keep it in {kept})."
        )
    return given.encode()


def _check(secret: str) -> str:
    return hmac.new(secret.encode(), b"polls: the secret of this store", hashlib.sha256).hexdigest()
