"""A stop under load: what was accepted is answered, what was not is refused, nothing in between."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from service.app import create_app
from service.server import runner as server
from service.settings import Settings
from tests.conftest import ADMIN
from tests.support.calls import POLL, Connection, call, chunked, is_refused, place, request
from tests.support.processes import Service, Services, is_running, until
from tests.support.serving import serving
from tests.support.serving import until as eventually

pytestmark = pytest.mark.faults

CALLERS = 1000
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])
READ = request("GET", place(), token=ADMIN)


@contextmanager
def halted(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def processes_of(service: Service, workers: str) -> list[int]:
    """Those that accept connections."""
    return [service.pid] if workers == "1" else service.worker_pids


async def ask(url: str, data: bytes) -> str:
    """What came of a request on a connection of its own: a status, or where it ended."""
    address = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError as error:
        return f"lost: {error!r}"
    try:
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        await reader.readexactly(length)
        return head.split()[1].decode()
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        return f"lost: {error!r}"
    finally:
        writer.close()


@WORKERS
async def test_of_a_thousand_requests_around_a_sigterm_every_accepted_one_is_answered(
    services: Services, workers: str
) -> None:
    service = await asyncio.to_thread(
        services.start, POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS=workers
    )
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    outcomes: Counter[str] = Counter()
    turns = asyncio.Semaphore(200)

    async def caller(number: int) -> None:
        async with turns:
            new = place(f"NEW-{number}")
            data = READ if number % 4 else request("POST", new, token=ADMIN, body=POLL)
            outcomes[await ask(service.url, data)] += 1
            if outcomes.total() == CALLERS // 4:
                service.terminate()

    async with asyncio.timeout(60):
        await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    assert outcomes["200"] >= CALLERS // 4
    assert outcomes["refused"] > 0  # it did stop amid them
    # What the kernel completes between the last accept and the close of the listener is reset: none
    # of it was accepted, and it is one or two connections at most.
    reset = sum(count for outcome, count in outcomes.items() if "ConnectionReset" in outcome)
    assert reset <= 2, outcomes
    # A machine that is busy may have it say that the database is too busy: an answer too.
    answered = outcomes["200"] + outcomes["503"]
    assert answered + outcomes["refused"] + reset == CALLERS, outcomes
    assert await asyncio.to_thread(service.wait) == 0
    # Every request that a process has seen was answered, and the one that made the poll.
    seen = [line for line in service.log_lines if line["event"] == "request"]
    assert len(seen) == answered + 1


@WORKERS
def test_connections_that_the_kernel_has_accepted_before_the_stop_are_answered(
    services: Services, workers: str
) -> None:
    """The queue of the kernel is full of requests that the process has never seen."""
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS=workers)
    listening = processes_of(service, workers)
    assert len(listening) == int(workers)
    with ExitStack() as stack:
        with halted(*listening):
            queued = [stack.enter_context(Connection(service.url)) for _ in range(100)]
            for connection in queued:
                connection.send(READ)
            service.terminate()
        assert {connection.read().status for connection in queued} == {200}
    assert service.wait() == 0
    assert is_refused(service.url)


@WORKERS
def test_before_it_listens_no_more_it_says_so_for_as_long_as_is_set(
    services: Services, workers: str
) -> None:
    service = services.start(
        POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS=workers, POLLS_DRAIN_SECONDS="1"
    )
    assert call(service.url, "GET", "/readyz").status == 200
    with Connection(service.url) as kept:
        kept.send(READ)
        assert kept.read().headers.get("Connection") is None
        begun = time.monotonic()
        service.terminate()
        until(lambda: call(service.url, "GET", "/readyz").status == 503, "the end of readiness")
        assert call(service.url, "GET", "/healthz").status == 200
        kept.send(READ)
        answer = kept.read()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert kept.is_closed
        assert call(service.url, "GET", place(), token=ADMIN).status == 200
    assert service.wait() == 0
    assert 1 <= time.monotonic() - begun < 8
    assert is_refused(service.url)


async def test_a_request_that_is_on_its_way_when_the_listening_ends_is_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGER_SECONDS", 2)
    async with serving(settings) as service:
        idle, fresh, silent = [await service.connect() for _ in range(3)]
        assert (await idle.call(READ)).status == 200
        fresh.send(READ[:10])
        stopping = asyncio.create_task(service.runner.cleanup())
        await eventually(lambda: is_refused(service.url))
        fresh.send(READ[10:])
        for answer in (await idle.call(READ), await fresh.read(), await silent.call(READ)):
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        await stopping


async def test_a_connection_that_was_just_made_is_given_longer_for_its_first_request(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGER_SECONDS", 0)
    monkeypatch.setattr(server, "FIRST_REQUEST_SECONDS", 5)
    async with serving(settings) as service:
        silent = await service.connect()
        stopping = asyncio.create_task(service.runner.cleanup())
        await eventually(lambda: is_refused(service.url))
        answer = await silent.call(READ)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await stopping


CREATE = request("POST", place(), token=ADMIN, body=POLL)


@pytest.mark.parametrize("first", [CREATE, chunked(CREATE)], ids=["sized", "chunked"])
def test_requests_that_have_arrived_behind_another_are_answered_before_the_stop(
    services: Services, first: bytes
) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    with Connection(service.url) as connection:
        with halted(service.pid):
            connection.send(first + READ * 20)
            service.terminate()
        assert connection.rest().count(b"HTTP/1.1 200 OK") == 21
    assert service.wait() == 0


async def test_a_signal_right_after_the_start_stops_it_in_order(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "calm_collector", lambda: None)

    async def announce(_: str) -> None:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)

    await server.serve(create_app(replace(settings, port=0)), announce)


def test_an_idle_connection_does_not_delay_a_stop(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    family = service.guard_pid, service.server_pid
    with Connection(service.url) as idle:
        idle.send(READ)
        assert idle.read().status == 200
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 5
        assert idle.is_closed
    assert not any(map(is_running, family))
