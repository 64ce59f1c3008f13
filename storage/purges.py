"""Removing the ballots of sessions that were deleted.

Deleting is two steps. One transaction removes the session and notes it here: from then on it is
gone for every caller, and no vote finds it. Its ballots, which may be very many, are removed
afterwards, some at a time, by whichever process holds the lease. If that process is killed, another
continues when the lease ends.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from storage.client import Database, Transaction, UpdateOne, round_trip
from storage.documents import utc_now
from storage.errors import Unavailable

log = structlog.get_logger(__name__)

BALLOTS_AT_A_TIME = 1000
LEASE_SECONDS = 30
LOOK_AGAIN_SECONDS = 5.0
NEVER_LEASED = datetime(1970, 1, 1, tzinfo=UTC)


class Purges:
    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._purges = database.collection("purges")
        self._ballots = database.collection("ballots")
        self._clock = clock
        self._noted = asyncio.Event()

    def note(self, transaction: Transaction, session_ids: Iterable[int]) -> None:
        """Notes sessions whose ballots must go, in the transaction that removes the sessions.

        A session of which only the counts were kept may still be noted.
        """
        new = {"$set": {"leased_until": NEVER_LEASED}}
        notes = [UpdateOne({"_id": number}, new, upsert=True) for number in session_ids]
        transaction.bulk_write("purges", notes)

    def wake(self) -> None:
        """Makes ``run`` look at once, after the transaction of a note was committed."""
        self._noted.set()

    async def run(self) -> None:
        """Removes the ballots of every noted session, of all processes; never returns."""
        while True:
            self._noted.clear()
            # What cannot be reached now is removed later.
            try:
                with suppress(Unavailable):
                    while await self._sweep_one():
                        pass
            except Exception:
                # Nothing awaits this task: it would end, and nothing be removed until a restart.
                log.exception("removing ballots failed, and is tried again")
            with suppress(TimeoutError):
                # Not wait_for(): in Python 3.11 it loses a cancellation that comes together with
                # the wake-up, and a stop would wait for this task without end.
                async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                    await self._noted.wait()

    async def _sweep_one(self) -> bool:
        """Sweeps one session that no other process is sweeping; false if there is none."""
        ended = {"leased_until": {"$lte": self._clock()}}
        with round_trip():
            note = await self._purges.find_one_and_update(ended, self._lease())
        if note is None:
            return False
        session = {"_id": note["_id"]}
        while await self._sweep_some(note["_id"]):
            with round_trip():
                await self._purges.update_one(session, self._lease())
        with round_trip():
            await self._purges.delete_one(session)
        return True

    def _lease(self) -> dict[str, Any]:
        return {"$set": {"leased_until": self._clock() + timedelta(seconds=LEASE_SECONDS)}}

    async def _sweep_some(self, session_id: int) -> bool:
        with round_trip():
            cursor = self._ballots.find({"session_id": session_id}, {"_id": 1})
            some = [one["_id"] for one in await cursor.limit(BALLOTS_AT_A_TIME).to_list(None)]
        if some:
            with round_trip():
                await self._ballots.delete_many({"_id": {"$in": some}})
        return bool(some)
