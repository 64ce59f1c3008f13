"""Rate limits for each token, and for each address that sends invalid ones.

Each process counts by itself. Routes without authentication are not counted: they are cheap.
"""

import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network

from aiohttp import web

from service.rules.principal import NOBODY
from service.settings import SETTINGS
from service.web.call import CALL, Identify
from service.web.proxies import client_address
from service.web.quotas import BAD_TOKENS, TOKEN_USES, Quota

CLIENT_PREFIX = 64
"""IPv6 clients are counted by network, because each has at least 2^64 addresses."""


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


def within_token_rate(identify: Identify) -> Identify:
    """``identify`` that also counts each use of the token, whoever it acts for.

    Requests that may not act for a user are counted, too. Raises ``QuotaExceeded``.
    """

    async def identify_and_count(request: web.Request) -> None:
        try:
            await identify(request)
        finally:
            quota, call = request.app[TOKEN_USES], request[CALL]
            if quota is not None and call.principal is not NOBODY:
                call.quota_headers = quota.use(call.principal.token_id)

    return identify_and_count


async def _tell_quota(request: web.Request, response: web.StreamResponse) -> None:
    """A signal, because a stream sends its headers before its handler returns."""
    response.headers.update(request[CALL].quota_headers)


def count_bad_token(request: web.Request) -> None:
    """Raises ``QuotaExceeded`` after too many from the address of the client.

    Only requests with bad tokens are counted and refused, so a shared address never locks out valid
    tokens. A request without a token is not counted: it does not guess one.
    """
    quota = request.app[BAD_TOKENS]
    if quota is None:
        return
    address = client_address(request, request.app[SETTINGS].trusted_proxies)
    if isinstance(address, IPv6Address):
        quota.use(str(ip_network((address, CLIENT_PREFIX), strict=False)))
    else:
        quota.use(str(address))
