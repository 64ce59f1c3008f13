"""Two services on three nodes that lose their primary, in each way it can be lost, under load.

No vote that was acknowledged may be lost or counted twice. Callers are answered within 5 s, and
everything works again within a second of a new primary.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
import pytest

from storage.embedded.engines import Secantus
from tests.conftest import Raw, Scale
from tests.support import engine
from tests.support.fleet import eventually, fleet_of, recount
from tests.support.replicas import Node, ReplicaSet, replica_set_in
from tests.support.traffic import ANSWER_SECONDS, CALLERS, Call, Traffic, traffic_on

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(
        engine.chosen().name == Secantus.name,
        reason="The nodes are of MongoDB, whatever the engine; the run on MongoDB has these tests.",
    ),
]

SERVICES = 2
BACK_SECONDS = 1.0
WRITES_IN_A_ROW = 3


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[ReplicaSet]:
    async with replica_set_in(tmp_path) as replicas:
        yield replicas


@pytest.fixture
def raw(replicas: ReplicaSet) -> Iterator[Raw]:
    with pymongo.MongoClient[dict[str, Any]](replicas.uri, tz_aware=True) as client:
        yield client.get_default_database()


Event = Callable[[ReplicaSet, Node], Coroutine[Any, Any, None]]


class Loss(NamedTuple):
    """How a primary is lost, and how its node comes back."""

    lose: Event
    mend: Event


async def leave_alone(_replicas: ReplicaSet, _node: Node) -> None:
    """A node that stepped down is well."""


LOSSES = (
    Loss(lambda _, node: node.step_down(), leave_alone),
    Loss(lambda _, node: node.kill(), ReplicaSet.start_again),
    Loss(lambda _, node: node.pause(), lambda _, node: node.resume()),
    Loss(ReplicaSet.cut_off, ReplicaSet.mend),
)


async def require_stored_soon(traffic: Traffic, since: float, *, a_write: float = 0.0) -> None:
    """Each service stores something within a second, where MongoDB writes at once.

    ``a_write`` is how long MongoDB itself takes for a majority write. The change that a caller
    waits for may be behind another, and takes a number before it: three such writes, one after the
    other.
    """

    def first(service: int) -> Call | None:
        stored = (call for call in traffic.calls_since(since) if call.is_stored)
        return next((call for call in stored if call.service == service), None)

    def each_has() -> bool:
        return all(first(service) is not None for service in range(SERVICES))

    await eventually(each_has)
    for service in range(SERVICES):
        call = first(service)
        assert call is not None
        assert call.ended - since < BACK_SECONDS + WRITES_IN_A_ROW * a_write, (call, a_write)


async def lose_primary(replicas: ReplicaSet, traffic: Traffic, loss: Loss) -> None:
    lost = await replicas.primary()
    losing = asyncio.create_task(loss.lose(replicas, lost))
    await replicas.able_primary(besides=lost)
    able = time.monotonic()
    a_write = await replicas.seconds_a_write()
    await losing
    await require_stored_soon(traffic, able, a_write=a_write)
    await loss.mend(replicas, lost)
    await replicas.caught_up()
    await require_stored_soon(traffic, time.monotonic())


async def test_whichever_way_a_primary_is_lost_no_vote_is_lost_or_counted_twice(
    replicas: ReplicaSet, raw: Raw, tmp_path: Path, scale: Scale
) -> None:
    async with fleet_of(SERVICES, replicas.uri, tmp_path) as fleet:
        async with traffic_on(fleet, raw) as traffic:
            await require_stored_soon(traffic, time.monotonic())
            for _, loss in zip(range(scale.rounds), cycle(LOSSES), strict=False):
                await lose_primary(replicas, traffic, loss)
        await traffic.require_exact(raw)
        assert min(traffic.room.closes, traffic.deleters.deletions) > 0
        await asyncio.gather(*map(recount, fleet.services))


async def test_without_a_majority_nothing_is_acknowledged_and_all_is_well_when_it_is_back(
    replicas: ReplicaSet, raw: Raw, tmp_path: Path
) -> None:
    async with fleet_of(SERVICES, replicas.uri, tmp_path) as fleet:
        async with traffic_on(fleet, raw) as traffic:
            await require_stored_soon(traffic, time.monotonic())
            primary = await replicas.primary()
            others = [node for node in replicas.nodes if node is not primary]
            await asyncio.gather(*(node.kill() for node in others))
            gone = time.monotonic()

            def each_was_refused() -> bool:
                refusals = Counter(call.service for call in traffic.calls_since(gone, status=503))
                return min(refusals[service] for service in range(SERVICES)) > CALLERS

            await eventually(each_was_refused, seconds=6 * ANSWER_SECONDS)
            acknowledged = [call for call in traffic.calls_since(gone) if call.is_stored]
            assert not [call for call in acknowledged if call.started > gone]
            await asyncio.gather(*map(replicas.start_again, others))
            await replicas.able_primary()
            await require_stored_soon(traffic, time.monotonic())
        await traffic.require_exact(raw)
        await asyncio.gather(*map(recount, fleet.services))
