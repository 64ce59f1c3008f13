"""Readers of streams: slow, stalled, gone, too many; and what each is sent."""

import asyncio
import io
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from service.live import hub, watcher
from service.server.listening import open_sockets
from service.settings import Settings
from service.web import scope
from service.web.call import DRAINING
from service.web.store_key import STORE
from storage.documents import SessionDocument
from tests.conftest import ADMIN, Client, Raw
from tests.storage.test_faults import failing
from tests.support.calls import request
from tests.support.casting import Run, answered, content_run, vote
from tests.support.seeds import a_poll, refused
from tests.support.serving import RunningService, serving, until
from tests.support.watching import EVENTS, comes_true, got, of_content, watching
from tests.telemetry.test_metrics import scrape, value


@pytest.fixture
async def run(api: Client, raw: Raw) -> Run:
    return await content_run(api, raw)


@pytest.fixture
async def service(settings: Settings, api: Client) -> AsyncIterator[RunningService]:
    """Another service on the same store, with readers of bytes."""
    assert STORE in api.app
    async with serving(replace(settings, max_streams=3)) as service:
        yield service


def asking(run: Run, version: str = "1.1", method: str = "GET") -> bytes:
    path = "/rest/results?" + "&".join(f"{name}={value}" for name, value in run.place.items())
    path = path.replace("type=polls", f"pollId={run.poll_id}")
    asked = request(method, path, token=ADMIN, accept="text/event-stream")
    return asked.replace(b"HTTP/1.1", f"HTTP/{version}".encode())


async def test_votes_through_another_process_are_seen_within_a_second(
    api: Client, run: Run, service: RunningService
) -> None:
    reader = await service.connect()
    reader.send(asking(run))
    await reader.until(b'"participants":0')
    await answered(await vote(api, run, "1", acting=1))
    async with asyncio.timeout(1.0):
        await reader.until(b'"participants":1')


async def test_of_many_votes_at_most_four_a_second_are_told_and_the_last_is_the_newest(
    api: Client, run: Run
) -> None:
    times: list[float] = []
    async with watching(api, of_content(run)) as stream:

        async def read() -> Any:
            while True:
                data = await stream.results()
                times.append(asyncio.get_running_loop().time())
                if data["results"]["participants"] == 30:
                    return data

        reading = asyncio.create_task(read())
        for voter in range(1, 31):
            await answered(await vote(api, run, "1", acting=voter))
            await asyncio.sleep(0.04)
        newest = await reading
        assert newest == await answered(await got(api, of_content(run)))
        assert await stream.is_silent(0.6)
    # Between the sending and here the loop may be late once, and early for it the next time.
    assert min(later - earlier for earlier, later in zip(times, times[4:], strict=False)) > 0.9
    assert max(later - earlier for earlier, later in pairwise(times)) < 1.0


