"""The whole store as one typed object; ``storage.opening`` opens and closes it."""

import time
from collections.abc import Collection, Sequence

from storage.ballots import Ballots
from storage.batching import Batcher
from storage.client import Database
from storage.enrollments import Enrollments
from storage.errors import Unavailable
from storage.exports import Exports
from storage.idempotency import Idempotency
from storage.polls import Polls, touch
from storage.purges import Purges
from storage.recounts import Recounts
from storage.sequences import Sequences
from storage.sessions import Sessions
from storage.tokens import Tokens

CHECKED_SECONDS = 1.0
"""Anybody may ask for ``/readyz``, so it makes no more than a write a second."""


class Store:
    """Everything that is stored, by kind.

    ``uri`` is where the database is, ``description`` what kind it is, for an operator to read.
    """

    def __init__(
        self, database: Database, secret: bytes, *, uri: str = "", description: str = ""
    ) -> None:
        self._database = database
        self.uri = uri
        self.description = description
        self.tokens = Tokens(database)
        sequences, idempotency = Sequences(database), Idempotency(database)
        self.purges = Purges(database)
        self.polls = Polls(database, sequences, idempotency, self.purges)
        self.sessions = Sessions(database, sequences, idempotency, touch, self.purges)
        self.ballots = Ballots(database, secret)
        self.enrollments = Enrollments(database, sequences, idempotency)
        self.recounts = Recounts(database)
        self.exports = Exports(database)
        self._checks: Batcher[None, None] = Batcher(self._check_writes)
        self._checked_until = 0.0
        self._refusal: str | None = None

    async def check_writes(self) -> None:
        """Raises ``Unavailable`` unless the database takes writes, as of this second."""
        await self._checks.submit(None)

    async def _check_writes(self, callers: Sequence[None]) -> Sequence[None]:
        if time.monotonic() >= self._checked_until:
            self._refusal = None
            try:
                await self._database.check_writes()
            except Unavailable as error:
                self._refusal = str(error)
            self._checked_until = time.monotonic() + CHECKED_SECONDS
        if self._refusal is not None:
            raise Unavailable(self._refusal)
        return callers

    async def is_answering(self) -> bool:
        """Whether there is a server that answers, whatever it can do."""
        return await self._database.is_answering()

    async def end_sessions(self, sessions: Collection[bytes]) -> None:
        """Ends the sessions of a process that died, and with them what it left open.

        Sessions that have ended already, or never began, do no harm. Raises ``Unavailable``.
        """
        await self._database.end_sessions(sessions)

    async def is_empty(self) -> bool:
        """Whether nobody has stored anything yet, a token included."""
        return await self.tokens.is_empty() and await self.polls.is_empty()
