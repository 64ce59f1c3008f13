"""A limit on how much of something expensive runs in this process at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from storage.errors import Unavailable


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
