"""What a POST with an ``Idempotency-Key`` made, so that the same POST finds it again.

A record is written in the transaction of what it records: neither exists without the other.
Concurrent requests under one key conflict there, and all but one find the record when they run
again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from storage.client import Database, Transaction, Work
from storage.documents import IDEMPOTENCY_SECONDS
from storage.errors import KeyReused

D = TypeVar("D", bound=Mapping[str, Any])


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """``key`` begins with the id of the token; ``fingerprint`` is a hash of the whole request."""

    key: str
    fingerprint: str
    sent_at: datetime


async def transaction_once(database: Database, key: IdempotencyKey | None, work: Work[D]) -> D:
    """The document that ``work`` makes, or that a request under this key made within 24 h.

    Raises ``KeyReused`` if that was another request, and what ``Database.transaction`` raises.
    """
    if key is None:
        return await database.transaction(work)

    key_id = hashlib.sha256(key.key.encode()).hexdigest()

    def once(transaction: Transaction) -> D:
        record = transaction.find_one("idempotency", {"_id": key_id})
        # The database removes expired records once a minute, so this may be one.
        day_ago = key.sent_at - timedelta(seconds=IDEMPOTENCY_SECONDS)
        if record is not None and record["created_at"] > day_ago:
            if record["fingerprint"] != key.fingerprint:
                raise KeyReused
            return cast(D, record["outcome"])
        outcome = work(transaction)
        record = {
            "_id": key_id,
            "fingerprint": key.fingerprint,
            "outcome": outcome,
            "created_at": key.sent_at,
        }
        transaction.put("idempotency", record)
        return outcome

    return await database.transaction(once)


async def all_once(database: Database, key: IdempotencyKey | None, work: Work[list[D]]) -> list[D]:
    """Like ``transaction_once``, for the documents that ``work`` makes together."""

    def together(transaction: Transaction) -> Mapping[str, Any]:
        made = work(transaction)
        # One is recorded as by versions that made only one.
        return made[0] if len(made) == 1 else {"made": made}

    outcome = await transaction_once(database, key, together)
    return cast(list[D], outcome.get("made", [outcome]))
