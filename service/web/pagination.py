"""Pagination: the rows that a request asks for, and the links to other pages (RFC 8288)."""

import base64
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
from aiohttp import web
from marshmallow import ValidationError

from schemas.fields import MAX_ID, parse_id
from service.settings import SETTINGS
from service.web.call import CALL
from service.web.proxies import client_scheme, is_from_proxy
from service.web.query import TOKEN_PARAMETERS
from storage.pagination import Page, Window

DEFAULT_PER_PAGE = 10
MAX_PER_PAGE = 100
DEFAULT_LIMIT = 50
CURSOR = "bookmark:"
"""Prefix of a cursor in the parameter ``page``."""
AUTHORITY = re.compile(r"[A-Za-z0-9._\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class Paging(NamedTuple):
    """The window of a request, and its page number, None if it gave a cursor."""

    window: Window
    number: int | None


def is_number(after: Any) -> bool:
    """Whether a decoded cursor is the id of a row, as in most lists."""
    return isinstance(after, int) and not isinstance(after, bool) and 0 < after <= MAX_ID


def read_paging(request: web.Request, is_cursor: Callable[[Any], bool] = is_number) -> Paging:
    """Reads ``page`` and ``per_page``; raises ``ValidationError``.

    ``is_cursor`` tells whether a decoded cursor is valid for this list.
    """
    query = dict(request[CALL].query)
    limit = DEFAULT_PER_PAGE
    if query.get("per_page"):
        limit = read_count(query["per_page"], "per_page")
    page = query.get("page") or "1"
    if page.startswith(CURSOR):
        after = decode(page.removeprefix(CURSOR))
        if not is_cursor(after):
            raise ValidationError("is not a valid cursor for this list", "page")
        return Paging(Window(after, 0, limit), None)
    number = parse_id(page)
    if number is None:
        raise ValidationError("must be a whole number from 1, or a cursor", "page")
    return Paging(Window(None, (number - 1) * limit, limit), number)


def read_count(text: str, name: str) -> int:
    """How many rows a page has, at the most ``MAX_PER_PAGE``; ``name`` is the parameter's."""
    if not re.fullmatch(r"0*[1-9][0-9]*", text, re.ASCII):
        raise ValidationError("must be a whole number from 1", name)
    return min(int(text.lstrip("0")[:4]), MAX_PER_PAGE)


def next_header(request: web.Request, cursor: str | None) -> dict[str, str]:
    """``Link`` with the ``next`` page, if there is one."""
    if cursor is None:
        return {}
    kept = [pair for pair in request[CALL].query if pair[0] not in (*TOKEN_PARAMETERS, "cursor")]
    query = urlencode([*kept, ("cursor", cursor)], errors="surrogateescape")
    return {"Link": f'<{base_url(request)}{request.rel_url.raw_path}?{query}>; rel="next"'}


def link_header(request: web.Request, paging: Paging, page: Page[Any]) -> dict[str, str]:
    """``Link`` with ``current``, ``first``, and ``next``, ``prev``, ``last`` where known."""
    pairs = request[CALL].query
    current = dict(pairs).get("page") or "1"
    links = {"current": current}
    if page.next_after is not None:
        links["next"] = CURSOR + encode(page.next_after)
    if paging.number is not None and paging.number > 1:
        links["prev"] = str(paging.number - 1)
    links["first"] = "1"
    if page.next_after is None and page.rows:
        links["last"] = current
    base = base_url(request) + request.rel_url.raw_path
    kept = [pair for pair in pairs if pair[0] not in (*TOKEN_PARAMETERS, "page", "per_page")]
    values = []
    for rel, place in links.items():
        query = [*kept, ("page", place), ("per_page", str(paging.window.limit))]
        values.append(f'<{base}?{urlencode(query, errors="surrogateescape")}>; rel="{rel}"')
    return {"Link": ",".join(values)}


def base_url(request: web.Request) -> str:
    """The scheme and authority that the client used.

    ``POLLS_PUBLIC_URL`` overrides it. ``X-Forwarded-Proto`` and ``X-Forwarded-Host`` are used only
    if a proxy of ``POLLS_TRUSTED_PROXIES`` sent them. Without a usable host, as in HTTP/1.0, it is
    the address of the connection.
    """
    settings = request.app[SETTINGS]
    if settings.public_url is not None:
        return settings.public_url
    host, trusted = request.headers.get("Host", ""), settings.trusted_proxies
    if is_from_proxy(request, trusted):
        host = request.headers.get("X-Forwarded-Host", host).split(",")[0].strip()
    if not AUTHORITY.fullmatch(host):
        host = _authority_of_connection(request)
    return f"{client_scheme(request, trusted)}://{host}"


def _authority_of_connection(request: web.Request) -> str:
    settings = request.app[SETTINGS]
    name = request.get_extra_info("sockname")
    # Nothing of the kind for a Unix socket.
    address, port = name[:2] if isinstance(name, tuple) else (settings.host, settings.port)
    address = address.partition("%")[0]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def encode(after: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(after)).decode().rstrip("=")


def decode(text: str) -> Any:
    try:
        padded = text + "=" * (-len(text) % 4)
        return orjson.loads(base64.b64decode(padded.encode("ascii"), b"-_", validate=True))
    except ValueError:
        return None
