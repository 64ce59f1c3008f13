"""The whole store as one object; ``storage.startup`` opens and closes it."""

import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from storage.audit_log import AuditLog
from storage.ballots import Ballots
from storage.batching import Batcher
from storage.changes import SessionChanges
from storage.client import Database, round_trip
from storage.deleted_polls import DeletedPolls
from storage.documents import utc_now
from storage.enrollments import Enrollments, end_some_of
from storage.erasures import Access, Erasures
from storage.errors import Unavailable
from storage.exports import Exports
from storage.idempotency import IdempotencyKey, transaction_once
from storage.keys import Keys
from storage.listings import Listings
from storage.polls import Polls, touch
from storage.purges import Purges
from storage.recounts import Recounts
from storage.retention import Retention
from storage.sessions import Sessions
from storage.tokens import Tokens, remove_some_of
from storage.turns import ALONE, Turn
from storage.user_data import UserData

CHECKED_SECONDS = 1.0
"""Any client may request ``/readyz``, so it causes no more than one write a second."""


class Store:
    """Everything that is stored, by kind.

    ``uri`` is the address of the database, ``description`` what an operator reads about it;
    ``is_new`` says that it was created when it was opened. ``clock`` says whether the end of a poll
    has passed; votes are cast in this process's ``turn``.
    """

    def __init__(
        self,
        database: Database,
        secret: bytes,
        *,
        uri: str = "",
        description: str = "",
        is_new: bool = False,
        clock: Callable[[], datetime] = utc_now,
        turn: Turn = ALONE,
    ) -> None:
        self.database = database
        self._secret = secret
        self.uri = uri
        self.description = description
        self.is_new = is_new
        self.tokens = Tokens(database)
        self.audit = AuditLog(database)
        self.purges = Purges(database)
        self.deleted_polls = DeletedPolls(database, self.purges, clock)
        self.polls = Polls(database, self.purges, clock)
        self.ballots = Ballots(database, secret, clock, turn)
        self.keys = Keys(database, secret, clock)
        self.sessions = Sessions(database, touch, self.purges, clock, self.ballots.id_of)
        self.retention = Retention(database, self.purges, self.sessions.note_ends, clock)
        self.listings = Listings(database, self.sessions.note_ends, clock)
        self.enrollments = Enrollments(database)
        self.recounts = Recounts(database)
        self.exports = Exports(database)
        self.user_data = UserData(database, self.ballots.id_of)
        self.erasures = Erasures(
            database,
            secret,
            Access(end_some_of, remove_some_of, self.tokens.forget),
            self.listings.require_filled,
            clock,
        )
        self.changes = SessionChanges(database)
        self._checks: Batcher[None, None] = Batcher(self._check_writes)
        self._checked_until = 0.0
        self._refusal: str | None = None

    def key_for(self, purpose: str) -> bytes:
        """A key derived from the secret, the same in every process on this store."""
        return hmac.digest(self._secret, f"key:{purpose}".encode(), "sha256")

    async def once(
        self, key: IdempotencyKey | None, outcome: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """``outcome``, or that of the first request under this key within 24 h.

        Nothing else is stored. Raises ``KeyReused`` if that was another request.
        """
        if key is None:
            return outcome
        return await transaction_once(self.database, key, lambda _: outcome)

    async def check_writes(self) -> None:
        """Raises ``Unavailable`` unless the database accepts writes, as of this second."""
        await self._checks.submit(None)

    async def _check_writes(self, callers: Sequence[None]) -> Sequence[None]:
        if time.monotonic() >= self._checked_until:
            self._refusal = None
            try:
                await self.database.check_writes()
            except Unavailable as error:
                self._refusal = str(error)
            self._checked_until = time.monotonic() + CHECKED_SECONDS
        if self._refusal is not None:
            raise Unavailable(self._refusal)
        return callers

    async def is_empty(self) -> bool:
        """Whether nothing was stored yet, not even a token."""
        with round_trip():
            collections = map(self.database.collection, ("tokens", "containers"))
            return not [one for one in collections if await one.find_one({}, {"_id": 1})]
