"""Everything of one session, read as of one moment."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple, cast

from storage.client import Database, Snapshot, round_trip
from storage.documents import BallotDocument, PollDocument, SessionDocument, poll_in
from storage.errors import require

BALLOTS_AT_A_TIME = 500
BATCH_SECONDS = 20.0
"""The longest that one batch may take: the first may have to wait for a disk, or for a sort."""


class Export(NamedTuple):
    """A session, its poll, and its ballots in the order of their random numbers, in batches.

    All are of one moment, so the ballots are those that the results count. They come without their
    ``requests``, and can be iterated once.
    """

    session: SessionDocument
    poll: PollDocument
    ballots: AsyncIterator[Sequence[BallotDocument]]


class Exports:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions = database.collection("sessions")
        self._containers = database.collection("containers")
        self._ballots = database.collection("ballots")

    @asynccontextmanager
    async def open(self, session_id: int) -> AsyncIterator[Export]:
        """The export of a session; to be read within a minute, inside the block.

        Ballots are read as they are iterated. Each batch has a time limit of its own, instead of
        the caller's: a long export does not mean a slow database. Raises ``NotFound`` and, here
        and from the iteration, ``Unavailable``.
        """
        async with self._database.snapshot() as snapshot:
            with round_trip():
                found = await self._sessions.find_one({"_id": session_id}, session=snapshot)
                session = require(found, "poll session")
                query = {"_id": session["container"]}
                container = await self._containers.find_one(query, session=snapshot)
            poll = poll_in(container["polls"] if container else [], session["poll_id"])
            async with aclosing(self._iterate(session_id, snapshot)) as ballots:
                yield Export(cast(SessionDocument, session), poll, ballots)

    async def _iterate(
        self, session_id: int, snapshot: Snapshot
    ) -> AsyncGenerator[Sequence[BallotDocument], None]:
        query = {"session_id": session_id}
        cursor = self._ballots.find(query, {"requests": 0}, session=snapshot)
        cursor.sort("number", 1).batch_size(BALLOTS_AT_A_TIME)
        try:
            while True:
                with round_trip(time.monotonic() + BATCH_SECONDS):
                    found = await cursor.to_list(BALLOTS_AT_A_TIME)
                if not found:
                    return
                yield cast(list[BallotDocument], found)
        finally:
            await self._database.close_cursor("ballots", cursor)
