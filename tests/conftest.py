"""Fixtures: one real server for all tests, and an empty database for each."""

import gc
import io
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pymongo
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pymongo.database import Database as RawDatabase
from pymongo.errors import AutoReconnect, OperationFailure
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.server.runner import Runner
from service.settings import Settings
from service.telemetry.log import RequestLog
from service.web.store_key import STORE
from storage.embedded.server import EmbeddedServer, start
from storage.indexes import INDEXES
from storage.location import Location
from storage.startup import open_store
from storage.store import Store
from tests.support import engine
from tests.support.documented import Documented
from tests.support.heard import Heard, hearing
from tests.support.processes import Services, services_in

# What goes wrong in a test is told without the values of all variables, which takes 7 s each time.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with a time limit of their own first: they are long, and would be waited for."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


Client = TestClient[web.Request, web.Application]
Raw = RawDatabase[dict[str, Any]]

ADMIN = "the-secret-of-the-admin"
SECRET = "the-secret-that-keys-the-hashes"


class Clock:
    """Time as a test sets it.

    It begins in the future, because the database removes what has expired by its own clock.
    """

    def __init__(self) -> None:
        self.now = datetime(2126, 1, 31, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass(frozen=True)
class Scale:
    """How much the tests of races, kills and faults do: tests/long/conftest.py says more."""

    processes: int = 2
    users: int = 150
    sessions: int = 5
    session_users: int = 30
    rounds: int = 4
    kills: int = 3
    ballots: int = 5_000
    exported: int = 30_000
    failures: tuple[int, ...] = (2,)
    full_disks: int = 1


@pytest.fixture
def scale() -> Scale:
    return Scale()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The embedded server that all tests share; a test that cannot have it fails."""
    server = start(tmp_path_factory.mktemp("embedded") / "data", engine.chosen())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cleaner(server: EmbeddedServer) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A client that empties collections, without waiting for the disk."""
    with pymongo.MongoClient[dict[str, Any]](server.uri, w=1, journal=False) as client:
        yield client


@pytest.fixture
def mongodb_uri(
    server: EmbeddedServer, cleaner: pymongo.MongoClient[dict[str, Any]]
) -> Iterator[str]:
    """The address of an empty database, which is emptied after the test.

    It is not dropped: each new collection is a new file of MongoDB, and files are scarce.
    """
    yield server.uri.replace("/?", "/test?")
    # A transaction that a failed test left open would hold this up.
    with suppress(AutoReconnect, OperationFailure):  # it ends the session that asks for it, too
        cleaner.admin.command("killAllSessions", [])
    for name in cleaner.test.list_collection_names():
        if name in INDEXES:
            cleaner.test[name].delete_many({})
        else:
            cleaner.test.drop_collection(name)


@pytest.fixture
def raw(mongodb_uri: str) -> Iterator[Raw]:
    """The documents as they are stored."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Starts services and commands as processes, on a data directory of this test alone."""
    with services_in(tmp_path) as services:
        yield services


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(mongodb_uri: str, tmp_path: Path) -> Settings:
    return Settings(
        mongodb_uri=mongodb_uri, secret=SECRET, admin_token=ADMIN, data_dir=tmp_path / "data"
    )


@pytest.fixture
def gc_is_off() -> Iterator[None]:
    """The garbage collector frees nothing meanwhile, and takes no time."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """The store, without a service."""
    location = Location(settings.mongodb_uri, settings.data_dir, settings.secret)
    async with open_store(location) as store:
        yield store


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What the service asks of the database; to be named before ``api``."""
    with hearing() as heard:
        yield heard


@pytest.fixture
def request_lines() -> io.BytesIO:
    """The request log of the service of ``api``."""
    return io.BytesIO()


class AsServed(TestServer):
    """A test server whose connections are those of the service, not aiohttp's own."""

    async def _make_runner(self, **_: Any) -> Runner:
        return Runner(self.app)


@pytest.fixture
async def api(
    aiohttp_client: AiohttpClient, settings: Settings, clock: Clock, request_lines: io.BytesIO
) -> AsyncIterator[Client]:
    """The service, called with the admin token unless a request has another.

    A test fails where any answer is not one of those in the OpenAPI document.
    """
    app = create_app(settings, clock=clock, request_log=RequestLog(request_lines))
    documented = Documented()
    app.on_response_prepare.append(documented.look)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    client = cast(Client, await aiohttp_client(AsServed(app), headers=headers))
    yield client
    assert documented.faults == []


@pytest.fixture
async def anonymous(aiohttp_client: AiohttpClient, api: Client) -> Client:
    """The same service, called without a token unless a request has one."""
    return cast(Client, await aiohttp_client(api.server))


TokenMaker = Callable[..., Awaitable[dict[str, str]]]


@pytest.fixture
def make_token(api: Client, clock: Clock) -> TokenMaker:
    """``await make_token(user_id=7, workspaces=["PLAT"])`` gives the headers of a new token."""

    async def make(**token: Any) -> dict[str, str]:
        secret = f"secret-{uuid.uuid4().hex}"
        token = {"user_id": 7, "actions": ["read", "write", "vote"], "workspaces": ["*"], **token}
        token.setdefault("name", secret)
        await api.app[STORE].tokens.create(secret, now=clock(), **token)
        return {"Authorization": f"Bearer {secret}"}

    return make
