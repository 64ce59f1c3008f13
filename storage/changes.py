"""Which sessions change, in whatever process; for those that show results live.

Everything that results show, who may see them and when they end is in the session itself: counts,
rules, publication, ``rights_changes`` while it is published. The deletion of a poll deletes its
sessions.
"""

import asyncio

from storage.client import Changes, Database
from storage.errors import Unavailable

BACKOFF_SECONDS = (0.1, 2.0)
"""The pause after a first failure, and the longest."""


class SessionChanges:
    """Says that a session has changed, never what it has become: that is read as for a ``GET``.

    No place in the stream of changes is kept. Where it breaks it is opened afresh, and then any
    session may have changed: there is no gap, whatever MongoDB has forgotten.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes: Changes | None = None

    async def open(self) -> None:
        """Every change after the return of this is told; raises ``Unavailable``."""
        if self._changes is None:
            self._changes = await self._database.changes("sessions")

    def close(self) -> None:
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    async def next(self) -> set[int] | None:
        """The numbers of sessions that have changed since the last call; None if any may have.

        Waits until there are some, through any outage of the database.
        """
        if self._changes is not None:
            try:
                return await self._changes.next()
            except Unavailable:
                self.close()
        await self._reopen()
        return None

    async def _reopen(self) -> None:
        pause, longest = BACKOFF_SECONDS
        while True:
            try:
                return await self.open()
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
