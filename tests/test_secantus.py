"""What only the stand-in for MongoDB does: it gives codes without the labels that MongoDB adds."""

from typing import Any

import pymongo
import pytest

from storage.client import Database
from tests.conftest import Client, Raw
from tests.processes import failing
from tests.test_faults import make_poll, require_exact, vote
from tests.test_transactions import AT_ONCE, COMMANDS, Work, applied, database

__all__ = ["database"]

LOCK_TIMEOUT, NO_SUCH_TRANSACTION = 24, 251


@pytest.fixture(autouse=True)
def _on_the_stand_in(server: Any) -> None:
    """MongoDB gives these labels, so there is nothing to try."""
    engine = getattr(server, "engine", "secantus")
    if engine != "secantus":
        pytest.skip(f"this is about secantusd-rs, and the engine is {engine}")


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


@AT_ONCE
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_lock_that_was_given_up_is_waited_for_again(
    database: Database, raw: Raw, command: str, at_once: bool
) -> None:
    admin: pymongo.MongoClient[Any] = raw.client
    with failing(admin, {"times": 1}, failCommands=[command], errorCode=LOCK_TIMEOUT):
        assert await Work(database).apply(at_once=at_once) == 1
    assert applied(raw) == 1
