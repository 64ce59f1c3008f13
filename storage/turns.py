"""Taking turns within one process, so that neighbours queue instead of conflicting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage.client import patience_left
from storage.errors import Unavailable


class Turns:
    """One at a time for each key.

    Only a courtesy: what must hold is held by transactions, against other processes too. But of 50
    who change one document at once, 49 would run in vain, again and again.
    """

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._interested: dict[str, int] = {}

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[None]:
        """Raises ``Unavailable`` where the turn does not come before the caller's patience ends."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._interested[key] = self._interested.get(key, 0) + 1
        try:
            await _acquire(lock)
            try:
                yield
            finally:
                lock.release()
        finally:
            self._interested[key] -= 1
            if not self._interested[key]:
                del self._interested[key], self._locks[key]


async def _acquire(lock: asyncio.Lock) -> None:
    try:
        async with asyncio.timeout(patience_left()):
            await lock.acquire()
    except TimeoutError as error:
        raise Unavailable("The service is too busy; nothing was changed.") from error
