"""What only the stand-in does differently from MongoDB; all of it runs on the stand-in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from storage.client import Database
from storage.embedded.engines import Secantus
from storage.embedded.server import EmbeddedServer, start
from storage.location import EngineChoice
from tests.conftest import ADMIN, Client, Raw
from tests.storage.test_faults import make_poll, require_exact, vote
from tests.storage.test_transactions import COMMANDS, Work, applied, database
from tests.support.calls import POLL, call, place
from tests.support.processes import Services, failing

__all__ = ["database"]

LOCK_TIMEOUT, NO_SUCH_TRANSACTION = 24, 251


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """In the place of the one that all other tests share."""
    server = start(tmp_path_factory.mktemp("stand-in") / "data", EngineChoice(Secantus.name))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cleaner(server: EmbeddedServer) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
        yield client


def test_settings_that_lie_about_for_the_server_change_nothing(services: Services) -> None:
    """It would read a secantusd.toml of its directory or home, and SECANTUS_* variables."""
    stray = "this = is not [toml\n"
    home = services.home / "home"
    (services.data_dir / "store").mkdir(parents=True)
    (services.data_dir / "lock").touch()
    for directory in (services.home, services.data_dir, home / ".secantus"):
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("secantusd.toml", "secantusdb.toml"):
            (directory / name).write_text(stray)
    service = services.start(
        POLLS_ADMIN_TOKEN=ADMIN,
        POLLS_ENGINE="secantus",
        POLLS_MONGOD="",
        HOME=str(home),
        SECANTUS_CONFIG=str(services.home / "secantusd.toml"),
        SECANTUS_STANDALONE="1",
        SECANTUS_PORT="1",
        SECANTUS_AUTH="1",
        SECANTUS_DATA_NONLOGGED="1",
        SECANTUS_STORAGE_PATH=str(services.home / "elsewhere"),
        SECANTUS_CHECKPOINT_SECONDS="none",
    )
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    assert (services.data_dir / "store").is_dir()
    assert not (services.home / "elsewhere").exists()
    environment = Path(f"/proc/{service.server_pid}/environ").read_bytes()
    assert b"SECANTUS" not in environment
    assert service.stop() == 0


def test_large_documents_and_large_indexes_work(raw: Raw) -> None:
    """With a smaller cache than it is given, the server would spin for ever on either."""
    large = {"_id": 1, "text": "x" * 12_000_000}
    raw.large.insert_one(large)
    assert raw.large.find_one({"_id": 1}) == large
    raw.large.update_one({"_id": 1}, {"$set": {"text": "y" * 12_000_000}})
    assert raw.large.count_documents({"text": {"$regex": "^y"}}) == 1

    raw.many.create_index([("b", 1), ("a", 1)])
    for first in range(0, 100_000, 5_000):
        raw.many.insert_many([{"a": a, "b": a % 10} for a in range(first, first + 5_000)])
    assert raw.many.find_one({"b": 9, "a": 99_999}, {"_id": 0}) == {"a": 99_999, "b": 9}
    assert raw.many.count_documents({"b": 3}) == 10_000


@pytest.mark.parametrize("command", ["insert", "update"])
async def test_a_transaction_that_a_restarted_server_does_not_know_runs_again(
    api: Client, raw: Raw, command: str
) -> None:
    poll = await make_poll(api)
    admin: pymongo.MongoClient[Any] = raw.client
    with failing(admin, {"times": 1}, failCommands=[command], errorCode=NO_SUCH_TRANSACTION):
        response = await vote(api, poll, 1, "1")
    assert response.status == 200, await response.text()
    assert raw.ballots.count_documents({}) == 1
    require_exact(raw)


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_lock_that_was_given_up_is_waited_for_again(
    database: Database, raw: Raw, command: str
) -> None:
    admin: pymongo.MongoClient[Any] = raw.client
    with failing(admin, {"times": 1}, failCommands=[command], errorCode=LOCK_TIMEOUT):
        assert await database.transaction(Work()) == 1
    assert applied(raw) == 1
