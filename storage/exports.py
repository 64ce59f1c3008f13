"""Everything of one session, or of one poll, read as of one moment."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from itertools import islice
from typing import NamedTuple, cast

from storage.client import Cursor, Database, Document, Snapshot, Transaction
from storage.documents import (
    BallotDocument,
    ContainerKey,
    LocatedPoll,
    PollDocument,
    SessionDocument,
    poll_in,
)
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


class PollExport(NamedTuple):
    """A poll, its sessions by number, and what gives the ballots of one as in ``Export``."""

    located: LocatedPoll
    sessions: Sequence[SessionDocument]
    ballots: Callable[[int], AsyncGenerator[Sequence[BallotDocument], None]]


class Exports:
    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def open(self, session_id: int) -> AsyncIterator[Export]:
        """The export of a session; to be read within a minute, inside the block.

        Ballots are read as they are iterated. Each batch has a time limit of its own, instead of
        the caller's: a long export does not mean a slow database. Raises ``NotFound`` and, here
        and from the iteration, ``Unavailable``.
        """
        async with self._database.snapshot() as snapshot:
            session, container = await snapshot.read(partial(_find, session_id))
            poll = poll_in(container["polls"] if container else [], session["poll_id"])
            async with aclosing(_iterate(session_id, snapshot)) as ballots:
                yield Export(cast(SessionDocument, session), poll, ballots)

    @asynccontextmanager
    async def open_poll(self, poll_id: str) -> AsyncIterator[PollExport]:
        """The export of a poll with all its sessions, like ``open``."""
        async with self._database.snapshot() as snapshot:
            located, sessions = await snapshot.read(partial(_find_poll, poll_id))
            yield PollExport(located, sessions, partial(_iterate, snapshot=snapshot))


def _find_poll(
    poll_id: str, transaction: Transaction
) -> tuple[LocatedPoll, Sequence[SessionDocument]]:
    address = require(transaction.find_one("addresses", {"_id": poll_id}), "poll")
    container = transaction.find_one("containers", {"_id": address["container"]})
    poll = poll_in(container["polls"] if container else [], poll_id)
    with transaction.find("sessions", {"poll_id": poll_id}).sort("_id", 1) as found:
        sessions = cast(list[SessionDocument], list(found))
    return LocatedPoll(ContainerKey.of(address["container"]), poll), sessions


def _find(session_id: int, transaction: Transaction) -> tuple[Document, Document | None]:
    session = require(transaction.find_one("sessions", {"_id": session_id}), "poll session")
    return session, transaction.find_one("containers", {"_id": session["container"]})


async def _iterate(
    session_id: int, snapshot: Snapshot
) -> AsyncGenerator[Sequence[BallotDocument], None]:
    def begin(transaction: Transaction) -> Cursor:
        query = {"session_id": session_id}
        found = transaction.find("ballots", query, {"requests": 0}, batch_size=BALLOTS_AT_A_TIME)
        return found.sort("number", 1)

    cursor = await snapshot.read(begin)
    try:
        while found := await snapshot.read(
            lambda _: list(islice(cursor, BALLOTS_AT_A_TIME)), seconds=BATCH_SECONDS
        ):
            yield cast(list[BallotDocument], found)
    finally:
        await snapshot.close("ballots", cursor)
