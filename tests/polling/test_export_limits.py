"""Exports leave the service to all others, however slow they are and however many are wanted."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest
from aiohttp import ClientResponse
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import Settings
from storage.embedded.engines import Secantus
from storage.exports import BALLOTS_AT_A_TIME
from tests.conftest import ADMIN, AsServed, Client, Raw
from tests.support import engine
from tests.support.casting import Run, answered, course_run, enroll, seed_ballots, submit
from tests.support.processes import eventually, slow
from tests.support.seeds import refused

SLOW_MILLISECONDS = 3_000

Begin = Callable[[int], Awaitable[Client]]


@pytest.fixture
def begin(aiohttp_client: AiohttpClient, settings: Settings) -> Begin:
    """A service that runs so many exports at once."""

    async def begin(most: int) -> Client:
        app = AsServed(create_app(replace(settings, max_exports=most)))
        headers = {"Authorization": f"Bearer {ADMIN}"}
        return cast(Client, await aiohttp_client(app, headers=headers))

    return begin


async def export(service: Client, run: Run) -> ClientResponse:
    answer = await service.get(f"{run.url}/export", params={"format": "csv"})
    await answer.read()
    return answer


@asynccontextmanager
async def slow_exports(
    service: Client, raw: Raw, run: Run, count: int
) -> AsyncIterator[list["asyncio.Task[ClientResponse]"]]:
    """Exports that wait for the database for a while, and in the end for all of them."""
    with slow(raw.client, "getMore", SLOW_MILLISECONDS):
        running = [asyncio.create_task(export(service, run)) for _ in range(count)]
        yield running
        await asyncio.gather(*running)


async def test_beyond_the_limit_an_export_is_refused_until_another_one_has_ended(
    api: Client, raw: Raw, begin: Begin
) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, BALLOTS_AT_A_TIME + 1, named=True)
    service = await begin(2)
    async with slow_exports(service, raw, run, 5) as running:

        async def three_are_answered() -> bool:
            return sum(one.done() for one in running) == 3

        await eventually(three_are_answered, "the refusals")
        for one in running:
            if one.done():
                problem = await refused(one.result(), 503)
                assert problem["detail"] == "2 exports are running, which is the limit."
                assert one.result().headers["Retry-After"] == "1"
    assert sorted(one.result().status for one in running) == [200, 200, 503, 503, 503]
    assert [(await export(service, run)).status for _ in range(3)] == [200] * 3


async def test_votes_and_readyz_take_no_longer_beside_many_slow_exports(
    api: Client, raw: Raw, begin: Begin
) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, BALLOTS_AT_A_TIME + 1, named=True)
    # While that many commands wait in the stand-in, it answers nothing else either.
    many = 4 if engine.chosen().name == Secantus.name else 40
    service = await begin(many)
    voters = range(9_001, 9_005)
    for user_id in voters:
        await enroll(service, user_id)
    async with slow_exports(service, raw, run, many) as running:
        await asyncio.sleep(0)
        for user_id in voters:
            started = time.monotonic()
            await answered(await submit(service, run, 1, acting=user_id, enrolls=False))
            voted = time.monotonic()
            assert (await service.get("/readyz")).status == 200
            assert voted - started < 1
            assert time.monotonic() - voted < 1
        assert not any(one.done() for one in running)
    assert {one.result().status for one in running} == {200}
