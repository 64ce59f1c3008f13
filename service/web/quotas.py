"""How often something may be done in a while, counted in this process with the library limits."""

import time
from collections.abc import Callable
from math import ceil

from aiohttp import web
from limits import RateLimitItem
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

MAX_COUNTED = 20_000
"""Whom a quota counts at once; beyond that the one whose window began first is forgotten."""


class QuotaExceeded(Exception):
    """Somebody did more than the quota allows; ``headers`` say when it may be done again."""

    def __init__(self, message: str, headers: dict[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


class Quota:
    """``rate`` for each of those that are counted.

    ``name`` is what the headers call it, ``uses`` what is counted, as "requests with one token".
    A window begins with the first use, so nobody is held up for longer than one window.
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
        self._rate = rate
        self._monotonic = monotonic
        self._windows = Windows(monotonic)
        self._limiter = FixedWindowRateLimiter(self._windows)
        self._policy = f'"{name}";q={rate.amount};w={rate.get_expiry()}'

    def use(self, key: str) -> dict[str, str]:
        """Counts one use by ``key``; raises ``QuotaExceeded``.

        The headers are those of draft-ietf-httpapi-ratelimit-headers-11.
        """
        is_within = self._limiter.hit(self._rate, key)
        ends_at, remaining = self._limiter.get_window_stats(self._rate, key)
        seconds = max(1, ceil(ends_at - self._monotonic()))
        headers = {
            "RateLimit-Policy": self._policy,
            "RateLimit": f'"{self._name}";r={remaining};t={seconds}',
        }
        if not is_within:
            raise QuotaExceeded(
                f"These are more than {self._rate.amount} {self._uses} in "
                f"{self._rate.get_expiry()} s; ask again in {seconds} s.",
                {**headers, "Retry-After": str(seconds)},
            )
        return headers

    def __len__(self) -> int:
        """How many are counted."""
        return len(self._windows)


TOKEN_USES: web.AppKey[Quota | None] = web.AppKey("token_uses")
BAD_TOKENS: web.AppKey[Quota | None] = web.AppKey("bad_tokens")


class _Window:
    __slots__ = ("count", "ends_at")

    def __init__(self, ends_at: float) -> None:
        self.count = 0
        self.ends_at = ends_at


class Windows(Storage):
    """What the library counts in, bounded. All windows of one must have the same length.

    The library's own has no bound, reads the clock of the wall, and while anything is counted looks
    through all of it, from a thread of its own, every hundredth of a second.
    """

    STORAGE_SCHEME = None

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._monotonic = monotonic
        # In the order in which they end.
        self._windows: dict[str, _Window] = {}

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        window = self._open(key)
        if window is None:
            now = self._monotonic()
            self._make_room(now)
            window = self._windows[key] = _Window(now + expiry)
        window.count += amount
        return window.count

    def get(self, key: str) -> int:
        window = self._open(key)
        return 0 if window is None else window.count

    def get_expiry(self, key: str) -> float:
        """In seconds of ``monotonic``."""
        window = self._open(key)
        return self._monotonic() if window is None else window.ends_at

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    def __len__(self) -> int:
        return len(self._windows)

    def _open(self, key: str) -> _Window | None:
        window = self._windows.get(key)
        return window if window is not None and window.ends_at > self._monotonic() else None

    def _make_room(self, now: float) -> None:
        """Drops what has ended, and the oldest where there are still too many."""
        while self._windows:
            oldest = next(iter(self._windows))
            if self._windows[oldest].ends_at > now and len(self._windows) < MAX_COUNTED:
                return
            del self._windows[oldest]
