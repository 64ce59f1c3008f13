"""Deleting what has many votes: gone at once for everybody, swept soon after."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import Settings
from storage import purges
from storage.purges import BALLOTS_AT_A_TIME, LEASE_SECONDS, NEVER_LEASED, Purges
from storage.store import Store
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    Run,
    another_session,
    answered,
    content_run,
    course_run,
    seed_ballots,
    submit,
    submitted,
    tally,
    vote,
)
from tests.support.seeds import refused

VOTES = 5000
SWEPT_SECONDS = 20.0
ORPHANED = Run("p", 1, 77, {})


@pytest.fixture(autouse=True)
def looks_when_it_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a deletion does not wake the sweeper for would lie there for an hour."""
    monkeypatch.setattr(purges, "LOOK_AGAIN_SECONDS", 3600.0)


async def swept(raw: Raw) -> None:
    """Returns when no ballot and no note is left of a deletion; a deadline ends the wait."""
    deadline = time.monotonic() + SWEPT_SECONDS
    while raw.purges.find_one({}) is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def orphan(raw: Raw, ballots: int, leased_until: datetime = NEVER_LEASED) -> None:
    """What a process leaves that was killed right after the first step of a deletion."""
    seed_ballots(raw, ORPHANED, ballots)
    raw.purges.insert_one({"_id": ORPHANED.session, "leased_until": leased_until})


async def test_a_deleted_session_is_gone_at_once_and_its_5000_ballots_soon(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw, allowRevote=True)
    kept = await another_session(api, run)
    await submitted(api, kept, 2)
    own = await submitted(api, run, 1)
    seed_ballots(raw, run, VOTES)
    other = await make_token(user_id=8, admin=True)
    assert (await api.delete(run.url)).status == 204
    for who in (None, other):
        for response in (
            await api.get(run.url, headers=who),
            await api.get(run.submissions, headers=who),
            await api.get(f"{run.submissions}/{own['id']}", headers=who),
            await api.get(f"{run.url}/open", headers=who),
            await api.delete(run.url, headers=who),
            await submit(api, run, 1, who=who),
        ):
            await refused(response, 404)
    [poll] = (await answered(await api.get(run.poll_url)))["polls"]
    assert poll["total_results"] == {"1": 0, "2": 1, "3": 0}
    await swept(raw)
    assert raw.ballots.count_documents({"session_id": run.session}) == 0
    assert tally(raw, kept) == {"2": 1}


@pytest.mark.parametrize("face", ["rest", "api"])
async def test_a_poll_that_is_deleted_now_is_gone_at_once_and_the_ballots_of_all_its_sessions_soon(
    api: Client, raw: Raw, face: str
) -> None:
    run = await content_run(api, raw)
    neighbour = await content_run(api, raw)
    second = await another_session(api, run)
    await answered(await vote(api, neighbour, "3"))
    for session in (run, second):
        seed_ballots(raw, session, VOTES // 2)
    if face == "rest":
        assert (await api.delete("/rest", params={**run.query, "now": "true"})).status == 200
    else:
        assert (await api.delete(run.poll_url, params={"now": "true"})).status == 204
    for response in (
        await api.get("/rest", params=run.query),
        await api.get("/rest", params=run.votes),
        await vote(api, run, "1"),
        await api.get(run.poll_url),
        await api.get(f"{run.poll_url}/poll_sessions"),
        await api.get(second.url),
        await submit(api, second, 1),
    ):
        await refused(response, 404)
    await swept(raw)
    assert [one["session_id"] for one in raw.ballots.find()] == [neighbour.session]
    assert [one["_id"] for one in raw.sessions.find()] == [neighbour.session]
    assert tally(raw, neighbour) == {"3": 1}


async def test_what_is_deleted_while_its_old_votes_are_being_removed_is_swept_as_well(
    api: Client, raw: Raw, clock: Clock
) -> None:
    """Retention has noted the sessions, and the process that held the lease was killed."""
    run = await content_run(api, raw)
    second = await another_session(api, run)
    for session in (run, second):
        seed_ballots(raw, session, 10)
        leased = {"_id": session.session, "leased_until": clock.now + timedelta(hours=1)}
        raw.purges.insert_one(leased)
    assert (await api.delete(second.url)).status == 204
    assert (await api.delete("/rest", params={**run.query, "now": "true"})).status == 200
    await swept(raw)
    assert raw.ballots.count_documents({}) == 0


async def test_sweeping_goes_on_when_the_service_starts_again(
    aiohttp_client: AiohttpClient, settings: Settings, raw: Raw
) -> None:
    orphan(raw, 2500, leased_until=datetime.now(UTC) - timedelta(seconds=1))
    await aiohttp_client(create_app(settings))
    await swept(raw)
    assert raw.ballots.count_documents({}) == 0


async def test_a_lease_that_another_holds_is_respected_until_it_ends(
    store: Store, raw: Raw, clock: Clock
) -> None:
    ends = clock.now + timedelta(seconds=LEASE_SECONDS)
    orphan(raw, 10, leased_until=ends)
    sweeper = Purges(store.database, clock)
    clock.now = ends - timedelta(milliseconds=1)
    assert await sweeper._sweep_one() is False
    assert raw.ballots.count_documents({}) == 10
    assert raw.purges.find_one({}) == {"_id": ORPHANED.session, "leased_until": ends}
    clock.now = ends
    assert await sweeper._sweep_one() is True
    assert (raw.ballots.count_documents({}), raw.purges.count_documents({})) == (0, 0)
    assert await sweeper._sweep_one() is False


async def test_a_lease_is_taken_before_the_sweep_and_lengthened_while_it_lasts(
    store: Store, raw: Raw, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan(raw, 2 * BALLOTS_AT_A_TIME + 1)
    sweeper = Purges(store.database, clock)
    sweep, leases, left = sweeper._sweep_some, [], []

    async def slowly(session_id: int) -> bool:
        [note] = raw.purges.find()
        leases.append(note["leased_until"] - clock.now)
        left.append(raw.ballots.count_documents({}))
        clock.advance(seconds=LEASE_SECONDS - 1)
        return await sweep(session_id)

    monkeypatch.setattr(sweeper, "_sweep_some", slowly)
    assert await sweeper._sweep_one() is True
    assert leases == [timedelta(seconds=LEASE_SECONDS)] * 4
    assert left == [2 * BALLOTS_AT_A_TIME + 1, BALLOTS_AT_A_TIME + 1, 1, 0]


async def test_a_recount_passes_over_what_is_not_swept_yet(store: Store, raw: Raw) -> None:
    orphan(raw, 3)
    assert raw.purges.count_documents({"_id": ORPHANED.session}) == 1
    assert [recount async for recount in store.recounts.run(fix=True)] == []
    assert raw.ballots.count_documents({}) == 3


@pytest.mark.parametrize("steps", range(5))
async def test_a_stop_that_comes_with_a_wake_up_ends_the_sweeping(store: Store, steps: int) -> None:
    sweeping = asyncio.create_task(store.purges.run())
    async with asyncio.timeout(SWEPT_SECONDS):
        while not store.purges._noted._waiters:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    store.purges.wake()
    for _ in range(steps):
        await asyncio.sleep(0)
    sweeping.cancel()
    _, late = await asyncio.wait([sweeping], timeout=2)
    while not sweeping.done():
        sweeping.cancel()
        await asyncio.wait([sweeping], timeout=0.1)
    assert not late
