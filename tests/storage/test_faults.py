"""A database that fails in the midst of things: a right answer, or a 503 that changed nothing.

A primary that is lost cannot be injected: see ``test_elections.py``.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse

from tests.conftest import Client, Raw, Scale
from tests.support.fleet import Poll, eventually
from tests.support.seeds import ISSUE, Json, a_poll, refused

pytestmark = pytest.mark.faults


COMMANDS = ("find", "insert", "update", "delete", "commitTransaction", "abortTransaction")
FAULTS: dict[str, Json] = {
    "a write conflict": {"errorCode": 112, "errorLabels": ["TransientTransactionError"]},
    "a lost connection": {"closeConnection": True},
    "a slow reply": {"blockConnection": True, "blockTimeMS": 60},
}
NEW = a_poll(options=[{"id": "1", "title": "aye"}, {"id": "2", "title": "no"}])
LONGER_THAN_THE_LIMIT = {"blockConnection": True, "blockTimeMS": 4_500}


@pytest.fixture(autouse=True)
def _driver_looks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error it would look away for half a second, which is no matter here but long."""
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.01)


@contextmanager
def failing(raw: Raw, commands: list[str], fault: Json, times: int | None = None) -> Iterator[None]:
    """These commands fail inside, so many times, or as long as it lasts."""
    mode = "alwaysOn" if times is None else {"times": times}
    data = {"failCommands": commands, "appName": "polls", **fault}
    raw.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
    try:
        yield
    finally:
        raw.client.admin.command("configureFailPoint", "failCommand", mode="off")


async def make_poll(api: Client, **settings: Any) -> Poll:
    made = await api.post("/rest", params=ISSUE, json=a_poll(settings=settings))
    assert made.status == 200
    return Poll(ISSUE, (await made.json())["id"])


async def vote(api: Client, poll: Poll, user_id: int, option: str, **request: Any) -> Any:
    body = {"optionIds": [option]}
    return await api.post("/rest", params=poll.votes(user_id), json=body, **request)


def session_of(raw: Raw) -> Json:
    [session] = raw.sessions.find()
    return session


def stored(raw: Raw) -> Json:
    """All that a request about votes may change."""
    return {
        name: list(raw[name].find().sort("_id"))
        for name in ("containers", "addresses", "sessions", "ballots", "purges")
    }


def require_exact(raw: Raw) -> None:
    session = session_of(raw)
    ballots = list(raw.ballots.find({"session_id": session["_id"]}))
    counted = Counter(choice for ballot in ballots for choice in ballot["choices"])
    assert session["results"] == {option: counted[option] for option in session["results"]}
    assert session["participants"] == len(ballots)


async def answered(raw: Raw, response: ClientResponse, before: Json) -> bool:
    """Whether it was done; it is either that, or a 503 and nothing has changed."""
    if response.status == 200:
        return True
    problem = await refused(response, 503)
    assert "nothing was changed" in problem["detail"]
    assert response.headers["Retry-After"]
    assert stored(raw) == before
    return False


def requests_about_votes(poll: Poll, session_id: int) -> list[tuple[str, str, Json]]:
    """A vote, a revote, its withdrawal, a close, an opening, another vote, and new options."""
    close, reopen = (poll.sessions(session_id, verb) for verb in ("close", "open"))
    return [
        ("POST", "/rest", {"params": poll.votes(1), "json": {"optionIds": ["1"]}}),
        ("POST", "/rest", {"params": poll.votes(1), "json": {"optionIds": ["2"]}}),
        ("DELETE", "/rest", {"params": poll.votes(1)}),
        ("PUT", close, {}),
        ("PUT", reopen, {}),
        ("POST", "/rest", {"params": poll.votes(2), "json": {"optionIds": ["2"]}}),
        ("PUT", "/rest", {"params": poll.query, "json": NEW}),
    ]


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_request_about_votes_is_answered_rightly_or_changes_nothing(
    api: Client, raw: Raw, scale: Scale, fault: str
) -> None:
    is_short = len(scale.failures) == 1 and fault == "a lost connection"
    for times in scale.failures:
        # After a lost connection the driver looks away for half a second.
        for command in COMMANDS[::2] if is_short else COMMANDS:
            # Only where something else fails is a transaction aborted.
            commands = [command, "update"] if command == "abortTransaction" else [command]
            poll = await make_poll(api, allowRevote=True)
            session_id = session_of(raw)["_id"]
            steps = requests_about_votes(poll, session_id)
            for number, (method, path, request) in enumerate(steps):
                before = stored(raw)
                with failing(raw, commands, fault=FAULTS[fault], times=times):
                    response = await api.request(method, path, **request)
                if not await answered(raw, response, before):
                    again = await api.request(method, path, **request)
                    assert again.status == 200, (command, number, await again.text())
                assert stored(raw) != before, (command, number)
                require_exact(raw)
            now = {**poll.query, "now": "true"}
            with failing(raw, commands, fault=FAULTS[fault], times=times):
                response = await api.delete("/rest", params=now)
            if response.status == 503:
                assert "nothing was changed" in await response.text()
                require_exact(raw)
                response = await api.delete("/rest", params=now)
            assert response.status == 200, (command, await response.text())
            assert raw.sessions.count_documents({}) == 0
            await eventually(lambda: not [*raw.ballots.find(), *raw.purges.find()])


async def test_an_outage_under_load_loses_no_vote_and_counts_none_twice(
    api: Client, raw: Raw, scale: Scale
) -> None:
    for command in COMMANDS if len(scale.failures) > 1 else ("find", "update", "commitTransaction"):
        poll = await make_poll(api, allowRevote=True)
        fault = {"closeConnection": True}

        async def cast(user_id: int, poll: Poll = poll) -> int:
            key = {"Idempotency-Key": f"vote of {user_id}"}
            async with asyncio.timeout(30):
                while True:
                    response = await vote(api, poll, user_id, "1", headers=key)
                    if response.status == 200:
                        return user_id
                    await refused(response, 503)
                    await asyncio.sleep(0.2)

        async with asyncio.TaskGroup() as group:
            with failing(raw, [command], fault):
                casts = [group.create_task(cast(user_id)) for user_id in range(1, 21)]
                await asyncio.sleep(1)
        assert len({one.result() for one in casts}) == 20
        session = session_of(raw)
        assert (session["results"], session["casts"]) == ({"1": 20, "2": 0}, 20)
        require_exact(raw)
        await api.delete("/rest", params=poll.query)


async def test_a_reply_that_is_slower_than_the_time_limit_counts_nothing_twice(
    api: Client, raw: Raw
) -> None:
    poll = await make_poll(api)
    key = {"Idempotency-Key": "one vote"}
    with failing(raw, ["commitTransaction"], LONGER_THAN_THE_LIMIT, times=1):
        response = await vote(api, poll, 1, "1", headers=key)
    if response.status != 200:
        await refused(response, 503)
        response = await vote(api, poll, 1, "1", headers=key)
    assert response.status == 200, await response.text()
    assert raw.ballots.count_documents({}) == 1
    require_exact(raw)
