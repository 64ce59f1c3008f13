"""A store of 10,000 sessions and 1,000,000 ballots, and a session that has a million alone."""

import pytest

from service.settings import Settings
from storage.store import Store
from tests.conftest import Raw
from tests.support.recounting import Recounted, run_recount, seed_store

MOST_SECONDS = 60.0
MOST_GROWTH = 16 * 1024 * 1024
"""Over the memory that a small store takes. The ballots alone are 500 MB."""
PATIENCE_SECONDS = 600.0


@pytest.fixture
async def small(store: Store, raw: Raw, settings: Settings) -> Recounted:
    """The recount of a store of ten sessions, which is gone when the test begins."""
    assert await store.recounts.total() == 0
    seed_store(raw, 10, 1_000)
    small = await run_recount(settings)
    assert (small.status, small.lines, small.error) == (0, [], "")
    raw.sessions.delete_many({})
    raw.ballots.delete_many({})
    return small


async def test_a_recount_of_a_large_store_takes_a_minute_at_most_and_flat_memory(
    raw: Raw, settings: Settings, small: Recounted
) -> None:
    seed_store(raw, 10_000, 1_000_000)
    await require_agreeing_quick_and_flat(raw, settings, small)
    raw.sessions.update_one({"_id": 7_000}, {"$inc": {"participants": 1}})
    differing = await run_recount(settings, within=PATIENCE_SECONDS)
    assert (differing.status, differing.error) == (
        1,
        "polls: 1 of 10000 sessions differed from their ballots\n",
    )
    assert [line.partition(":")[0] for line in differing.lines] == ["session 7000"]


async def test_a_session_with_a_million_ballots_is_recounted_and_mended_as_any_other(
    raw: Raw, settings: Settings, small: Recounted
) -> None:
    seed_store(raw, 1, 1_000_000)
    raw.sessions.update_one({"_id": 1}, {"$inc": {"results.2": 1}})
    mending = await run_recount(settings, "--fix", within=PATIENCE_SECONDS)
    assert (mending.status, len(mending.lines)) == (1, 1)
    await require_agreeing_quick_and_flat(raw, settings, small)


async def require_agreeing_quick_and_flat(raw: Raw, settings: Settings, small: Recounted) -> None:
    found = await run_recount(settings, within=PATIENCE_SECONDS)
    print(  # noqa: T201
        f"recounted in {found.seconds:.1f} s and {found.memory / 2**20:.1f} MiB; "
        f"a small store: {small.seconds:.1f} s and {small.memory / 2**20:.1f} MiB"
    )
    assert (found.status, found.lines, found.error) == (0, [], "")
    assert found.memory - small.memory < MOST_GROWTH
    # The stand-in may be slower.
    if "secantusVersion" not in raw.client.server_info():
        assert found.seconds < MOST_SECONDS
