"""Deleting a poll or a session is all or nothing, whatever fails at whichever step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pytest

from storage.client import round_trips, transaction_runner
from storage.embedded.server import EmbeddedServer
from tests.conftest import Client, Raw
from tests.support.polling import API, make_poll, make_session

PLACE = {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"}
LOCK_TIMEOUT = 24
FAULTS: dict[str, dict[str, Any]] = {
    "lock timeout": {
        "errorCode": LOCK_TIMEOUT,
        "errorLabels": ["TransientTransactionError"],
    },
    "broken connection": {"closeConnection": True},
}
STEPS = [
    *[("content poll", command) for command in ("delete", "update", "insert", "commitTransaction")],
    *[("own poll", command) for command in ("delete", "insert", "commitTransaction")],
    *[("session", command) for command in ("delete", "insert", "commitTransaction")],
]
at_every_step = pytest.mark.parametrize(("thing", "command"), STEPS)


@contextmanager
def failing(server: EmbeddedServer, command: str, mode: Any, fault: str) -> Iterator[None]:
    """Lets one command of the service fail; other clients of the server are spared."""
    data = {"failCommands": [command], "appName": "polls", **FAULTS[fault]}
    with pymongo.MongoClient[dict[str, Any]](server.uri) as admin:
        point = {"configureFailPoint": "failCommand"}
        try:
            admin.admin.command({**point, "mode": mode, "data": data})
            yield
        finally:
            admin.admin.command({**point, "mode": "off"})
            # A transaction whose commit never arrived would stay open, and hold others up.
            admin.admin.command("killAllSessions", [])


async def make(api: Client, thing: str) -> tuple[str, dict[str, str]]:
    """Path and query under which the thing is deleted; a poll has two sessions at least."""
    if thing == "content poll":
        body = {"title": "Tea?", "options": [{"title": "yes"}]}
        poll = await (await api.post("/rest", params=PLACE, json=body)).json()
        await make_session(api, poll["id"])
        return "/rest", {**PLACE, "pollId": poll["id"]}
    number = (await make_poll(api, "yes"))["id"]
    sessions = [(await make_session(api, number))["id"] for _ in range(2)]
    path = f"{API}/polls/{number}"
    return (f"{path}/poll_sessions/{sessions[1]}" if thing == "session" else path), {}


def stored(raw: Raw) -> dict[str, Any]:
    """The polls and sessions that are there."""
    return {
        "polls": [poll for one in raw.containers.find() for poll in one["polls"]],
        "sessions": list(raw.sessions.find().sort("_id", 1)),
    }


def without(thing: str, before: dict[str, Any]) -> dict[str, Any]:
    if thing == "session":
        return {**before, "sessions": before["sessions"][:1]}
    return {"polls": [], "sessions": []}


@at_every_step
async def test_a_passing_fault_does_not_fail_a_deletion(
    api: Client, raw: Raw, server: EmbeddedServer, thing: str, command: str
) -> None:
    for fault in FAULTS:
        raw.containers.delete_many({})
        raw.sessions.delete_many({})
        path, query = await make(api, thing)
        before = stored(raw)
        with failing(server, command, {"times": 2}, fault):
            answer = await api.delete(path, params=query)
        assert answer.status == (200 if path == "/rest" else 204), fault
        assert stored(raw) == without(thing, before)
        assert (await api.delete(path, params=query)).status == 404


@at_every_step
async def test_a_fault_that_stays_leaves_all_of_it_and_the_answer_says_so(
    api: Client,
    raw: Raw,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    thing: str,
    command: str,
) -> None:
    for module in (round_trips, transaction_runner):
        monkeypatch.setattr(module, "ROUND_TRIP_SECONDS", 0.4)
    monkeypatch.setattr(transaction_runner, "OUTCOME_SECONDS", 0.4)
    path, query = await make(api, thing)
    before = stored(raw)
    with failing(server, command, "alwaysOn", "broken connection"):
        answer = await api.delete(path, params=query)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert (await answer.json())["status"] == 503
    assert stored(raw) == before
