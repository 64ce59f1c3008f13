"""An import as a stream: answers while lines arrive, and clients that are slow, greedy or gone."""

import asyncio
import gzip
import json
import resource
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.content.importing import MAX_LINES
from service.settings import Settings
from service.web.call import CLOCK, DRAINING
from service.web.store_key import STORE
from tests.conftest import ADMIN, Client, Raw, TokenMaker
from tests.support.moving import (
    NDJSON,
    a_ballot,
    a_line,
    answers_to,
    body_of,
    imported,
    outcome,
    require_counted,
    send,
)
from tests.support.seeds import refused
from tests.support.serving import Client as Wire
from tests.support.serving import RunningService, serving

LIMIT = 20_000
HEAD = (
    b"POST /rest/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
    b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
) % ADMIN.encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[RunningService]:
    """With little patience, and small limits."""
    async with serving(replace(settings, client_seconds=1, max_body_bytes=LIMIT)) as service:
        yield service


async def begun(service: RunningService, *lines: bytes) -> Wire:
    """An import that has sent these lines, and is not at its end."""
    client = await service.connect()
    client.send(HEAD + chunk(b"".join(lines)))
    return client


async def test_each_line_is_answered_before_the_next_one_is_sent(
    service: RunningService, raw: Raw
) -> None:
    client = await begun(service, body_of([a_line(1)]))
    assert b"200 OK" in await client.read_head()
    for which in (1, 2, 3):
        if which > 1:
            client.send(chunk(body_of([a_line(which)])))
        told = await client.until(b'"result":"created"}\n')
        assert b'"line":%d' % which in told
        assert raw.addresses.count_documents({}) == which
    client.send(chunk(b""))
    assert (await client.until(b"0\r\n\r\n")).strip() == b"0"


async def test_a_line_that_does_not_come_in_time_ends_the_import_with_a_408(
    service: RunningService, raw: Raw
) -> None:
    client = await begun(service, body_of([a_line(1)]), b'{"id":')
    told = await client.until(b"request_timeout")
    assert (b'"line":1,"status":200' in told, b'"line":2,"status":408' in told) == (True, True)
    assert raw.addresses.count_documents({}) == 1


async def test_before_the_first_line_it_is_a_408_of_the_request(service: RunningService) -> None:
    client = await service.connect()
    client.send(HEAD)
    answer = await client.read()
    assert (answer.status, answer.data["code"]) == (408, "request_timeout")


async def test_an_endless_line_ends_in_time_and_is_not_held(
    service: RunningService, raw: Raw
) -> None:
    client = await begun(service, body_of([a_line(1)]))
    await client.until(b'"result":"created"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def flood() -> None:
        piece = chunk(b"x" * 65_536)
        while True:
            client.send(piece)
            await asyncio.sleep(0.001)

    flooding = asyncio.create_task(flood())
    assert b'"status":408' in await client.until(b"request_timeout")
    flooding.cancel()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # KiB, of which the test itself may hold some
    assert raw.addresses.count_documents({}) == 1


async def test_a_line_that_is_too_large_is_refused_and_the_next_ones_are_read(
    service: RunningService, raw: Raw
) -> None:
    large = a_line(2, description="x" * LIMIT)
    client = await begun(service, body_of([a_line(1), large, a_line(3)]))
    client.send(chunk(b""))
    told = (await client.until(b"0\r\n\r\n")).decode()
    statuses = [json.loads(part)["status"] for part in told.split("\r\n") if part[:2] == '{"']
    assert statuses == [200, 413, 200]
    assert raw.addresses.count_documents({}) == 2


async def test_a_reader_that_takes_nothing_is_cut_off_and_what_was_answered_is_stored(
    service: RunningService, raw: Raw
) -> None:
    client = await service.connect(kernel_bytes=2048)
    refusals = b"x\n" * 1_000
    client.send(HEAD + chunk(body_of([a_line(1)])))
    sending = asyncio.create_task(_send_all(client, refusals * 9))
    async with asyncio.timeout(20):
        while service.server.open:  # noqa: ASYNC110 - nothing tells of the end of a connection
            await asyncio.sleep(0.05)
    sending.cancel()
    assert raw.addresses.count_documents({}) == 1


async def _send_all(client: Wire, data: bytes) -> None:
    for begin in range(0, len(data), 2_000):
        client.send(chunk(data[begin : begin + 2_000]))
        await asyncio.sleep(0.01)


async def test_a_client_that_goes_leaves_whole_lines_and_no_half_one(
    service: RunningService, raw: Raw
) -> None:
    whole, half = body_of([a_line(1, a_ballot(1, "1"))]), body_of([a_line(2)])[:-1]
    client = await begun(service, whole, half)
    await client.until(b'"result":"created"}\n')
    client.close()
    async with asyncio.timeout(10):
        while service.server.open:  # noqa: ASYNC110 - nothing tells of the end of a connection
            await asyncio.sleep(0.02)
    assert raw.addresses.count_documents({}) == 1
    assert require_counted(raw) == 1


async def test_a_stop_ends_an_import_between_two_lines(service: RunningService, raw: Raw) -> None:
    client = await begun(service, body_of([a_line(1)]))
    await client.until(b'"result":"created"}\n')
    service.runner.app[DRAINING].set()
    told = await client.until(b"0\r\n\r\n")
    assert b'"line":2,"status":503' in told
    assert raw.addresses.count_documents({}) == 1


# Bodies ----------------------------------------------------------------------------------------


async def test_the_last_line_may_lack_its_end_and_blank_lines_are_not_answered(
    api: Client, raw: Raw
) -> None:
    body = b"\n" + body_of([a_line(1)]).replace(b"\n", b"\r\n") + b"  \n" + body_of([a_line(2)])
    answers = await answers_to(api, body.removesuffix(b"\n"))
    assert [(one["line"], one["status"]) for one in answers] == [(2, 200), (4, 200)]
    assert raw.addresses.count_documents({}) == 2


async def test_half_a_line_at_the_end_is_refused(api: Client, raw: Raw) -> None:
    assert await imported(api, a_line(1), body_of([a_line(2)])[:-9]) == [
        "created",
        "400 invalid_request body",
    ]
    assert raw.addresses.count_documents({}) == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"[" * 5_000, "400 invalid_request body"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "400 invalid_request body"),
        (b"[" + b"1," * 20_001 + b"1]", "400 invalid_request body"),
        (b"[]", "400 invalid_request body"),
        (b"\xff\xfe", "400 invalid_request body"),
        (json.dumps(dict.fromkeys(map(str, range(99)))).encode(), "400 invalid_request body"),
        (b'{"number": 0.99999999999999999}', "400 invalid_request body"),
    ],
)
async def test_hostile_json_is_refused_by_itself(
    api: Client, raw: Raw, line: bytes, expected: str
) -> None:
    assert await imported(api, line, a_line(1)) == [expected, "created"]
    assert raw.addresses.count_documents({}) == 1


