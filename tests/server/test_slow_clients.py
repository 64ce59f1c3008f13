"""Clients that are slow, greedy or too many: each costs the service a bounded time and space."""

import asyncio
import errno
import resource
import socket
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.server import connection, listening
from service.server import runner as server
from service.server.connection import MAX_HEAD_BYTES
from service.settings import Settings
from tests.conftest import ADMIN, Raw
from tests.support.calls import chunked, request
from tests.support.processes import slow
from tests.support.seeds import ISSUE, a_poll
from tests.support.serving import LARGE, Answer, serving, until

PATIENCE = 0.4
CREATE = "/rest?" + "&".join(f"{name}={value}" for name, value in ISSUE.items())
HEALTH = request("GET", "/healthz")
CHUNKED = chunked(request("POST", "/nowhere", body={}))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look of every second comes every twentieth of one."""
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.05)


@pytest.fixture
def impatient(settings: Settings) -> Settings:
    return replace(settings, client_seconds=PATIENCE)


def require_problem(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["server"] == "polls"
    assert answer.data["status"] == status
    assert len(answer.headers["x-request-id"]) == 32


async def test_a_slow_header_block_is_a_408(impatient: Settings) -> None:
    async with serving(impatient) as service:
        for before in (b"", HEALTH):
            client = await service.connect()
            if before:
                assert (await client.call(before)).status == 200
            trickling = asyncio.create_task(client.trickle(HEALTH[:-4] + b"\r\nX: " + b"x" * 500))
            require_problem(await client.read(), 408)
            assert await client.rest() == b""
            trickling.cancel()
        await until(lambda: not service.server.open)


@pytest.mark.parametrize("first", [HEALTH, CHUNKED], ids=["read", "chunks"])
async def test_a_header_block_that_begins_behind_a_request_is_waited_for_as_long(
    impatient: Settings, first: bytes
) -> None:
    async with serving(impatient) as service:
        client = await service.connect()
        client.send(first + HEALTH[:-10])
        assert (await client.read()).status in (200, 404)
        require_problem(await client.read(), 408)


@pytest.mark.parametrize("at", range(1, 5))
async def test_a_header_block_may_end_in_two_pieces(impatient: Settings, at: int) -> None:
    """And its connection is idle then: no request of the client is waited for."""
    async with serving(impatient) as service:
        client = await service.connect()
        for _ in range(2):
            client.send(HEALTH[:-at])
            await asyncio.sleep(0.02)  # so that each is a piece of its own
            client.send(HEALTH[-at:])
            assert (await client.read()).status == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * PATIENCE):
                await client.rest()


async def test_a_slow_body_is_a_408_and_nothing_is_stored(impatient: Settings, raw: Raw) -> None:
    whole = request("POST", CREATE, token=ADMIN, body=a_poll())
    head, body = whole.split(b"\r\n\r\n")
    async with serving(impatient) as service:
        client = await service.connect()
        client.send(head + b"\r\n\r\n" + body[:-50])
        trickling = asyncio.create_task(client.trickle(body[-50:]))
        require_problem(await client.read(), 408)
        assert await client.rest() == b""
        trickling.cancel()
        # In time it is a good request.
        assert (await (await service.connect()).call(whole)).status == 200
    assert [len(one["polls"]) for one in raw.containers.find()] == [1]


async def test_a_client_pays_for_its_own_slowness_only(impatient: Settings, raw: Raw) -> None:
    """Its body is here, and the database takes longer than it might have taken."""
    async with serving(impatient) as service:
        client = await service.connect()
        with slow(raw.client, "commitTransaction", int(PATIENCE * 3000)):
            answer = await client.call(request("POST", CREATE, token=ADMIN, body=a_poll()))
        assert answer.status == 200
        assert "connection" not in answer.headers  # it is kept


async def test_a_request_that_comes_slowly_but_in_time_is_answered(settings: Settings) -> None:
    async with serving(replace(settings, client_seconds=5)) as service:
        client = await service.connect()
        await client.trickle(HEALTH, every=0.005)
        assert (await client.read()).status == 200
        await client.trickle(b"\r\n" + HEALTH, every=0.005)
        assert (await client.read()).status == 200


@pytest.mark.parametrize("first", [HEALTH, CHUNKED], ids=["read", "chunks"])
async def test_a_header_block_behind_a_request_is_bounded(settings: Settings, first: bytes) -> None:
    async with serving(settings) as service:
        client = await service.connect()
        # Few lines, since aiohttp bounds their number too.
        client.send(first + HEALTH[:-2] + (b"X-A: " + b"x" * 4000 + b"\r\n") * 12 + b"\r\n")
        assert (await client.read()).status in (200, 404)
        assert (await client.read()).status == 431


async def test_a_header_block_in_pieces_is_bounded(settings: Settings) -> None:
    line = b"X-%d: " + b"x" * 4000 + b"\r\n"
    async with serving(settings) as service:
        client = await service.connect()
        client.send(HEALTH[:-2])
        for number in range(MAX_HEAD_BYTES // 4000):
            client.send(line % number)
            await asyncio.sleep(0.01)  # so that each is a piece of its own
        assert len(service.server.open) == 1
        client.send(line)
        require_problem(await client.read(), 431)
        assert await client.rest() == b""


async def test_a_silent_client_is_cut_off_without_an_answer(impatient: Settings) -> None:
    async with serving(impatient) as service:
        client = await service.connect()
        assert await client.rest() == b""


async def test_an_idle_connection_is_kept_for_as_long_as_is_set(impatient: Settings) -> None:
    kept = 4 * PATIENCE
    async with serving(replace(impatient, keepalive_seconds=kept)) as service:
        client = await service.connect()
        assert (await client.call(HEALTH)).status == 200
        begun = asyncio.get_running_loop().time()
        assert await client.rest() == b""
        assert kept - 0.1 < asyncio.get_running_loop().time() - begun < kept + 2


async def test_a_client_that_reads_nothing_is_cut_off_and_a_slow_reader_is_not(
    impatient: Settings,
) -> None:
    ask = request("GET", "/large", token=ADMIN)
    async with serving(impatient) as service:
        slow = await service.connect(limit=1024)
        slow.send(ask)
        head = (await slow._reader.readuntil(b"\r\n\r\n")).decode()
        assert f"Content-Length: {LARGE}" in head
        stuck = await service.connect(limit=1024)
        stuck.send(ask)
        await until(lambda: len(service.server.open) == 2)
        begun = asyncio.get_running_loop().time()
        taken = 0
        while asyncio.get_running_loop().time() < begun + 4 * PATIENCE:
            taken += len(await slow._reader.read(200_000))
            await asyncio.sleep(0.02)
        assert len(service.server.open) == 1
        while taken < LARGE:
            taken += len(await slow._reader.read(LARGE))
        assert taken == LARGE


async def test_beyond_the_limit_one_waits_until_another_has_left(settings: Settings) -> None:
    limited = replace(settings, max_connections=2)
    sending = request("POST", CREATE, token=ADMIN, body=a_poll())
    async with serving(limited) as service:
        busy = [await service.connect() for _ in range(2)]
        for client in busy:
            client.send(sending[:-1])
        await until(lambda: service.server.requests_count == 2)
        third = await service.connect()  # the kernel says yes
        third.send(HEALTH)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await third.read()
        assert len(service.server.open) == 2
        busy[0].close()
        assert (await third.read()).status == 200
        busy[1].send(sending[-1:])
        assert (await busy[1].read()).status == 200


async def test_at_the_limit_idle_connections_are_closed_to_admit_others(settings: Settings) -> None:
    limited = replace(settings, max_connections=2)
    async with serving(limited) as service:
        idle = [await service.connect() for _ in range(2)]
        for client in idle:
            assert (await client.call(HEALTH)).status == 200
        third = await service.connect()
        begun = asyncio.get_running_loop().time()
        assert (await third.call(HEALTH)).status == 200
        assert asyncio.get_running_loop().time() - begun < 3


async def test_at_the_limit_a_body_that_still_arrives_is_not_idle(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.1)
    refused = request("POST", "/nowhere", body={"x": "x" * 100})
    async with serving(replace(settings, max_connections=1)) as service:
        busy = await service.connect()
        busy.send(refused[:-60])
        assert (await busy.read()).status == 404
        waiting = await service.connect()
        waiting.send(HEALTH)
        await busy.trickle(refused[-60:], every=0.01)
        busy.send(HEALTH)
        assert (await busy.read()).status == 200
        assert (await waiting.read()).status == 200


async def test_many_connections_come_and_go_and_none_is_left(settings: Settings) -> None:
    limited = replace(settings, max_connections=50)
    async with serving(limited) as service:

        async def visit() -> int:
            client = await service.connect()
            answer = await client.call(request("GET", "/healthz", connection="close"))
            return answer.status

        statuses = await asyncio.gather(*(visit() for _ in range(500)))
        assert statuses == [200] * 500
        await until(lambda: not service.server.open)


def test_no_more_connections_are_held_than_files_may_be_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {"now": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(now=new))
    assert listening.most_connections(1000) == 1000
    assert listening.most_connections(10_000) == 4096 - listening.SPARE_FILES
    assert limits["now"] == (4096, 4096)


class Exhausted(socket.socket):
    """A listening socket of a process that has, once, no file left to open."""

    is_first = True

    def accept(self) -> tuple[socket.socket, Any]:
        if self.is_first:
            self.is_first = False
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


async def test_a_process_without_files_left_accepts_again_when_it_has_some(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "RETRY_SECONDS", 0.05)
    exhausted = Exhausted()
    exhausted.bind(("127.0.0.1", 0))
    exhausted.listen()
    exhausted.setblocking(False)
    with capture_logs() as lines:
        async with serving(settings, sockets=[exhausted]) as service:
            answer = await (await service.connect()).call(HEALTH)
    assert answer.status == 200
    assert "cannot accept connections" in [line["event"] for line in lines]
