"""Quotas: how often something may be done in a fixed window, counted in this process."""

import time
from collections.abc import Callable
from math import ceil

from aiohttp import web
from limits import RateLimitItem

MAX_COUNTED = 20_000
"""Maximum number of keys of a quota. Beyond it, the key with the oldest window is forgotten."""


class QuotaExceeded(Exception):
    """The quota is used up; ``headers`` say when it can be used again."""

    def __init__(self, message: str, headers: dict[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


class Quota:
    """``rate`` for each key.

    ``name`` is its name in the headers, ``uses`` what is counted, such as "requests with one
    token". A window begins with the first use, so no key waits for longer than one window.

    The library limits parses rates but does not count here: its storage has no bound, and needs a
    thread that scans all keys every 10 ms.
    """

    def __init__(
        self,
        name: str,
        uses: str,
        rate: RateLimitItem,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._uses = uses
        self._amount = rate.amount
        self._seconds = rate.get_expiry()
        self._monotonic = monotonic
        self._policy = f'"{name}";q={self._amount};w={self._seconds}'
        # When the window of each key ends, and its uses; in the order in which they end.
        self._windows: dict[str, tuple[float, int]] = {}

    def use(self, key: str) -> dict[str, str]:
        """Counts one use by ``key``; raises ``QuotaExceeded``.

        Returns the headers of draft-ietf-httpapi-ratelimit-headers-11.
        """
        now = self._monotonic()
        ends_at, used = self._windows.get(key, (now, 0))
        if ends_at <= now:
            self._make_room(now)
            ends_at, used = now + self._seconds, 0
        self._windows[key] = ends_at, used + 1
        seconds = max(1, ceil(ends_at - now))
        headers = {
            "RateLimit-Policy": self._policy,
            "RateLimit": f'"{self._name}";r={max(0, self._amount - used - 1)};t={seconds}',
        }
        if used >= self._amount:
            raise QuotaExceeded(
                f"More than {self._amount} {self._uses} in {self._seconds} s; "
                f"try again in {seconds} s.",
                {**headers, "Retry-After": str(seconds)},
            )
        return headers

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._windows)

    def _make_room(self, now: float) -> None:
        """Drops ended windows, and the oldest if there are still too many."""
        while self._windows:
            oldest = next(iter(self._windows))
            if self._windows[oldest][0] > now and len(self._windows) < MAX_COUNTED:
                return
            del self._windows[oldest]


TOKEN_USES: web.AppKey[Quota | None] = web.AppKey("token_uses")
BAD_TOKENS: web.AppKey[Quota | None] = web.AppKey("bad_tokens")
