"""The requests of one connection, one after the other, from clients that are not polite."""

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from service.server.connection import WRITE_BYTES
from service.settings import Settings
from service.web.responses import PIECE_BYTES, bytes_response
from tests.conftest import ADMIN
from tests.support.calls import POLL, place, request
from tests.support.serving import RunningService, serving, until

READ = request("GET", place(), token=ADMIN)
HEALTH = request("GET", "/healthz")
MUCH = 4 * 1024 * 1024


async def unread(service: RunningService) -> int:
    """The bytes that wait for the one client to read, once they stop its next response."""

    def waiting() -> int:
        [transport] = [connection._transport for connection in service.server.open]
        return transport.get_write_buffer_size() if transport is not None else 0

    await until(lambda: waiting() > WRITE_BYTES)
    return waiting()


@pytest.mark.parametrize("others", [0, 3, 40, 2000])
async def test_requests_that_are_sent_at_once_are_answered_in_their_order(
    settings: Settings, others: int
) -> None:
    """Many of them are not read at once: reading goes on when some are answered."""
    async with serving(settings) as service:
        client = await service.connect()
        bad = request("GET", "/nowhere")
        client.send(READ + bad * others + HEALTH)
        assert (await client.read()).data == []
        assert [(await client.read()).status for _ in range(others)] == [404] * others
        assert (await client.read()).status == 200


async def test_a_connection_goes_on_after_an_upgrade_that_nobody_offers(settings: Settings) -> None:
    async with serving(settings) as service:
        client = await service.connect()
        asks = request("GET", "/healthz", connection="upgrade", upgrade="websocket")
        client.send(asks + HEALTH)
        assert (await client.read()).status == 200
        assert (await client.read()).status == 200
        client.send(READ)
        assert (await client.read()).data == []


async def test_what_is_left_of_a_refused_body_is_no_request(settings: Settings) -> None:
    """The answer does not wait for it, and the next request is the one behind it."""
    async with serving(settings) as service:
        client = await service.connect()
        whole = request("POST", place(), token="nobody's", body={**POLL, "description": "x" * 999})
        client.send(whole[:-500])
        assert (await client.read()).status == 403
        client.send(whole[-500:] + HEALTH)
        assert (await client.read()).status == 200


async def test_a_large_body_that_is_not_wanted_is_passed_over(settings: Settings) -> None:
    """It is no header block, however much of it comes behind the answer."""
    async with serving(settings) as service:
        client = await service.connect()
        whole = request("POST", "/nowhere", token=ADMIN, body={"x": "x" * 500_000})
        client.send(whole + HEALTH)
        assert (await client.read()).status == 404
        assert (await client.read()).status == 200


CREATE = request("POST", place("LARGE-1"), token=ADMIN, body={**POLL, "description": "x" * 4000})
CREATE_BODY = CREATE.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("at", range(1, 6))
async def test_a_header_block_whose_end_comes_with_the_body_is_complete(
    settings: Settings, at: int
) -> None:
    unwanted = request("POST", "/nowhere", token=ADMIN, body={"x": "x" * 200_000})
    head = len(unwanted.partition(b"\r\n\r\n")[0]) + 4
    async with serving(settings) as service:
        client = await service.connect()
        for _ in range(3):
            client.send(unwanted[: head - at])
            await asyncio.sleep(0.01)  # so that each is a piece of its own
            client.send(unwanted[head - at :])
            assert (await client.read()).status == 404


CHUNKED = (
    request("POST", place("LARGE-1"), token=ADMIN).replace(b"\r\n\r\n", b"\r\n", 1)
    + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(CREATE_BODY), CREATE_BODY)
)


