"""Rate limits for each token, and for each address that sends invalid ones.

Each process counts by itself. Routes without authentication are not counted: they are cheap.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network
from math import ceil

from aiohttp import web
from limits import RateLimitItem

from service.settings import SETTINGS
from service.web.call import CALL
from service.web.proxies import client_address

CLIENT_PREFIX = 64
"""IPv6 clients are counted by network, because each has at least 2^64 addresses."""

MAX_COUNTED = 20_000
"""Maximum number of keys of a quota. Beyond it, the key with the oldest window is forgotten."""


class QuotaExceeded(Exception):
    """The quota is used up; ``headers`` say when it can be used again."""

    def __init__(self, message: str, headers: dict[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


@dataclass(eq=False)
class Quota:
    """``rate`` for each key, in fixed windows.

    ``name`` is its name in the headers, ``uses`` what is counted, such as "requests with one
    token". A window begins with the first use, so no key waits for longer than one window.

    The library limits parses rates but does not count here: its storage has no bound, and needs a
    thread that scans all keys every 10 ms.
    """

    name: str
    uses: str
    rate: RateLimitItem
    monotonic: Callable[[], float] = time.monotonic
    # When the window of each key ends, and its uses; in the order in which they end.
    _windows: dict[str, tuple[float, int]] = field(default_factory=dict, init=False)

    def use(self, key: str) -> dict[str, str]:
        """Counts one use by ``key``; raises ``QuotaExceeded``.

        Returns the headers of draft-ietf-httpapi-ratelimit-headers-11.
        """
        now = self.monotonic()
        ends_at, used = self._windows.get(key, (now, 0))
        if ends_at <= now:
            self._make_room(now)
            ends_at, used = now + self.rate.get_expiry(), 0
        self._windows[key] = ends_at, used + 1
        return self._headers(used + 1, ends_at - now)

    def require_some(self, key: str) -> None:
        """Raises ``QuotaExceeded`` if ``use`` would; counts nothing."""
        now = self.monotonic()
        ends_at, used = self._windows.get(key, (now, 0))
        if ends_at > now:
            self._headers(used + 1, ends_at - now)

    def _headers(self, used: int, seconds_left: float) -> dict[str, str]:
        amount, window, seconds = self.rate.amount, self.rate.get_expiry(), ceil(seconds_left)
        seconds = max(1, seconds)
        headers = {
            "RateLimit-Policy": f'"{self.name}";q={amount};w={window}',
            "RateLimit": f'"{self.name}";r={max(0, amount - used)};t={seconds}',
        }
        if used > amount:
            raise QuotaExceeded(
                f"More than {amount} {self.uses} in {window} s; try again in {seconds} s.",
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


def add_limits(app: web.Application, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Sets up the quotas of the settings; ``monotonic`` returns seconds."""
    settings = app[SETTINGS]
    for key, name, uses, rate in (
        (BAD_TOKENS, "bad-tokens", "bad tokens from one address", settings.bad_token_rate),
        (TOKEN_USES, "token", "requests with one token", settings.token_rate),
    ):
        app[key] = None if rate is None else Quota(name, uses, rate, monotonic)
    if settings.token_rate is not None:
        app.on_response_prepare.append(_tell_quota)


def count_token_use(request: web.Request, identifier: str) -> None:
    """Counts a request with a valid token, whoever it acts for; raises ``QuotaExceeded``."""
    quota = request.app[TOKEN_USES]
    if quota is not None:
        request[CALL].quota_headers = quota.use(identifier)


async def _tell_quota(request: web.Request, response: web.StreamResponse) -> None:
    """A signal, because a stream sends its headers before its handler returns."""
    response.headers.update(request[CALL].quota_headers)


def count_bad_token(request: web.Request) -> None:
    """Raises ``QuotaExceeded`` after too many from the address of the client.

    Only requests with bad tokens are counted, so a shared address does not lock out valid tokens
    that are in use. A request without a token is not counted: it does not guess one.
    """
    quota = request.app[BAD_TOKENS]
    if quota is not None:
        quota.use(_client(request))


def require_few_bad_tokens(request: web.Request) -> None:
    """For a token that may be a guess, before the database is asked: raises ``QuotaExceeded``."""
    quota = request.app[BAD_TOKENS]
    if quota is not None:
        quota.require_some(_client(request))


def _client(request: web.Request) -> str:
    address = client_address(request, request.app[SETTINGS].trusted_proxies)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, CLIENT_PREFIX), strict=False))
    return str(address)
