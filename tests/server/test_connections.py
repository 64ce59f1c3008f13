"""The requests of one connection, one after the other, from clients that are not polite."""

import asyncio
import gc
from dataclasses import replace

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from service.server.connection import WRITE_BYTES, Connection
from service.settings import Settings
from service.web.responses import PIECE_BYTES, bytes_response
from tests.conftest import ADMIN
from tests.support.calls import POLL, chunked, place, request
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
        assert not any(connection.is_idle for connection in service.server.open)
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


CHUNKED = chunked(CREATE)


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


@pytest.mark.parametrize("body", [CREATE, CHUNKED, CHUNKED[:-9]], ids=["sized", "chunks", "part"])
@pytest.mark.parametrize("path", [b"/rest", b"/nowhere"])
async def test_requests_behind_a_body_are_answered(
    settings: Settings, body: bytes, path: bytes
) -> None:
    """However many there are, and although the body itself may be refused unread."""
    rest = CHUNKED[-9:] if body == CHUNKED[:-9] else b""
    async with serving(settings) as service:
        client = await service.connect()
        client.send(body.replace(b"/rest", path, 1))
        client.send(rest + HEALTH * 100)
        assert (await client.read()).status == (200 if path == b"/rest" else 404)
        assert [(await client.read()).status for _ in range(100)] == [200] * 100


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
@pytest.mark.parametrize("body", [CREATE, CHUNKED], ids=["sized", "chunks"])
async def test_a_body_in_a_request_that_offers_an_upgrade_is_read(
    settings: Settings, protocol: bytes, body: bytes
) -> None:
    offer = b"\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    async with serving(settings) as service:
        client = await service.connect()
        client.send(body.replace(b"\r\n", offer, 1) + HEALTH)
        assert (await client.read()).data["title"] == "Tea?"
        assert (await client.read()).status == 200
        # aiohttp would lose what is behind a body that it has not read.
        refused = body.replace(b"\r\n", offer, 1).replace(b"/rest", b"/nowhere", 1)
        client.send(refused[:-5])
        answer = await client.read()
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        client.send(refused[-5:] + HEALTH)
        assert await client.rest() == b""


async def test_a_request_is_answered_wherever_it_is_cut(settings: Settings) -> None:
    async with serving(settings) as service:
        client, other = await service.connect(), await service.connect()
        for length in range(1, len(HEALTH)):
            client.send(HEALTH[:length])
            assert (await other.call(HEALTH)).status == 200  # by now the first piece was read
            client.send(HEALTH[length:])
            assert (await client.read()).status == 200, length


async def test_pieces_that_look_like_header_blocks_are_none(settings: Settings) -> None:
    """Blank lines before a request, and the end of a body."""
    body = b'{"title": "Tea?", "options": [{"title": "yes"}]}\r\n\r\n'
    head = CREATE.partition(b"Content-Length")[0] + b"Content-Length: %d\r\n\r\n" % len(body)
    async with serving(settings) as service:
        client = await service.connect()
        for piece in (b"\r\n\r\n", head, body):
            client.send(piece)
            await asyncio.sleep(0.01)  # so that each is a piece of its own
        assert (await client.read()).data["title"] == "Tea?"
        assert (await client.call(HEALTH)).status == 200
        assert all(connection.is_idle for connection in service.server.open)


@pytest.mark.parametrize("is_late", [False, True])
async def test_chunks_that_are_broken_and_not_wanted_end_their_connection(
    settings: Settings, caplog: pytest.LogCaptureFixture, is_late: bool
) -> None:
    """Where they end is not known. It is no error of the service, and nothing waits for more."""
    refused = chunked(request("POST", "/nowhere", body=POLL))
    broken = refused[:-5] + b"x" + HEALTH
    at = broken.index(b"\r\n\r\n") + 4 if is_late else 0
    async with serving(settings) as service:
        client = await service.connect()
        client.send(broken[:at] or broken)
        assert (await client.read()).status == 404
        client.send(broken[at:] if is_late else b"")
        async with asyncio.timeout(5):
            assert await client.rest() == b""
    assert caplog.records == []


async def test_a_length_that_is_no_length_ends_its_connection(settings: Settings) -> None:
    async with serving(settings) as service:
        client = await service.connect()
        client.send(request("GET", "/healthz", content_length=str(2**64 - 1)) + HEALTH)
        answer = await client.read()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await client.rest() == b""


async def test_a_client_that_is_gone_before_its_request_is_read_is_no_error(
    settings: Settings,
) -> None:
    class Gone(asyncio.Transport):
        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def close(self) -> None:
            pass

    async with serving(settings) as service:
        with capture_logs() as logs:
            connection = service.server()
            connection.connection_made(Gone())
            await asyncio.sleep(0)
            part = CREATE[:-10]
            connection.get_buffer(-1)[: len(part)] = part
            connection.buffer_updated(len(part))
            await asyncio.sleep(0)  # aiohttp makes the request, whose handler has not begun
            connection.connection_lost(None)
            await until(lambda: service.server.requests_count == 1)
            for _ in range(10):
                await asyncio.sleep(0)
    assert [line for line in logs if line["log_level"] == "error"] == []


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


@pytest.mark.usefixtures("gc_is_off")
async def test_a_connection_that_has_ended_does_not_wait_for_the_garbage_collector(
    settings: Settings,
) -> None:
    """That seldom collects what is old, so a closed connection in a cycle would stay for long."""
    async with serving(settings) as service:
        client = await service.connect()
        for sent in (HEALTH, READ, request("POST", place(), token=ADMIN, body=POLL)):
            await client.call(sent)
        client.close()
        await until(lambda: not service.server.open)
        await until(lambda: not any(type(one) is Connection for one in gc.get_objects()))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/rest", 400),
        ("GET", "/%72est", 400),
        ("GET", "/x1/anything", 400),
        ("PATCH", "/rest", 405),
        ("GET", "/rest/", 400),
        ("GET", "/rest//", 404),
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
