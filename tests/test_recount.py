"""``python -m service recount``: results against ballots, over the whole store."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from service import keys
from service.settings import Settings
from tests.casting import answered, content_run, course_run, submitted, tally, vote
from tests.conftest import SECRET, Client, Raw

ROOT = Path(__file__).resolve().parents[1]


async def recount(settings: Settings, *options: str) -> tuple[int, list[str], str]:
    """Exit status, lines on standard output, standard error."""
    environment = {
        **os.environ,
        "MONGODB_URI": settings.mongodb_uri or "",
        "POLLS_SECRET": SECRET,
        "POLLS_DATA_DIR": str(settings.data_dir),
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "service", "recount", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def spoil(raw: Raw, session_id: int, update: dict[str, Any]) -> None:
    raw.sessions.update_one({"_id": session_id}, update)


async def test_what_differs_is_named_and_mended_and_then_there_is_nothing_to_say(
    api: Client, raw: Raw, settings: Settings
) -> None:
    right = await content_run(api, raw, allowSelectionOfMultipleOptions=True)
    wrong_count = await content_run(api, raw)
    wrong_participants = await course_run(api, raw)
    lost_ballot = await content_run(api, raw)
    await answered(await vote(api, right, "1", "2"))
    await answered(await vote(api, wrong_count, "1"))
    await submitted(api, wrong_participants, 2)
    await answered(await vote(api, lost_ballot, "3"))
    assert await recount(settings) == (0, [], "")
    spoil(raw, wrong_count.session, {"$inc": {"results.2": 4}})
    spoil(raw, wrong_participants.session, {"$set": {"participants": 0}})
    raw.ballots.delete_one({"session_id": lost_ballot.session})
    spoiled = [wrong_count.session, wrong_participants.session, lost_ballot.session]
    before = list(raw.sessions.find())

    status, lines, error = await recount(settings)
    assert status == 1
    assert [line.partition(":")[0] for line in lines] == [f"session {one}" for one in spoiled]
    says = "says {'1': 1, '2': 4, '3': 0} of 1, its ballots {'1': 1, '2': 0, '3': 0} of 1"
    assert lines[0] == f"session {wrong_count.session}: {says}"
    assert error == "polls: 3 of 4 sessions differed from their ballots\n"
    assert list(raw.sessions.find()) == before

    assert await recount(settings, "--fix") == (1, lines, error)
    assert await recount(settings) == (0, [], "")
    assert [tally(raw, run) for run in (right, wrong_count, wrong_participants, lost_ballot)] == [
        {"1": 1, "2": 1},
        {"1": 1},
        {"2": 1},
        {},
    ]
    # What was mended is ordered against votes that are cast meanwhile.
    casts = {one["_id"]: one["casts"] for one in before}
    after = {one["_id"]: one["casts"] for one in raw.sessions.find()}
    assert {one for one in after if after[one] > casts[one]} == set(spoiled)


async def test_every_session_of_many_is_looked_at_once(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    [session] = raw.sessions.find()
    others = range(session["_id"] + 1, session["_id"] + 130)
    raw.sessions.insert_many({**session, "_id": number} for number in others)
    spoil(raw, others[-1], {"$set": {"results.3": 1}})
    recounts = api.app[keys.STORE].recounts
    found = [one async for one in recounts.run(fix=False)]
    assert [one.session_id for one in found] == [run.session, *others]
    assert [one.session_id for one in found if not one.agrees] == [others[-1]]
    assert await recounts.total() == len(found)
