"""Taking turns within one process, so that concurrent changes queue instead of conflicting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from storage.client import time_left
from storage.errors import Unavailable


class Turns:
    """One at a time for each key.

    Only an optimisation: correctness comes from transactions, which also exclude other processes.
    But of 50 changes of one document at once, 49 would run in vain, again and again.
    """

    def __init__(self) -> None:
        # A lock exists as long as a caller holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[None]:
        """Raises ``Unavailable`` if the turn does not come within the caller's time limit."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(time_left()):
                await lock.acquire()
        except TimeoutError as error:
            raise Unavailable("The service is too busy; nothing was changed.") from error
        try:
            yield
        finally:
            lock.release()
