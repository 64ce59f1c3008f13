"""A stop of the service ends its streams at once, so that they never hold it up."""

import asyncio
import re
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from service.settings import Settings
from tests.conftest import ADMIN, Client, Raw
from tests.live.test_readers import IDS, asking, has_streams, large_run, small_sockets
from tests.support.calls import POLL, Connection, call, place
from tests.support.casting import Run, answered, content_run, vote
from tests.support.processes import Services
from tests.support.serving import serving

pytestmark = pytest.mark.faults


RESTART = 'event: end\ndata: {"reason":"restart"}\n\n'


async def test_a_stop_ends_streams_with_a_spread_retry(
    api: Client, raw: Raw, settings: Settings
) -> None:
    run = await content_run(api, raw)
    async with serving(settings) as service:
        readers = [await service.connect() for _ in range(20)]
        for reader in readers:
            reader.send(asking(run))
            await reader.until(b"event: results")
        begun = time.monotonic()
        await service.runner.cleanup()
        assert time.monotonic() - begun < 2
        ends = [(await reader.rest()).decode() for reader in readers]
    assert all(end.endswith(f"{RESTART}\r\n0\r\n\r\n") for end in ends)
    retries = [int(re.findall(r"retry: (\d+)\n", end)[0]) for end in ends]
    assert all(500 <= retry <= 5_000 for retry in retries)
    assert max(retries) - min(retries) > 1_000


async def test_a_reader_that_takes_nothing_does_not_hold_up_a_stop(
    api: Client, settings: Settings
) -> None:
    run = await large_run(api)
    async with serving(settings, sockets=small_sockets()) as service:
        stalled = await service.connect(limit=1, kernel_bytes=4096)
        stalled.send(asking(run))
        await has_streams(service, 1)
        for voter in range(1, 8):
            await answered(await vote(api, run, IDS[0], acting=voter))
            await asyncio.sleep(0.3)
        begun = time.monotonic()
        await service.runner.cleanup()
        assert time.monotonic() - begun < 2


async def test_while_a_stop_still_accepts_connections_streams_are_sent_elsewhere(
    api: Client, raw: Raw, settings: Settings
) -> None:
    """They are not refused: a browser does not connect again after that."""
    run = await content_run(api, raw)
    async with serving(replace(settings, drain_seconds=1)) as service:
        stopping = asyncio.create_task(service.runner.cleanup())
        await asyncio.sleep(0.1)
        late = await service.connect()
        late.send(asking(run))
        answer = (await late.rest()).decode()
        assert answer.startswith("HTTP/1.1 200 OK")
        assert RESTART in answer
        await stopping


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_sigterm_ends_the_streams_of_all_workers(services: Services, workers: str) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS=workers)
    poll = call(service.url, "POST", place(), token=ADMIN, body=POLL).data
    run = Run(poll["id"], 0, 0, {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"})
    with ExitStack() as stack:
        readers = [stack.enter_context(Connection(service.url)) for _ in range(8)]
        for reader in readers:
            reader.send(asking(run))
            reader.await_bytes(b"HTTP/1.1 200 OK")
        begun = time.monotonic()
        service.terminate()
        for reader in readers:
            assert RESTART.encode() in reader.rest()
        assert time.monotonic() - begun < 3
    assert service.wait() == 0