async def test_where_telling_takes_long_changes_wait_and_new_readers_do_not(
    api: Client, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So votes keep most of the time where thousands watch; changes wait half a second at most."""
    assert hub.LONGEST_REST_SECONDS == 0.5
    monkeypatch.setattr(hub, "REST", 1e9)
    monkeypatch.setattr(hub, "LONGEST_REST_SECONDS", 3.0)
    async with watching(api, of_content(run)) as stream:
        await stream.results()
        await answered(await vote(api, run, "1", acting=1))
        assert (await stream.results())["results"]["participants"] == 1
        await answered(await vote(api, run, "1", acting=2))
        async with watching(api, of_content(run)) as newcomer:
            assert (await newcomer.results())["results"]["participants"] == 2
        assert await stream.is_silent(0.5)
        assert (await stream.results())["results"]["participants"] == 2


async def test_a_reader_that_knows_the_newest_state_hears_of_the_next(
    api: Client, run: Run
) -> None:
    async with watching(api, of_content(run)) as stream:
        known = await stream.results()
    again = {"Last-Event-ID": known["revision"]}
    async with watching(api, of_content(run), again) as stream:
        assert await stream.is_silent(0.4)
        await answered(await vote(api, run, "1", acting=1))
        assert (await stream.results())["results"]["participants"] == 1
    async with watching(api, of_content(run), again) as stream:
        assert (await stream.results())["results"]["participants"] == 1


async def test_the_time_limit_of_a_request_does_not_bind_a_stream(
    api: Client, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "LIMIT_SECONDS", 0.3)
    async with watching(api, of_content(run)) as stream:
        await stream.results()
        await asyncio.sleep(0.4)
        monkeypatch.undo()
        await answered(await vote(api, run, "1", acting=1))
        assert (await stream.results())["results"]["participants"] == 1


async def test_a_stream_is_refused_while_changes_cannot_be_followed(
    api: Client, run: Run, raw: Raw
) -> None:
    target = of_content(run)
    with failing(raw, ["aggregate"], {"errorCode": 13}):
        answer = await api.get(target.path, params=target.query, headers=EVENTS)
        await refused(answer, 503)
        assert answer.headers["Retry-After"] == "1"
    async with watching(api, target) as stream:
        await stream.results()


async def test_nothing_comes_behind_the_end(
    api: Client, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the state was being read when the stream ended."""
    sessions = api.app[STORE].sessions
    read = sessions.find_all

    async def read_amid_a_stop(numbers: Iterable[int]) -> dict[int, SessionDocument]:
        found = await read(numbers)
        api.app[DRAINING].set()
        await asyncio.sleep(0.1)
        return found

    async with watching(api, of_content(run)) as stream:
        await stream.results()
        monkeypatch.setattr(sessions, "find_all", read_amid_a_stop)
        await answered(await vote(api, run, "1", acting=1))
        assert (await stream.end()).data == {"reason": "restart"}


async def test_a_comment_comes_every_15_seconds(
    api: Client, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watcher.HEARTBEAT_SECONDS == 15
    monkeypatch.setattr(watcher, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr("service.live.events.HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(hub, "TICK_SECONDS", 0.05)
    async with watching(api, of_content(run)) as stream:
        await stream.results()
        assert await stream.is_silent(1.0)
        assert 3 <= stream.comments <= 6


async def test_beyond_the_limit_of_streams_the_next_is_asked_to_come_again(
    run: Run, service: RunningService
) -> None:
    readers = [await service.connect() for _ in range(4)]
    for reader in readers[:3]:
        reader.send(asking(run))
        await reader.until(b"event: results")
    answer = await readers[3].call(asking(run))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.data["code"] == "unavailable"
    readers[0].close()

    async def is_admitted() -> bool:
        readers[3].send(asking(run))
        return b" 200 " in await readers[3].read_head()

    await comes_true(is_admitted)


async def test_streams_leave_some_connections_to_everybody_else(
    run: Run, settings: Settings
) -> None:
    assert Settings().stream_limit == 10_000
    async with serving(replace(settings, max_connections=10)) as service:
        readers = [await service.connect() for _ in range(10)]
        for reader in readers[:9]:
            reader.send(asking(run))
            await reader.until(b"event: results")
        assert (await readers[9].call(asking(run))).status == 503


async def test_a_slow_reader_that_goes_on_reading_is_not_cut_off(
    api: Client, settings: Settings
) -> None:
    """It is behind all the time: its next event waits whenever one is taken."""
    run = await large_run(api)
    limited = replace(settings, client_seconds=1)
    async with serving(limited, sockets=small_sockets()) as service:
        reader = await service.connect(limit=1, kernel_bytes=4096)
        reader.send(asking(run))
        taking = asyncio.create_task(reader.sip(1_200, every=0.05))
        for voter in range(1, 15):
            await answered(await vote(api, run, IDS[0], acting=voter))
            await asyncio.sleep(0.25)
        assert await sample(service, "polls_streams") == 1
        taking.cancel()


async def test_a_reader_that_goes_away_is_forgotten(run: Run, service: RunningService) -> None:
    """With the last one the changes of sessions are not followed any more."""
    readers = [await service.connect() for _ in range(2)]
    for left, reader in enumerate(readers, 1):
        reader.send(asking(run))
        await reader.until(b"event: results")
        await has_streams(service, left)
    for left, reader in ((1, readers[0]), (0, readers[1])):
        assert follows_changes()
        reader.close()
        await has_streams(service, left)
    await until(lambda: not follows_changes())


async def test_a_reader_that_takes_nothing_is_left_the_newest_event_alone(
    api: Client, settings: Settings
) -> None:
    run = await large_run(api)
    async with serving(settings, sockets=small_sockets()) as service:
        reader = await service.connect(limit=1, kernel_bytes=4096)
        reader.send(asking(run))
        await has_streams(service, 1)
        for voter in range(1, 13):
            await answered(await vote(api, run, IDS[0], acting=voter))
            await asyncio.sleep(0.3)
        told = re.findall(rb'"participants":(\d+)', await reader.until(b'"participants":12,'))
        assert told[0] == b"0"
        assert len(told) < 10
        assert await sample(service, "polls_stream_overwritten_total") == 13 - len(told)
        assert await sample(service, 'polls_stream_events_total{event="results"}') == len(told)


async def test_a_reader_that_takes_nothing_is_cut_off_and_a_silent_stream_is_not(
    api: Client, raw: Raw, settings: Settings
) -> None:
    run, quiet = await large_run(api), await content_run(api, raw)
    limited = replace(settings, client_seconds=1)
    async with serving(limited, sockets=small_sockets()) as service:
        stalled = await service.connect(limit=1, kernel_bytes=4096)
        silent = await service.connect()
        stalled.send(asking(run))
        silent.send(asking(quiet))
        await silent.until(b"event: results")
        for voter in range(1, 8):
            await answered(await vote(api, run, IDS[0], acting=voter))
            await asyncio.sleep(0.3)
        await has_streams(service, 1)
        await answered(await vote(api, quiet, "1", acting=1))
        await silent.until(b'"participants":1')


async def test_a_stream_takes_no_part_in_the_metrics_of_durations(
    api: Client, run: Run, request_lines: io.BytesIO
) -> None:
    """Nor is it a request in flight; its line in the log says how long it lasted."""
    labels = {"route": "/rest/results", "method": "GET"}
    async with watching(api, of_content(run)) as stream:
        await stream.results()
        samples = await scrape(api)
        assert value(samples, "polls_streams") == 1
        assert value(samples, "polls_http_requests_in_flight") == 1  # the asking one
        await asyncio.sleep(0.3)

    async def is_counted() -> bool:
        samples = await scrape(api)
        return value(samples, "polls_http_requests_total", **labels, status="200") == 1

    await comes_true(is_counted)
    samples = await scrape(api)
    assert value(samples, "polls_streams") == 0
    assert value(samples, "polls_http_request_duration_seconds_count", **labels) == 0
    lines = [json.loads(line) for line in request_lines.getvalue().splitlines()]
    [line] = [line for line in lines if line["route"] == "/rest/results"]
    assert line["status"] == 200
    assert line["ms"] > 300


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_stream_ends_with_its_connection_in_either_version_of_http(
    api: Client, run: Run, service: RunningService, version: str
) -> None:
    reader = await service.connect()
    reader.send(asking(run, version))
    head = (await reader.read_head()).decode()
    assert head.startswith("HTTP/1.1 200" if version == "1.1" else "HTTP/1.0 200")
    assert ("Transfer-Encoding: chunked" in head) == (version == "1.1")
    assert ("Connection: close" in head) == (version == "1.1")
    first = await reader.until(b"\n\n")
    assert first.startswith(b"event: results\n") == (version == "1.0")
    await answered(await api.delete("/rest", params=run.query))
    last = (await reader.rest()).decode()
    event = 'event: end\ndata: {"reason":"deleted"}\n\n'
    assert last.endswith(event if version == "1.0" else f"{event}\r\n0\r\n\r\n")


async def test_head_gets_the_headers_of_a_stream_and_is_refused_what_get_is(
    api: Client, run: Run, anonymous: Client
) -> None:
    target = of_content(run)
    async with api.head(target.path, params=target.query, headers=EVENTS) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert await answer.read() == b""
    assert (await anonymous.head(target.path, params=target.query, headers=EVENTS)).status == 403
    assert value(await scrape(api), "polls_streams") == 0
    assert (await api.head(target.path, params=target.query)).content_type == "application/json"


IDS = [f"{number:064}" for number in range(100)]


async def large_run(api: Client) -> Run:
    """A poll whose events have some 11 KB."""
    place = {"type": "polls", "workspace": "PLAT", "content": "PLAT-11"}
    body = a_poll(options=[{"id": one, "title": "?"} for one in IDS])
    poll = await answered(await api.post("/rest", params=place, json=body))
    return Run(poll["id"], 0, 0, place)


def small_sockets() -> list[socket.socket]:
    """Of what is sent to connections from these the kernel takes little."""
    sockets = open_sockets("127.0.0.1", 0)
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return sockets


def follows_changes() -> bool:
    return any(one.name == "changes of sessions" for one in threading.enumerate())


async def sample(service: RunningService, name: str) -> float:
    client = await service.connect()
    text = (await client.call(request("GET", "/metrics", connection="close"))).body.decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines())
    return float(lines[name])


async def has_streams(service: RunningService, number: int) -> None:
    """Waits until there are so many."""

    async def are_there() -> bool:
        return await sample(service, "polls_streams") == number

    await comes_true(are_there)
