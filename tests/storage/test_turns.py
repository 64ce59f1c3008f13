"""Turns: processes of one machine cast one after another, and none waits for long for another."""

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_aiohttp import AiohttpClient
from structlog.testing import capture_logs

from service.app import create_app
from service.settings import Settings
from storage import turns
from storage.batching import Batcher
from storage.documents import utc_now
from storage.errors import Unavailable
from storage.location import Location
from storage.startup import open_store
from storage.turns import SharedTurn, Turn
from storage.voting import Vote
from tests.support.desk import Desk, submit
from tests.support.desk import turns as let_go_on
from tests.support.fleet import ROOT, eventually

HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""
WAITER = """
import asyncio, sys
from pathlib import Path
from storage import turns

turns.WAIT_SECONDS = 60

async def main():
    waiting = asyncio.create_task(turns.SharedTurn(Path(sys.argv[1])).take())
    await asyncio.wait([waiting], timeout=0.2)

asyncio.run(main())
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "turn.lock"


@pytest.fixture
async def turn(file: Path) -> AsyncIterator[Turn]:
    turn = SharedTurn(file)
    yield turn
    turn.close()


@pytest.fixture
async def other(file: Path) -> AsyncIterator[Turn]:
    """As of another process: a lock belongs to whoever has opened the file."""
    other = SharedTurn(file)
    yield other
    other.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WAIT_SECONDS", 60.0)


@contextmanager
def holding(file: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process has the turn."""
    command = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.kill()


async def has_come(waiting: "asyncio.Task[None]") -> bool:
    return bool((await asyncio.wait([waiting], timeout=0.1))[0])


@pytest.mark.usefixtures("patient")
async def test_a_turn_comes_when_the_other_one_has_ended(turn: Turn, other: Turn) -> None:
    for one, another in ((turn, other), (other, turn)) * 3:
        await one.take()
        waiting = asyncio.create_task(another.take())
        assert not await has_come(waiting)
        one.end()
        one.end()
        async with asyncio.timeout(5):
            await waiting
        another.end()


async def test_a_turn_that_does_not_end_is_waited_for_a_second(turn: Turn, other: Turn) -> None:
    await other.take()
    for _ in range(2):
        assert 0.9 < await seconds_until_taken(turn) < 2.5
        turn.end()
    other.end()
    # What came too late is kept by nobody.
    assert await seconds_until_taken(other) < 0.4
    other.end()


async def seconds_until_taken(turn: Turn) -> float:
    begun = time.monotonic()
    await turn.take()
    return time.monotonic() - begun


@pytest.mark.usefixtures("patient")
async def test_the_turn_of_a_killed_process_has_ended(file: Path, turn: Turn) -> None:
    with holding(file) as holder:
        waiting = asyncio.create_task(turn.take())
        assert not await has_come(waiting)
        holder.kill()
        async with asyncio.timeout(5):
            await waiting


@pytest.mark.usefixtures("patient")
def test_a_process_that_waits_for_its_turn_can_end(file: Path) -> None:
    with holding(file):
        subprocess.run([sys.executable, "-c", WAITER, str(file)], cwd=ROOT, check=True, timeout=20)


@pytest.mark.usefixtures("patient")
async def test_a_batch_takes_all_that_comes_before_its_turn(turn: Turn, other: Turn) -> None:
    desk = Desk()
    batcher = Batcher(desk.run, ready=turn.take)
    await other.take()
    callers = await submit(batcher, 1)
    await asyncio.sleep(0.05)
    callers += await submit(batcher, 2, 3)
    assert desk.batches == []
    other.end()
    async with asyncio.timeout(5):
        while not desk.batches:  # noqa: ASYNC110 - a thread says when
            await asyncio.sleep(0.01)
    assert desk.batches == [[1, 2, 3]]
    await desk.end(0)
    assert await asyncio.gather(*callers) == [10, 20, 30]
    turn.end()


@pytest.mark.usefixtures("patient")
async def test_a_batch_that_is_cancelled_before_its_turn_leaves_no_caller_behind(
    turn: Turn, other: Turn
) -> None:
    batcher = Batcher(Desk().run, ready=turn.take)
    await other.take()
    [caller] = await submit(batcher, 1)
    [task] = batcher._in_flight
    task.cancel()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(5):
            await caller
    other.end()


@pytest.mark.usefixtures("patient")
async def test_a_turn_that_comes_when_no_caller_waits_any_more_is_given_back(
    settings: Settings, file: Path, other: Turn
) -> None:
    location = Location(settings.mongodb_uri, settings.data_dir, settings.secret)
    async with open_store(location, shared=file.parent) as store:
        await other.take()
        vote = Vote(1, "1:a", 7, ("1",), None, 1, utc_now())
        caller = asyncio.create_task(store.ballots.cast(vote))
        await let_go_on()
        caller.cancel()
        other.end()
        async with asyncio.timeout(5):
            await store.ballots.drain()
            await other.take()


async def test_a_service_whose_lock_file_cannot_be_opened_casts_without_turns(
    aiohttp_client: AiohttpClient, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "turn.lock").mkdir()
    app = create_app(replace(settings, metrics_dir=tmp_path))
    with capture_logs() as lines:
        client = await aiohttp_client(app)
    assert (await client.get("/readyz")).status == 200
    assert [line["event"] for line in lines] == ["workers do not cast in turns"]


async def test_one_that_was_closed_while_it_waited_leaves_the_locks_of_others_alone(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of its file may be that of another one by then."""
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.01)
    before = set(threading.enumerate())
    waiting = SharedTurn(file)
    with holding(file):
        for _ in range(2):
            await waiting.take()
            waiting.end()
        waiting.close()
        another = os.open(tmp_path / "another", os.O_RDWR | os.O_CREAT)
        fcntl.flock(another, fcntl.LOCK_EX)
    await eventually(lambda: set(threading.enumerate()) <= before)
    await let_go_on()
    with (tmp_path / "another").open() as same, pytest.raises(BlockingIOError):
        fcntl.flock(same, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(another)
