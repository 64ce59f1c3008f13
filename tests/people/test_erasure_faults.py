"""kill -9 while a user is being erased, and votes go on."""

import asyncio
import random
from pathlib import Path

import pytest

from storage import voting
from tests.conftest import SECRET, Raw, Scale
from tests.people.test_erasure import traces
from tests.server.test_kills import LONG_AGO, make_poll, reaching_store
from tests.support.fleet import eventually, recount, service_in

pytestmark = pytest.mark.faults

USER, OTHER, SESSIONS = 7_391_846_205, 8, 2_000


def seed_sessions(raw: Raw) -> None:
    """Many sessions of the one poll, the user's, with a named vote of each of two users."""
    [session] = raw.sessions.find()
    results = {**dict.fromkeys(session["results"], 0), "1": 2}
    counts = {"results": results, "participants": 2, "casts": 2, "owner_id": USER}
    numbers = range(1, SESSIONS + 1)
    sessions = [{**session, **counts, "_id": number, "course_id": 5} for number in numbers]
    raw.sessions.delete_many({})
    raw.sessions.insert_many(sessions)
    ballots = [
        {
            "_id": voting.ballot_id(SECRET.encode(), number, user),
            "session_id": number,
            "number": user % 1000,
            "choices": ["1"],
            "comment": "why",
            "user_id": user,
            "requests": [],
            "created_at": LONG_AGO,
            "updated_at": LONG_AGO,
        }
        for number in numbers
        for user in (USER, OTHER)
    ]
    raw.ballots.insert_many(ballots)
    raw.addresses.update_many({}, {"$set": {"owner_id": USER}})


async def test_an_erasure_that_is_killed_goes_on_and_every_count_is_exact_at_each_moment(
    tmp_path: Path, scale: Scale
) -> None:
    async with service_in(tmp_path) as service:
        await make_poll(service, saveParticipantNames=True)
        with reaching_store(service) as raw:
            seed_sessions(raw)
        begun = await service.call("DELETE", f"/users/{USER}/data", params={"votes": "withdraw"})
        assert begun.status == 202, begun
        for _ in range(scale.kills):
            await asyncio.sleep(random.uniform(0, 0.4))
            await service.kill()
            await service.start()
            with reaching_store(service) as raw:
                # As if the lease of the killed process had ended.
                held = {"leased_until": {"$exists": True}}
                raw.erasures.update_many(held, {"$set": {"leased_until": LONG_AGO}})
            await recount(service)
        with reaching_store(service) as raw:
            await eventually(lambda: raw.erasures.find_one({"step": None}) is not None, seconds=60)
            [erasure] = raw.erasures.find()
            assert erasure["counts"]["votes"] == SESSIONS
            assert erasure["counts"]["sessions"] == SESSIONS
            assert traces(raw, USER) == []
            assert raw.ballots.count_documents({}) == SESSIONS
            assert raw.ballots.count_documents({"user_id": OTHER}) == SESSIONS
        await recount(service)
