"""Keeping votes no longer than they are to be kept: of old sessions the counts alone are left.

What is due is known by the time at which a session was closed. One transaction marks the session,
whose results then stand without ballots, and notes these for ``storage.purges``, which removes
them. A session without votes has nothing to remove, and may be opened again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

import structlog

from storage.background import take_turn
from storage.client import Database, Document, Transaction, round_trip
from storage.documents import SessionDocument, is_open
from storage.errors import Unavailable
from storage.purges import Purges

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
"""How often a process asks whether it is its turn."""
SWEEP_EVERY = timedelta(minutes=10)
DATE_EVERY = timedelta(days=1)
"""How often sessions are looked for that were closed by a version that did not say when."""
SESSIONS_AT_A_TIME = 100
OWN = "rules.settings.retention"


class Retention:
    """``note_ends`` notes the ends of polls, by their ids, in all their sessions."""

    def __init__(
        self,
        database: Database,
        purges: Purges,
        note_ends: Callable[[Iterable[str]], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._meta = database.collection("meta")
        self._sessions = database.collection("sessions")
        self._purges = purges
        self._note_ends = note_ends
        self._clock = clock

    async def run(self, days: int | None) -> None:
        """Sweeps every 10 minutes, in one of all processes; never returns.

        ``days`` are for polls that have none of their own; None keeps their votes for ever.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                with suppress(Unavailable):
                    if await take_turn(self._meta, "retention", self._clock(), SWEEP_EVERY):
                        await self.sweep(days)
            except Exception:
                # Nothing awaits this task: it would end, and nothing be removed until a restart.
                log.exception("removing old votes failed, and is tried again")

    async def sweep(self, days: int | None) -> None:
        """Reduces every session that is due to its counts. Raises ``Unavailable``."""
        await self._note_overdue()
        if await take_turn(self._meta, "closings", self._clock(), DATE_EVERY):
            await self._date_closings()
        with round_trip():
            own = [one for one in await self._sessions.distinct(OWN) if one is not None]
        for kept_days in own if days is None else [None, *own]:
            while some := await self._find_due(kept_days, kept_days or days):
                for number in some:
                    await self._database.transaction(partial(self._reduce, number, days))
                self._purges.wake()

    async def _note_overdue(self) -> None:
        """Notes all ends that have passed, also of sessions that nobody has asked for since."""
        query = {"rules.has_ended": None, "rules.closes_at": {"$lte": self._clock()}}
        while True:
            with round_trip():
                cursor = self._sessions.find(query, {"poll_id": 1}).limit(SESSIONS_AT_A_TIME)
                polls = {one["poll_id"] for one in await cursor.to_list(None)}
            if not polls:
                return
            await self._note_ends(polls)

    async def _date_closings(self) -> None:
        """Sessions that earlier versions closed count from now on."""
        closed: Document = {
            "closed_at": None,
            "counts_only": {"$ne": True},
            "participants": {"$gt": 0},
            "$or": [{"is_published": False}, {"rules.has_ended": True}],
        }
        last = 0
        while True:
            with round_trip():
                cursor = self._sessions.find({"_id": {"$gt": last}}, {"poll_id": 1}).sort("_id", 1)
                some = await cursor.limit(10 * SESSIONS_AT_A_TIME).to_list(None)
            if not some:
                return
            numbers = {"$gt": last, "$lte": some[-1]["_id"]}
            last = some[-1]["_id"]
            with round_trip():
                await self._sessions.update_many(
                    {**closed, "_id": numbers}, {"$set": {"closed_at": self._clock()}}
                )

    async def _find_due(self, own: int | None, days: int | None) -> Collection[int]:
        """Some sessions that have been closed for so long; ``own`` is what their poll says."""
        closed_before = self._clock() - timedelta(days=days or 0)
        query = {OWN: own, "closed_at": {"$lte": closed_before}}
        with round_trip():
            cursor = self._sessions.find(query, {"poll_id": 1}).limit(SESSIONS_AT_A_TIME)
            return [one["_id"] for one in await cursor.to_list(None)]

    def _reduce(self, number: int, days: int | None, transaction: Transaction) -> None:
        """Reduces a session to its counts unless it has changed since it was found."""
        found = transaction.find_one("sessions", {"_id": number})
        if found is None or not self._is_due(cast(SessionDocument, found), days):
            return
        if is_open(cast(SessionDocument, found)):
            # Opened by a version that did not say so.
            transaction.update("sessions", {"_id": number}, {"$unset": {"closed_at": ""}})
            return
        # No more ballots of an import that was broken off.
        removed = {"closed_at": "", "awaited": ""}
        update: dict[str, Any] = {"$unset": removed, "$inc": {"casts": 1}}
        if found["participants"] and not found.get("counts_only"):
            update["$set"] = {"counts_only": True, "is_published": False}
            self._purges.note(transaction, [number])
        transaction.update("sessions", {"_id": number}, update)

    def _is_due(self, session: SessionDocument, days: int | None) -> bool:
        days = session["rules"]["settings"].get("retention", days)
        closed_at = session.get("closed_at")
        if days is None or closed_at is None:
            return False
        return closed_at <= self._clock() - timedelta(days=days)
