"""Opening and closing a store: the database, the embedded server, the agreed secret."""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from structlog import get_logger

from storage.client import Database, DuplicateKeyError, SessionWatch, round_trip
from storage.embedded.directory import Holder, read_private, write_private
from storage.embedded.server import EmbeddedServer, start, start_or_share
from storage.errors import StartupRefused
from storage.indexes import ensure_indexes
from storage.location import Location
from storage.store import Store

SECRET_BYTES = 32
MONGODB = "the MongoDB of MONGODB_URI."
CHECK_SECONDS = 5.0
STUCK_SECONDS = (10.0, 60.0)
"""How long a server may take no writes before it is restarted: at first, and at the most."""

log = get_logger(__name__)


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
        async with _connected(location, location.uri, MONGODB, watch) as store:
            yield store
        return
    if holder == "service":
        server = start(location.data_dir, location.engine)
        try:
            async with (
                _connected(location, server.uri, server.description) as store,
                _kept(server, store),
            ):
                yield store
        finally:
            server.stop()
        return
    reached = start_or_share(location.data_dir, location.engine)
    try:
        async with _connected(location, reached.uri, reached.description) as store:
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
    location: Location, uri: str, description: str, watch: SessionWatch | None = None
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
        secret = await _agreed_secret(database, location)
        yield Store(database, secret, uri=uri, description=description)


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
