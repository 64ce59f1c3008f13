"""Forgetting the Idempotency-Keys of votes after 24 hours, also of votes that nobody changes.

They are kept on the ballots, and those of a withdrawn vote in a record of its own. Other records of
keys are removed by the database (``indexes``).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import cast

import structlog

from storage.background import take_turn
from storage.client import Collection, Database, UpdateOne, round_trip
from storage.documents import BallotRequest
from storage.errors import Unavailable
from storage.voting import KEY_LIFETIME, is_expired

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
"""How often a process asks whether it is its turn."""
SWEEP_EVERY = timedelta(minutes=10)
BALLOTS_AT_A_TIME = 500


class Keys:
    """``secret`` tells when a key was cast; ``clock`` what time it is."""

    def __init__(self, database: Database, secret: bytes, clock: Callable[[], datetime]) -> None:
        self._meta = database.collection("meta")
        self._ballots = database.collection("ballots")
        self._withdrawn = database.collection("idempotency")
        self._secret = secret
        self._clock = clock

    async def run(self) -> None:
        """Forgets expired keys every 10 minutes, in one of all processes; never returns."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                with suppress(Unavailable):
                    if await self.take_turn():
                        await self.forget()
            except Exception:
                # Nothing awaits this task: it would end, and nothing be forgotten until a restart.
                log.exception("forgetting Idempotency-Keys failed, and is tried again")

    async def take_turn(self) -> bool:
        """Whether the keys are to be looked through now, and by this process."""
        return await take_turn(self._meta, "keys", self._clock(), SWEEP_EVERY)

    async def forget(self) -> None:
        """Removes every key that is older than 24 hours. Raises ``Unavailable``."""
        now = self._clock()
        for collection in (self._ballots, self._withdrawn):
            await self._forget_in(collection, now)
        with round_trip():
            await self._withdrawn.delete_many({"requests": []})

    async def _forget_in(self, collection: Collection, now: datetime) -> None:
        cursor = collection.find({"requests.at": {"$lte": now - KEY_LIFETIME}}, {"requests": 1})
        while True:
            with round_trip():
                some = await cursor.to_list(BALLOTS_AT_A_TIME)
            if not some:
                return
            writes = [
                # Not by the key alone: it may have been sent again since.
                UpdateOne(
                    {"_id": one["_id"]},
                    {"$pull": {"requests": {"key": request["key"], "at": request["at"]}}},
                )
                for one in some
                for request in cast(list[BallotRequest], one["requests"])
                if is_expired(request, self._secret, one["_id"], now)
            ]
            if writes:
                with round_trip():
                    await collection.bulk_write(writes, ordered=False)
