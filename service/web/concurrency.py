"""What keeps something expensive from holding up other requests in this process."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from aiohttp import web

from storage.errors import Unavailable

Item = TypeVar("Item")

TURN = 20
"""Items, such as polls with 100 options each, that are worked on before others have their turn."""


async def in_turns(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items; after every 20 of them the event loop serves other requests."""
    for place, item in enumerate(items):
        if place and not place % TURN:
            await asyncio.sleep(0)
        yield item


class ConcurrencyLimit:
    """``kind`` is the plural of what is limited to ``most`` at once."""

    def __init__(self, most: int, kind: str) -> None:
        self._most = most
        self._kind = kind
        self._running = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Counts one more inside; raises ``Unavailable`` beyond the limit."""
        if self._running >= self._most:
            raise Unavailable(f"{self._most} {self._kind} are running, which is the limit.")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


EXPORT_LIMIT = web.AppKey("export_limit", ConcurrencyLimit)
