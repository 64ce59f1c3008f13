"""Taking turns within one process, so that concurrent changes queue instead of conflicting."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage.client import answer_by
from storage.errors import Unavailable


class Locks:
    """One at a time for each key.

    Only an optimisation: correctness comes from transactions, which also exclude other processes.
    But of 50 changes of one document at once, 49 would run in vain, again and again.
    """

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._interested: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[None]:
        """Raises ``Unavailable`` if the turn does not come before the caller must be answered."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._interested[key] += 1
        try:
            async with asyncio.timeout_at(answer_by()) as limit, lock:
                limit.reschedule(None)
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable("The service is too busy; nothing was changed.") from error
        finally:
            self._interested[key] -= 1
            if not self._interested[key]:
                del self._interested[key], self._locks[key]
