"""Rate limits: of each token, and of each address that sends bad ones.

Each process counts for itself. What needs no token is not counted: it costs nothing.
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
"""Who has one address of IPv6 has so many that counting each of them would count for nothing."""


def add_limits(app: web.Application, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Opens the quotas that the settings ask for; ``monotonic`` gives seconds."""
    settings = app[SETTINGS]
    app[BAD_TOKENS] = app[TOKEN_USES] = None
    if settings.bad_token_rate is not None:
        uses = "bad tokens from one address"
        app[BAD_TOKENS] = Quota("bad-tokens", uses, settings.bad_token_rate, monotonic)
    if settings.token_rate is not None:
        uses = "requests with one token"
        app[TOKEN_USES] = Quota("token", uses, settings.token_rate, monotonic)
        app.on_response_prepare.append(_tell_quota)


def within_token_rate(identify: Identify) -> Identify:
    """``identify`` that also counts the use of the token, for whomever it acts.

    A request is counted where it may not act as it wants to, too, and raises ``QuotaExceeded``.
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
    """Here, since a stream sends its headers before its handler returns."""
    response.headers.update(request[CALL].quota_headers)


def count_bad_token(request: web.Request) -> None:
    """Raises ``QuotaExceeded`` where too many have come from the address of the client.

    Only requests with bad tokens are counted, and refused: an address that many share locks out
    nobody whose token is good. A request without any token guesses at none, so it counts for none.
    """
    quota = request.app[BAD_TOKENS]
    if quota is None:
        return
    address = client_address(request, request.app[SETTINGS].trusted_proxies)
    if isinstance(address, IPv6Address):
        quota.use(str(ip_network((address, CLIENT_PREFIX), strict=False)))
    else:
        quota.use(str(address))
