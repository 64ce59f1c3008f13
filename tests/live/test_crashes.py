"""Watchers through the end of the process that they are connected to: none misses the last vote."""

import asyncio
import os
import signal
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import ADMIN
from tests.live.test_readers import asking
from tests.server.test_kills import Load, make_poll
from tests.server.test_workers import fleet_in, workers_of
from tests.support.calls import request
from tests.support.casting import Run
from tests.support.fleet import Poll, Service, eventually, recount, service_in
from tests.support.serving import Client
from tests.support.watched import results, watched

pytestmark = pytest.mark.faults


WATCHERS = 40
ENOUGH = 50
"""Among so many connections each worker has some."""


async def test_watchers_of_a_worker_that_is_killed_see_every_vote(tmp_path: Path) -> None:
    async with fleet_in(tmp_path) as service:
        load = Load(service, await make_poll(service, saveParticipantNames=True))
        async with watched([service], load.poll, WATCHERS) as audience:
            voting = asyncio.create_task(load.insist())
            for pid in workers_of(service):
                before = len(load.answered)
                await eventually(lambda: len(load.answered) > before + 50)  # noqa: B023 - awaited
                os.kill(pid, signal.SIGKILL)
            load.is_over = True
            await voting
            load.require_exact()
            shown = await results(service, load.poll)
            assert shown["results"]["participants"] == len(load.sent)
            await audience.agree(shown)
            assert audience.broken >= WATCHERS
        await recount(service)


async def test_watchers_of_a_service_that_is_stopped_and_started_again_see_every_vote(
    tmp_path: Path,
) -> None:
    async with service_in(tmp_path) as service:
        service.environment["POLLS_PORT"] = service.url.rpartition(":")[2]
        load = Load(service, await make_poll(service, saveParticipantNames=True))
        async with watched([service], load.poll, WATCHERS) as audience:
            voting = asyncio.create_task(load.run())
            await eventually(lambda: len(load.answered) > 50)
            await service.stop()
            await voting
            await service.start()
            await load.require_all()
            load.require_exact()
            await audience.agree(await results(service, load.poll))
            assert audience.restarts == WATCHERS
        await recount(service)


async def test_votes_through_one_worker_are_seen_on_the_other_within_a_second(
    tmp_path: Path,
) -> None:
    async with fleet_in(tmp_path) as service, AsyncExitStack() as stack:
        poll = await make_poll(service)
        clients = [await _connect(service) for _ in range(ENOUGH)]
        for client in clients:
            stack.callback(client.close)
            client.send(request("GET", "/healthz"))
            assert (await client.read()).status == 200
        by_worker: dict[int, list[Client]] = defaultdict(list)
        for client in clients:
            by_worker[_worker_of(service, client)].append(client)
        one, other = by_worker.values()
        pairs = ((one.pop(), other.pop()), (other.pop(), one.pop()))
        for voter, (watcher, caster) in enumerate(pairs, start=1):
            watcher.send(asking(Run(poll.id, 0, 0, poll.place)))
            await watcher.until(b'"participants":%d,' % (voter - 1))
            begun = time.monotonic()
            caster.send(_vote(poll, voter))
            await watcher.until(b'"participants":%d,' % voter)
            assert time.monotonic() - begun < 1.0
            assert (await caster.read()).status == 200


async def _connect(service: Service) -> Client:
    address = urlsplit(service.url)
    return Client(*await asyncio.open_connection(address.hostname, address.port))


def _vote(poll: Poll, user_id: int) -> bytes:
    query = "&".join(f"{name}={value}" for name, value in poll.votes(user_id).items())
    return request("POST", f"/rest?{query}", token=ADMIN, body={"optionIds": ["1"]})


def _worker_of(service: Service, client: Client) -> int:
    """The worker that holds the other end of a connection, as /proc tells."""
    port = client._writer.get_extra_info("sockname")[1]
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if fields[2].endswith(f":{port:04X}"):
            held = f"socket:[{fields[9]}]"
            for pid in workers_of(service):
                if any(str(one.readlink()) == held for one in Path(f"/proc/{pid}/fd").iterdir()):
                    return pid
    raise AssertionError(f"no worker holds the connection from port {port}")
