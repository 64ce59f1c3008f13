"""The client's address and scheme behind proxies.

``X-Forwarded-*`` is used only if a proxy of ``POLLS_TRUSTED_PROXIES`` sent it.
"""

import ipaddress
import re
from collections.abc import Sequence

from aiohttp import web

from service.settings import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
"""Some proxies write ``192.0.2.7:1234`` and ``[2001:db8::1]:1234``."""


def is_from_proxy(request: web.BaseRequest, trusted: Sequence[Network]) -> bool:
    """Whether a trusted proxy sent the request."""
    return bool(trusted) and _is_one_of(_parse(request.remote or ""), trusted)


def client_address(request: web.BaseRequest, trusted: Sequence[Network]) -> Address | None:
    """The last address on the way that is not a trusted proxy.

    Proxies append to ``X-Forwarded-For``, so it is read from its end: entries before the last
    untrusted address may be forged. None if the connection has no address, as on a Unix socket.
    """
    address = _parse(request.remote or "")
    hops = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
    while hops and _is_one_of(address, trusted) and (before := _parse(hops.pop())) is not None:
        address = before
    return address


def client_scheme(request: web.BaseRequest, trusted: Sequence[Network]) -> str:
    """``http`` or ``https``, as used by the client."""
    scheme = request.scheme
    if is_from_proxy(request, trusted):
        forwarded = request.headers.get("X-Forwarded-Proto", "").split(",")[0].strip().lower()
        scheme = forwarded if forwarded in ("http", "https") else scheme
    return scheme


def _parse(text: str) -> Address | None:
    text = text.strip()
    if (match := WITH_PORT.fullmatch(text)) is not None:
        text = match[1] or match[2] or ""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_one_of(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)
