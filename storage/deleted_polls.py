"""Finding deleted polls, and purging them when their time is over.

One transaction removes a poll and its sessions and notes these for ``Purges``. That needs no lease:
of several processes that purge or restore a poll at once one does, and the others find nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import cast

from storage.audit import Action, Actor, note
from storage.background import repeat
from storage.client import Database, Transaction, round_trip
from storage.deletions import DeletedPollDocument, remove
from storage.documents import SERVICE_USER, UserId
from storage.pagination import Page, Window, read_page
from storage.purges import Purges

LOOK_AGAIN_SECONDS = 30.0
AT_A_TIME = 100


class DeletedPolls:
    def __init__(self, database: Database, purges: Purges, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._deleted = database.collection("deleted_polls")
        self._purges = purges
        self._clock = clock

    async def find(self, reference: int | str) -> DeletedPollDocument | None:
        """A deleted poll by its number or its UUID: of several, the one that was deleted last."""
        query = {"_id": reference} if isinstance(reference, int) else {"poll_id": reference}
        with round_trip():
            found = await self._deleted.find_one(query, sort=[("deleted_at", -1), ("_id", -1)])
        return cast(DeletedPollDocument | None, found)

    async def made_by(self, user_id: UserId, window: Window) -> Page[DeletedPollDocument]:
        """The deleted polls that a user made; the bookmarks are numbers."""
        return await read_page(self._deleted, {"owner_id": user_id}, window, "_id")

    async def run(self) -> None:
        """Purges every deleted poll when its time is over; never returns."""
        await repeat(
            self.purge_some,
            asyncio.Event(),
            LOOK_AGAIN_SECONDS,
            "purging deleted polls failed, and is tried again",
        )

    async def purge_some(self) -> bool:
        """Purges some of the polls whose time is over; false if there is none."""
        with round_trip():
            due = self._deleted.find({"purge_at": {"$lte": self._clock()}}, {"_id": 1})
            some = [one["_id"] for one in await due.limit(AT_A_TIME).to_list(None)]
        for number in some:
            await self._database.transaction(partial(self._purge, number))
            self._purges.wake()
        return bool(some)

    def _purge(self, number: int, transaction: Transaction) -> None:
        found = transaction.find_one("deleted_polls", {"_id": number}, {"poll": 0})
        if found is None or found["purge_at"] > self._clock():
            return  # it was restored, and perhaps deleted again
        sessions = transaction.find("deleted_sessions", {"poll_number": number}, {"_id": 1})
        self._purges.note(transaction, [one["_id"] for one in sessions])
        remove(transaction, number)
        actor = Actor(SERVICE_USER, None, self._clock())
        note(transaction, actor, Action.POLL_PURGED, poll_id=found["poll_id"])
