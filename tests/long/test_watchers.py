"""Thousands of watchers: what they cost, and what they see through elections and restarts."""

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest

from tests.conftest import Raw
from tests.server.test_kills import make_poll
from tests.server.test_workers import COUNT, fleet_in, workers_of
from tests.storage.test_replica_set import LOSSES, SERVICES, lose_primary
from tests.support.fleet import (
    HEADERS,
    Fleet,
    Poll,
    Service,
    eventually,
    fleet_of,
    recount,
    service_in,
)
from tests.support.replicas import ReplicaSet, replica_set_in
from tests.support.traffic import traffic_on
from tests.support.watched import results, watched

MIB = 2**20
ROUNDS = 8
IDLE = 10_000
LARGE = {"POLLS_MAX_STREAMS": "11000", "POLLS_MAX_CONNECTIONS": "13000"}
MOST_IDLE_MIB = 200
WATCHERS = 1_000
VOTES = 100_000
VOTERS = 64
MOST_GROWTH = 0.10


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[ReplicaSet]:
    async with replica_set_in(tmp_path) as replicas:
        yield replicas


@pytest.fixture
def stored(replicas: ReplicaSet) -> Iterator[Raw]:
    with pymongo.MongoClient[dict[str, Any]](replicas.uri, tz_aware=True) as client:
        yield client.get_default_database()


async def test_watchers_see_every_vote_whichever_way_primaries_are_lost(
    replicas: ReplicaSet, stored: Raw, tmp_path: Path
) -> None:
    """Their streams do not even break."""
    async with fleet_of(SERVICES, replicas.uri, tmp_path) as fleet, AsyncExitStack() as stack:
        async with traffic_on(fleet, stored) as traffic:
            poll = traffic._voters.poll
            watching = watched(fleet.services, poll, WATCHERS // 5)
            audience = await stack.enter_async_context(watching)
            for _, loss in zip(range(ROUNDS), cycle(LOSSES), strict=False):
                await lose_primary(replicas, traffic, loss)
        await traffic.require_exact(stored)
        shown = await results(fleet.services[0], poll)
        assert shown["results"]["participants"] == len(traffic._voters.choices)
        await audience.agree(shown)
        assert (audience.broken, audience.restarts) == (0, 0)
        await asyncio.gather(*map(recount, fleet.services))


async def test_ten_thousand_idle_watchers_take_at_most_200_mib(tmp_path: Path) -> None:
    async with service_in(tmp_path, **LARGE) as service:
        poll = await make_poll(service)
        # One that is there already has made what all share.
        async with watched([service], poll, 1):
            before = resident_bytes(service)
            async with watched([service], poll, IDLE, processes=2) as audience:
                await audience.agree(await results(service, poll))
                taken = (resident_bytes(service) - before) / MIB
                assert taken <= MOST_IDLE_MIB
                await vote(service, poll, 1)
                await audience.agree(await results(service, poll), seconds=5)
                assert audience.broken == 0


async def test_memory_does_not_grow_with_votes_beside_watchers(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        poll = await make_poll(service)
        voters = iter(range(1, VOTES + 1))
        async with watched([service], poll, WATCHERS) as audience:

            async def cast(until: int) -> None:
                for voter in voters:
                    await vote(service, poll, voter)
                    if voter >= until:
                        return

            sizes = []
            for share in (1, 5, 10):
                async with asyncio.TaskGroup() as group:
                    for _ in range(VOTERS):
                        group.create_task(cast(VOTES * share // 10))
                sizes.append(resident_bytes(service) / MIB)
            shown = await results(service, poll)
            assert shown["results"]["participants"] == VOTES
            await audience.agree(shown)
            assert (audience.broken, audience.restarts) == (0, 0)
            assert abs(sizes[-1] / sizes[0] - 1) <= MOST_GROWTH
        await recount(service)


async def test_a_rolling_restart_of_services_loses_no_watcher_and_no_vote(
    mongodb_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(2, mongodb_uri, tmp_path) as fleet:
        for service in fleet.services:
            service.environment["POLLS_PORT"] = service.url.rpartition(":")[2]
        poll = await make_poll(fleet.services[0])
        async with watched(fleet.services, poll, WATCHERS) as audience, voting(fleet, poll) as cast:
            for service in fleet.services:
                await go_on(cast)
                await service.stop()
                await go_on(cast)
                await service.start()
            await go_on(cast)
            await cast.stop()
            shown = await results(fleet.services[0], poll)
            assert shown["results"]["participants"] == cast.answered
            await audience.agree(shown)
            assert audience.restarts >= WATCHERS
        await recount(fleet.services[0])


async def test_a_rolling_restart_of_workers_loses_no_watcher_and_no_vote(tmp_path: Path) -> None:
    async with fleet_in(tmp_path) as service:
        poll = await make_poll(service)
        async with (
            watched([service], poll, WATCHERS) as audience,
            voting(Fleet([service]), poll) as cast,
        ):
            for pid in workers_of(service):
                await go_on(cast)
                os.kill(pid, signal.SIGTERM)
                await eventually(partial(is_replaced, service, pid), seconds=30)
            await go_on(cast)
            await cast.stop()
            shown = await results(service, poll)
            assert shown["results"]["participants"] == cast.answered
            await audience.agree(shown)
            assert audience.restarts >= WATCHERS
        await recount(service)


def is_replaced(service: Service, pid: int) -> bool:
    pids = workers_of(service)
    return pid not in pids and len(pids) == COUNT


def resident_bytes(service: Service) -> int:
    status = Path(f"/proc/{service.pid}/status").read_text()
    [line] = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(line) * 1024


async def vote(service: Service, poll: Poll, user_id: int) -> None:
    answer = await service.call(
        "POST", "/rest", params=poll.votes(user_id), json={"optionIds": ["1"]}
    )
    assert answer.status == 200, answer


@dataclass
class Cast:
    answered: int = 0
    is_over: bool = False
    lanes: list[asyncio.Task[None]] = field(default_factory=list)

    async def stop(self) -> None:
        """Returns when every vote that was sent is taken."""
        self.is_over = True
        await asyncio.wait(self.lanes)


async def go_on(cast: Cast) -> None:
    """Returns after some more votes."""
    wanted = cast.answered + 50
    await eventually(lambda: cast.answered >= wanted, seconds=60)


@asynccontextmanager
async def voting(fleet: Fleet, poll: Poll) -> AsyncIterator[Cast]:
    """Voters that try any service until their vote is taken; inside, until ``is_over``."""
    cast, users, urls = Cast(), count(1), [service.url for service in fleet.services]

    async def insist(http: aiohttp.ClientSession, user_id: int) -> None:
        while True:
            with suppress(aiohttp.ClientError):
                async with http.post(
                    f"{random.choice(urls)}/rest",
                    params=poll.votes(user_id),
                    json={"optionIds": ["1"]},
                    headers={"Idempotency-Key": f"vote of {user_id}"},
                ) as answer:
                    if answer.status == 200:
                        cast.answered += 1
                        return
                    assert answer.status == 503, await answer.text()
            await asyncio.sleep(0.1)

    async def lane(http: aiohttp.ClientSession) -> None:
        while not cast.is_over:
            await insist(http, next(users))
            await asyncio.sleep(0.05)

    async with aiohttp.ClientSession(headers=HEADERS) as http, asyncio.TaskGroup() as group:
        cast.lanes = [group.create_task(lane(http)) for _ in range(8)]
        yield cast
        await cast.stop()