async def test_a_compressed_body_is_read_line_by_line(api: Client, raw: Raw) -> None:
    lines = body_of([a_line(which) for which in (1, 2, 3)])
    several = gzip.compress(lines[:50]) + gzip.compress(lines[50:])
    for body, coding in (
        (several, "gzip"),
        (zlib.compress(lines), "deflate"),
        (zlib.compress(lines, wbits=-15), "deflate"),
    ):
        answers = await answers_to(api, body, headers={"Content-Encoding": coding})
        assert [one["status"] for one in answers] == [200, 200, 200]
    assert raw.addresses.count_documents({}) == 3


async def test_a_compressed_body_that_is_cut_off_or_broken_says_so_at_its_end(
    api: Client,
) -> None:
    lines = body_of([a_line(which) for which in (1, 2)])
    packed = gzip.compress(lines[:-1]) + gzip.compress(b"\n" + lines)[:-9]
    answers = await answers_to(api, packed, headers={"Content-Encoding": "gzip"})
    assert [outcome(one) for one in answers][-1] == "400 invalid_request body"
    answer = await send(api, b"no gzip", headers={"Content-Encoding": "gzip"})
    await refused(answer, 400, ["body"])
    answer = await send(api, b"", headers={"Content-Encoding": "br"})
    await refused(answer, 415)


async def test_a_small_body_that_is_much_when_decompressed_is_bounded(
    api: Client, raw: Raw
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    zeros = zlib.compressobj(wbits=31)
    packed = b"".join(zeros.compress(b"0" * 2**20) for _ in range(64)) + zeros.flush()
    answers = await answers_to(api, packed, headers={"Content-Encoding": "gzip"})
    assert [one["status"] for one in answers] == [413]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert raw.addresses.count_documents({}) == 0


async def test_what_is_no_ndjson_or_empty_is_refused_as_a_whole(api: Client) -> None:
    for blank in (b"", b"\n", b"\r\n \n\n"):
        await refused(await send(api, blank), 400, ["body"])
    await refused(await send(api, b"{}", headers={"Content-Type": "application/json"}), 415)


async def test_an_import_has_no_more_lines_than_allowed(api: Client) -> None:
    answers = await answers_to(api, b"1\n" * (MAX_LINES + 5))
    assert len(answers) == MAX_LINES + 1
    assert {one["status"] for one in answers} == {400}
    assert "10,000 lines" in answers[-1]["detail"]


async def test_a_token_that_ends_meanwhile_ends_the_import(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    who = await make_token(name="mover", admin=True, actions=[], workspaces=[])
    continued = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield body_of([a_line(1)])
        await continued.wait()
        yield body_of([a_line(2), a_line(3)])

    headers = {"Content-Type": NDJSON, **who}
    response = await api.post("/rest/import", data=body(), headers=headers)
    assert outcome(json.loads(await response.content.readline())) == "created"
    await api.app[STORE].tokens.revoke("mover", api.app[CLOCK]())
    continued.set()
    rest = [json.loads(line) for line in (await response.text()).splitlines()]
    assert [outcome(one) for one in rest] == ["403 bad_token None"]
    assert raw.addresses.count_documents({}) == 1


async def test_imports_count_for_the_limit_of_exports(
    aiohttp_client: AiohttpClient, settings: Settings
) -> None:
    client = await aiohttp_client(create_app(replace(settings, max_exports=1)))
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": NDJSON}
    continued = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"1\n"
        await continued.wait()

    response = await client.post("/rest/import", data=body(), headers=headers)
    second = await client.post("/rest/import", data=b"1\n", headers=headers)
    assert (second.status, second.headers["Retry-After"]) == (503, "1")
    continued.set()
    await response.read()
    third = await client.post("/rest/import", data=b"1\n", headers=headers)
    assert third.status == 200
