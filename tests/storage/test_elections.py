"""A primary that steps down, or is killed and started again, while something is under way.

One node makes a set: it is its own successor, so an election takes a second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from storage.client import Database, Transaction
from tests.conftest import Client, Raw
from tests.storage.test_faults import (
    answered,
    make_poll,
    requests_about_votes,
    require_exact,
    session_of,
    stored,
)
from tests.storage.test_transactions import Work, applied, database
from tests.support.replicas import Node, ReplicaSet, replica_set_in

pytestmark = pytest.mark.faults


__all__ = ["database"]

ANSWER_SECONDS = 5.0
MOMENTS = ("before", "amid", "after")


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[ReplicaSet]:
    async with replica_set_in(tmp_path, size=1) as replicas:
        yield replicas


@pytest.fixture
def mongodb_uri(replicas: ReplicaSet) -> str:
    return replicas.uri


class Loss(NamedTuple):
    """How a primary goes, and what must be done before it is elected again."""

    lose: Callable[[Node], Awaitable[None]]
    is_down: bool


LOSSES = {
    "stepped down": Loss(lambda node: node.step_down(seconds=1), is_down=False),
    "killed": Loss(Node.kill, is_down=True),
}
EACH_WAY = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


async def lose(replicas: ReplicaSet, loss: Loss) -> None:
    """Returns while there is no primary; there will be one within seconds."""
    [node] = replicas.nodes
    await loss.lose(node)
    if loss.is_down:
        await replicas.begin_again(node)


class Interrupted(Work):
    """Loses the primary in its first run, before, amid or after its statements."""

    def __init__(self, moment: str, interrupt: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__()
        self._moment = moment
        self._loop = asyncio.get_running_loop()
        self._interrupt = interrupt

    def __call__(self, transaction: Transaction) -> int:
        is_first = self.runs == 0
        if is_first and self._moment == "before":
            self._wait_for_interrupt()
        if is_first and self._moment == "amid":
            transaction.update("counters", {"_id": "a"}, {"$set": {"m": 1}})
            self._wait_for_interrupt()
        n = super().__call__(transaction)
        if is_first and self._moment == "after":
            self._wait_for_interrupt()
        return n

    def _wait_for_interrupt(self) -> None:
        asyncio.run_coroutine_threadsafe(self._interrupt(), self._loop).result(30)


@EACH_WAY
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_transaction_that_loses_its_primary_is_done_once(
    database: Database, raw: Raw, replicas: ReplicaSet, moment: str, loss: Loss
) -> None:
    work = Interrupted(moment, lambda: lose(replicas, loss))
    started = time.monotonic()
    assert await database.transaction(work) == 1
    assert time.monotonic() - started < ANSWER_SECONDS
    assert applied(raw) == 1


@EACH_WAY
async def test_every_request_about_votes_waits_for_an_election_or_changes_nothing(
    api: Client, raw: Raw, replicas: ReplicaSet, loss: Loss
) -> None:
    poll = await make_poll(api, allowRevote=True)
    steps = requests_about_votes(poll, session_of(raw)["_id"])
    steps.append(("DELETE", "/rest", {"params": poll.query}))
    for number, (method, path, request) in enumerate(steps):
        before = stored(raw)
        await lose(replicas, loss)
        started = time.monotonic()
        response = await api.request(method, path, **request)
        assert time.monotonic() - started < ANSWER_SECONDS
        if not await answered(raw, response, before):
            again = await api.request(method, path, **request)
            assert again.status == 200, (number, await again.text())
        if number < len(steps) - 1:
            assert stored(raw) != before, number
            require_exact(raw)
    assert raw.sessions.count_documents({}) == 0


async def test_what_is_asked_for_while_the_database_is_gone_is_refused_and_not_done_later(
    api: Client, raw: Raw, replicas: ReplicaSet
) -> None:
    poll = await make_poll(api)
    before = stored(raw)
    [node] = replicas.nodes
    await node.kill()
    started = time.monotonic()
    response = await api.delete("/rest", params=poll.query)
    assert time.monotonic() - started < ANSWER_SECONDS
    await replicas.start_again(node)
    await replicas.primary()
    assert not await answered(raw, response, before)
    assert (await api.delete("/rest", params=poll.query)).status == 200
