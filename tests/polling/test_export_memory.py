"""An export takes the same memory however many submissions there are."""

import time
from pathlib import Path

from tests.conftest import Scale
from tests.server.test_kills import make_poll, reaching_store
from tests.support.casting import Run, seed_ballots
from tests.support.fleet import Service, service_in
from tests.support.seeds import ISSUE

FEW = 2_000
MOST_GROWTH = 2 * 1024 * 1024
"""The smallest of the files has more."""


async def rows_of(service: Service, run: Run, form: str, row: bytes) -> int:
    """How many rows of submissions come, of which no more than a piece is kept here either."""
    rows, last, started = 0, b"", time.monotonic()
    async for piece in service.stream(f"{run.url}/export", params={"format": form}):
        # What is cut between two pieces is counted with the second.
        rows += (last + piece).count(row)
        last = piece[1 - len(row) :]
    print(f"{rows} rows as {form} in {time.monotonic() - started:.1f} s")  # noqa: T201
    return rows


async def test_an_export_of_very_many_submissions_takes_no_more_memory_than_one_of_few(
    tmp_path: Path, scale: Scale
) -> None:
    async with service_in(tmp_path) as service:
        poll = await make_poll(service, saveParticipantNames=True)
        with reaching_store(service) as raw:
            [session] = raw.sessions.find()
            run = Run(poll.id, session["poll_number"], session["_id"], ISSUE)
            memory = {}
            for count in (FEW, scale.exported):
                raw.ballots.delete_many({})
                seed_ballots(raw, run, count, named=True)
                assert await rows_of(service, run, "csv", b'\r\n"submission",') == count
                assert await rows_of(service, run, "json", b'"poll_choice_id":') == count
                memory[count] = service.most_memory
        print(f"most memory: {memory}")  # noqa: T201
        assert memory[scale.exported] - memory[FEW] < MOST_GROWTH, memory
