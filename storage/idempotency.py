"""What a POST with an ``Idempotency-Key`` made, so that the same POST finds it again.

A record is written in the transaction of what it vouches for: there is never one without the
other. Requests at once under one key conflict there, and all but one find the record when they run
again.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from storage.client import Database, Session, round_trip
from storage.documents import IDEMPOTENCY_SECONDS
from storage.errors import Conflict

D = TypeVar("D", bound=Mapping[str, Any])


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """``id`` is a hash of the caller's token and key, ``fingerprint`` of the whole request."""

    id: str
    fingerprint: str
    sent_at: datetime


class Idempotency:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._records = database.collection("idempotency")

    async def find(self, key: IdempotencyKey | None) -> Mapping[str, Any] | None:
        """What an earlier request under ``key`` made, before anything is begun for this one."""
        if key is None:
            return None
        with round_trip():
            return await self._outcome(key, None)

    async def transaction(
        self, key: IdempotencyKey | None, work: Callable[[Session], Awaitable[D]]
    ) -> D:
        """``work``'s document, or the one that a request under this key made within 24 h.

        Raises ``Conflict`` where that was another request, and what ``Database.transaction``
        raises.
        """
        if key is None:
            return await self._database.transaction(work)

        async def once(session: Session) -> D:
            made_before = await self._outcome(key, session)
            if made_before is not None:
                return cast(D, made_before)
            outcome = await work(session)
            record = {
                "_id": key.id,
                "fingerprint": key.fingerprint,
                "outcome": outcome,
                "created_at": key.sent_at,
            }
            await self._records.replace_one({"_id": key.id}, record, upsert=True, session=session)
            return outcome

        return await self._database.transaction(once)

    async def _outcome(
        self, key: IdempotencyKey, session: Session | None
    ) -> Mapping[str, Any] | None:
        record = await self._records.find_one({"_id": key.id}, session=session)
        # The database sweeps once a minute, so a record may still lie there when its day is over.
        day_ago = key.sent_at - timedelta(seconds=IDEMPOTENCY_SECONDS)
        if record is None or record["created_at"] <= day_ago:
            return None
        if record["fingerprint"] != key.fingerprint:
            raise Conflict("This Idempotency-Key was sent before, with another request.")
        outcome: Mapping[str, Any] = record["outcome"]
        return outcome
