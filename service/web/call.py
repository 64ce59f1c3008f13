"""What is known of the request that is being answered."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from aiohttp import web

from service.rules.principal import NOBODY, Principal
from service.web.randomness import draws
from service.web.responses import REQUEST_ID_HEADER
from storage.audit import Actor

LIMIT_SECONDS = 4.5
"""A caller hears within 5 s that the database is away, however many round trips are needed."""
VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)


@dataclass(slots=True)
class Call:
    """One for each request, made by its scope and completed on its way.

    ``query`` has all parameters in order; ``principal`` is ``NOBODY`` until the token is found.
    Where ``is_anonymous``, log and trace name no user, and have ``logged_id`` in place of ``id``,
    which the caller knows. ``is_stream``: the answer lasts as long as somebody watches, and is no
    part of the metrics of durations. ``quota_headers`` go with the answer. ``late_body`` is a body
    that came late, once it is there: see ``BodyCameLate``.
    """

    id: str
    query: list[tuple[str, str]] = field(default_factory=list)
    principal: Principal = NOBODY
    is_anonymous: bool = False
    is_stream: bool = False
    quota_headers: Mapping[str, str] = field(default_factory=dict)
    late_body: bytes | None = None
    _own_id: str = ""

    @property
    def logged_id(self) -> str:
        """Where it is not ``id`` it is random, since the next of a counter tells the last."""
        if not self.is_anonymous:
            return self.id
        self._own_id = self._own_id or next(_draws).hex()
        return self._own_id


class BodyCameLate(Exception):
    """The request is to be decided again, now that its body is there.

    Rights are checked before a body is read, and a client may take half a minute to send it: they
    may be gone by then.
    """


CALL = web.RequestKey("call", Call)
DRAINING = web.AppKey("draining", asyncio.Event)
"""Set when shutdown begins."""
CLOCK: web.AppKey[Callable[[], datetime]] = web.AppKey("clock")
"""Gives the time, in UTC."""

Identify = Callable[[web.Request], Awaitable[None]]
"""Puts the query and the principal into the call of a request, or raises its refusal."""


def actor_of(request: web.Request) -> Actor:
    """The caller, for the audit of what they change now."""
    principal = request[CALL].principal
    now = request.app[CLOCK]()
    return Actor(principal.user_id, principal.token_name, now, principal.owner_id)


def read_request_id(request: web.BaseRequest) -> str:
    """The caller's, where it is harmless in headers and logs, else a new one."""
    given = request.headers.get(REQUEST_ID_HEADER)
    if given is not None and VALID_REQUEST_ID.fullmatch(given):
        return given
    return new_request_id()


def new_request_id() -> str:
    return next(_new_ids)


def _make_ids() -> Iterator[str]:
    """Ids that no other process makes: a random prefix, then a counter.

    The system is asked for randomness once, since that takes longer than all else here.
    """
    prefix = secrets.token_hex(10)
    for number in count(1):
        yield f"{prefix}{number:012x}"


_new_ids = _make_ids()
_draws = draws(16)
