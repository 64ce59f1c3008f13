"""Comparing the results of sessions with their ballots."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from storage.client import Database, Session, round_trip

SESSIONS_AT_A_TIME = 100
SESSION_SECONDS = 300.0
"""A session may have very many ballots, and nobody waits for a recount."""


class Recount(NamedTuple):
    """One session: what it says, and what its ballots say."""

    session_id: int
    results: dict[str, int]
    participants: int
    counted: dict[str, int]
    ballots: int

    @property
    def agrees(self) -> bool:
        return self.results == self.counted and self.participants == self.ballots


class Recounts:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions = database.collection("sessions")
        self._ballots = database.collection("ballots")

    async def total(self) -> int:
        """How many sessions there are."""
        with round_trip():
            return int(await self._sessions.count_documents({}))

    async def run(self, *, fix: bool) -> AsyncIterator[Recount]:
        """Every session of the store, each with its ballots as of one moment.

        With ``fix`` the session is made to say what its ballots do. Sessions that were deleted are
        passed over, whether or not their ballots are swept.
        """
        last = 0
        while True:
            with round_trip():
                cursor = self._sessions.find({"_id": {"$gt": last}}, {"_id": 1}).sort("_id", 1)
                some = await cursor.limit(SESSIONS_AT_A_TIME).to_list(None)
            if not some:
                return
            for one in some:
                recount = await self._recount(one["_id"], fix=fix)
                if recount is not None:
                    yield recount
            last = some[-1]["_id"]

    async def _recount(self, session_id: int, *, fix: bool) -> Recount | None:
        async def work(session: Session) -> Recount | None:
            found = await self._sessions.find_one({"_id": session_id}, session=session)
            if found is None:
                return None
            counted, ballots = await self._count(session, session_id, found["rules"]["options"])
            recount = Recount(session_id, found["results"], found["participants"], counted, ballots)
            if fix and not recount.agrees:
                right: dict[str, Any] = {"results": counted, "participants": ballots}
                await self._sessions.update_one(
                    {"_id": session_id}, {"$set": right, "$inc": {"casts": 1}}, session=session
                )
            return recount

        return await self._database.transaction(work, seconds=SESSION_SECONDS)

    async def _count(
        self, session: Session, session_id: int, options: list[str]
    ) -> tuple[dict[str, int], int]:
        counted = dict.fromkeys(options, 0)
        ballots = 0
        cursor = self._ballots.find({"session_id": session_id}, {"choices": 1}, session=session)
        async for ballot in cursor:
            ballots += 1
            for option_id in ballot["choices"]:
                counted[option_id] = counted.get(option_id, 0) + 1
        return counted, ballots
