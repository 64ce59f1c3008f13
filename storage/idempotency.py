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
from storage.errors import Conflict
from storage.indexes import IDEMPOTENCY_SECONDS

D = TypeVar("D", bound=Mapping[str, Any])


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """``id`` is a hash of the caller's token and key, ``fingerprint`` of the whole request."""

    id: str
    fingerprint: str


class Idempotency:
    def __init__(self, database: Database) -> None:
        self._records = database.collection("idempotency")

    async def find(self, key: IdempotencyKey | None, now: datetime) -> Mapping[str, Any] | None:
        """What an earlier request under ``key`` made, before anything is begun for this one."""
        if key is None:
            return None
        with round_trip():
            return await self._outcome(key, now, None)

    async def once(
        self,
        session: Session,
        key: IdempotencyKey | None,
        now: datetime,
        make: Callable[[], Awaitable[D]],
    ) -> D:
        """``make``'s document, or the one that a request under this key made within 24 h.

        Raises ``Conflict`` where that was another request. To be called in a transaction, first.
        """
        if key is None:
            return await make()
        made_before = await self._outcome(key, now, session)
        if made_before is not None:
            return cast(D, made_before)
        outcome = await make()
        await self._records.replace_one(
            {"_id": key.id},
            {"_id": key.id, "fingerprint": key.fingerprint, "outcome": outcome, "created_at": now},
            upsert=True,
            session=session,
        )
        return outcome

    async def _outcome(
        self, key: IdempotencyKey, now: datetime, session: Session | None
    ) -> Mapping[str, Any] | None:
        record = await self._records.find_one({"_id": key.id}, session=session)
        # The database sweeps once a minute, so a record may still lie there when its day is over.
        if record is None or record["created_at"] <= now - timedelta(seconds=IDEMPOTENCY_SECONDS):
            return None
        if record["fingerprint"] != key.fingerprint:
            raise Conflict("This Idempotency-Key was sent before, with another request.")
        outcome: Mapping[str, Any] = record["outcome"]
        return outcome