@pytest.mark.parametrize("first", [HEALTH, CREATE, CHUNKED], ids=["read", "body", "chunks"])
async def test_a_large_body_behind_another_request_is_no_header_block(
    settings: Settings, first: bytes
) -> None:
    large = request("POST", "/nowhere", token=ADMIN, body={"x": "x" * 400_000})
    async with serving(settings) as service:
        client = await service.connect()
        client.send(first + large + HEALTH + b"\r\n\r\n" + HEALTH)
        statuses = [(await client.read()).status for _ in range(4)]
        assert statuses == [200, 404, 200, 200]
        assert all(connection.is_idle for connection in service.server.open)


async def test_a_body_whose_rest_does_not_come_ends_its_connection(settings: Settings) -> None:
    async with serving(replace(settings, client_seconds=0.2)) as service:
        client = await service.connect()
        client.send(HEALTH)
        assert (await client.read()).status == 200
        whole = request("POST", place(), token="nobody's", body=POLL)
        client.send(whole[:-5])
        assert (await client.read()).status == 403
        assert await client.rest() == b""


async def test_the_answer_to_a_request_of_http_1_0_ends_its_connection(settings: Settings) -> None:
    async with serving(settings) as service:
        client = await service.connect()
        client.send(READ.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await client.rest()).startswith(b"HTTP/1.0 200 OK\r\n")


async def test_a_client_that_reads_nothing_is_not_answered_on_and_on(settings: Settings) -> None:
    """What the kernel does not take waits here, so the next request waits for that to be read."""
    answered = 0

    async def much(_: web.Request) -> web.StreamResponse:
        nonlocal answered
        answered += 1
        return bytes_response(b"x" * MUCH)

    async with serving(settings, {"/much": much}) as service:
        client = await service.connect(limit=1024)
        client.send(request("GET", "/much", token=ADMIN) * 20)
        # A large body is sent in pieces: no more than a few of them wait.
        assert await unread(service) <= 4 * PIECE_BYTES
        assert answered < 5  # the kernel takes some
        assert [len((await client.read()).body) for _ in range(20)] == [MUCH] * 20


async def test_small_responses_wait_for_a_client_that_reads_nothing(settings: Settings) -> None:
    async with serving(settings) as service:
        client = await service.connect(limit=1024)
        client.send(request("GET", "/openapi.json") * 100)
        await unread(service)
        served = service.server.requests_count
        await asyncio.sleep(0.1)
        assert service.server.requests_count <= served + 1
        for _ in range(100):
            assert (await client.read()).status == 200


async def test_a_client_of_http_1_0_is_told_that_its_connection_stays(settings: Settings) -> None:
    async with serving(settings) as service:
        client = await service.connect()
        asks = request("GET", place(), token=ADMIN, connection="keep-alive")
        for _ in range(2):
            answer = await client.call(asks.replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")


async def test_a_head_gets_no_body_and_the_next_request_its_answer(settings: Settings) -> None:
    async with serving(settings) as service:
        client = await service.connect()
        client.send(READ.replace(b"GET", b"HEAD", 1) + READ)
        assert b"content-length: 2\r\n" in (await client.read_head()).lower()
        assert (await client.read()).data == []


async def test_a_handler_that_is_cancelled_takes_its_connection_along(settings: Settings) -> None:
    async def cancel_itself(_: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        raise AssertionError("it was cancelled")

    async with serving(settings, {"/cancelled": cancel_itself}) as service:
        client = await service.connect()
        client.send(request("GET", "/cancelled", token=ADMIN))
        assert await client.rest() == b""
        await until(lambda: not service.server.open)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/rest", 400),
        ("GET", "/%72est", 400),
        ("GET", "/x1/anything", 400),
        ("PATCH", "/rest", 405),
        ("GET", "/rest/", 404),
        ("OPTIONS", "*", 404),
    ],
)
async def test_a_path_leads_to_its_route_however_it_is_found(
    settings: Settings, method: str, path: str, status: int
) -> None:
    async with serving(settings) as service:
        client = await service.connect()
        client.send(request(method, path, token=ADMIN))
        assert (await client.read()).status == status
