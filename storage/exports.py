"""Everything of one session, read as of one moment."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple, cast

from storage.client import Database, Session, closing, round_trip
from storage.documents import BallotDocument, PollDocument, SessionDocument
from storage.errors import NotFound

BALLOTS_AT_A_TIME = 500
BATCH_SECONDS = 20.0
"""The longest that one batch may take: the first may have to wait for a disk, or for a sort."""


class Export(NamedTuple):
    """A session, its poll, and its ballots in the order of their random numbers, some at a time.

    All are of one moment, so that the ballots are those that the results count. They come without
    their ``requests``, and can be walked once.
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
        """The export of a session; to be read within a minute, while the block lasts.

        No ballot is asked for before the walk over them begins, and then each batch has a bound of
        its own, whatever the patience of the caller: a long export is no slow database. Raises
        ``NotFound`` and, here and in the walk, ``Unavailable``.
        """
        async with self._database.snapshot() as snapshot:
            session, poll = await self._read(session_id, snapshot)
            async with aclosing(self._walk(session_id, snapshot)) as ballots:
                yield Export(session, poll, ballots)

    async def _read(
        self, session_id: int, snapshot: Session
    ) -> tuple[SessionDocument, PollDocument]:
        with round_trip():
            session = await self._sessions.find_one({"_id": session_id}, session=snapshot)
            if session is None:
                raise NotFound("There is no such poll session.")
            container = await self._containers.find_one(
                {"_id": session["container"]}, session=snapshot
            )
        polls = container["polls"] if container is not None else []
        for poll in polls:
            if poll["id"] == session["poll_id"]:
                return cast(SessionDocument, session), cast(PollDocument, poll)
        raise NotFound("There is no such poll.")

    async def _walk(
        self, session_id: int, snapshot: Session
    ) -> AsyncGenerator[Sequence[BallotDocument], None]:
        cursor = self._ballots.find(
            {"session_id": session_id},
            {"requests": 0},
            session=snapshot,
            batch_size=BALLOTS_AT_A_TIME,
        ).sort("number", 1)
        async with closing(self._ballots, cursor):
            while True:
                with round_trip(time.monotonic() + BATCH_SECONDS):
                    found = await cursor.to_list(BALLOTS_AT_A_TIME)
                if not found:
                    return
                yield cast(list[BallotDocument], found)
