"""Links: a signed right to see one session, and maybe to vote in it (docs/api.md, section 7).

A link is a capability: whoever holds it has the right, so it is never logged. It holds no token.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from aiohttp import web
from itsdangerous import BadData, URLSafeSerializer

from schemas.links import NEW_LINK, VOTE
from service.rules import policy, views
from service.rules.policy import Caller, View
from service.rules.principal import Principal
from service.web.bodies import read_idempotency_key, read_json_body
from service.web.call import CALL, CLOCK
from service.web.pagination import base_url
from service.web.rate_limits import count_bad_token, count_token_use
from service.web.responses import json_response
from service.web.store_key import STORE
from service.web.tokens import ADMIN_TOKEN_ID, find_principal, is_admin_token
from storage.documents import SessionDocument, UserId, has_passed
from storage.errors import Code, NotFound

PATH = "/p/"
PURPOSE = "links"
SHAPE = re.compile(r"[A-Za-z0-9_.-]{1,1000}", re.ASCII)
OF_ENVIRONMENT = "environment:"


class LinkRefused(policy.Forbidden):
    """The link is forged, expired, or its token has ended; holders cannot tell which."""

    code = Code.BAD_TOKEN

    def __init__(self) -> None:
        super().__init__("This link is not valid, or has expired.")


class Link(NamedTuple):
    """What is signed. ``user_id`` is the user that the token acts for, None for its owner.

    ``token`` is the id of the token that made the link; see ``_token_mark``.
    """

    session_id: int
    poll_id: str
    may_vote: bool
    user_id: UserId | None
    token: str
    expires: int

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.expires, UTC)


class Opened(NamedTuple):
    """A valid link, and the principal that holds it."""

    link: Link
    principal: Principal


async def respond_new_link(
    request: web.Request, session: SessionDocument, view: View
) -> web.Response:
    """Makes a link to a session that the caller sees as ``view``, by the body of the request."""
    principal = request[CALL].principal
    body = await read_json_body(request)
    wanted = NEW_LINK.load(body)
    may_vote = VOTE in wanted["actions"]
    if may_vote:
        policy.require_action(principal, policy.VOTE)
        policy.require(view.may_vote, policy.NO_SESSION_ACCESS)
    now = request.app[CLOCK]()
    expires_at = now.replace(microsecond=0) + timedelta(seconds=wanted["expiresIn"])
    # The link itself is not stored: it is made again of what it says.
    made = await request.app[STORE].once(
        read_idempotency_key(request, body), {"expires_at": expires_at}
    )
    expires_at = made["expires_at"]
    link = Link(
        session_id=session["_id"],
        poll_id=session["poll_id"],
        may_vote=may_vote,
        user_id=principal.user_id if principal.is_acting else None,
        token=_token_mark(request.app, principal.token_id),
        expires=int(expires_at.timestamp()),
    )
    url = f"{base_url(request)}{PATH}{_serializer(request.app).dumps(link)}"
    return json_response({"url": url, "expiresAt": views.time(expires_at)})


async def open_link(request: web.Request) -> Opened:
    """The link of the path; from then on its holder is the caller.

    Raises ``LinkRefused``, and ``QuotaExceeded`` as for the token that made it, or, for links that
    were never made, as for bad tokens.
    """
    link = _read(request.app, request.match_info["link"])
    if link is None:
        count_bad_token(request)
        raise LinkRefused
    app, call = request.app, request[CALL]
    if has_passed(link.expires_at, app[CLOCK]()):
        raise LinkRefused
    maker = await find_principal(app, app[STORE].tokens, _token_id(app, link.token))
    if maker is None:
        raise LinkRefused
    if link.user_id is not None:
        policy.require_acting(maker)
        maker = maker.acting_for(link.user_id)
    actions = (policy.READ, policy.VOTE) if link.may_vote else (policy.READ,)
    call.principal = maker.holder(actions)
    count_token_use(request, maker.token_id)
    call.quota_headers = {}  # they would tell one holder how much others do at the moment
    return Opened(link, call.principal)


async def find_session(request: web.Request, link: Link) -> tuple[SessionDocument, Caller]:
    """The session of a link, and its holder; raises ``NotFound``, ``Forbidden``.

    After a restore from a backup the number of the session may be given to another poll's. The
    session is read before the enrollments: if one of them ends in between, the session is
    another one then.
    """
    store, principal = request.app[STORE], request[CALL].principal
    session = await store.sessions.get(link.session_id)
    if session["poll_id"] != link.poll_id:
        raise NotFound("There is no such poll session.")
    enrollments: Sequence[Any] = ()
    if session["course_id"] is not None:
        enrollments = await store.enrollments.of_user(principal.user_id)
    caller = Caller(principal, tuple(enrollments))
    policy.require(policy.view_of(caller, session).may_read, policy.NO_SESSION_ACCESS)
    return session, caller


def _serializer(app: web.Application) -> URLSafeSerializer:
    """It compares signatures in constant time."""
    return URLSafeSerializer(
        app[STORE].key_for(PURPOSE),
        salt="polls.link.1",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def _read(app: web.Application, text: str) -> Link | None:
    """None if this store never made it."""
    if SHAPE.fullmatch(text) is None:
        return None
    try:
        return Link(*_serializer(app).loads(text))
    except BadData:
        return None


def _token_mark(app: web.Application, token_id: str) -> str:
    """How a link names its token.

    A token's id is a hash of 256 random bits, and tells nothing. That of the environment may be
    shorter, and its plain hash could be guessed from: it is keyed.
    """
    if not is_admin_token(app, token_id):
        return token_id
    return (
        OF_ENVIRONMENT + hmac.digest(app[STORE].key_for(PURPOSE), token_id.encode(), "sha256").hex()
    )


def _token_id(app: web.Application, mark: str) -> str:
    """The id of the token that a link names; of nothing if the environment has another by now."""
    if not mark.startswith(OF_ENVIRONMENT):
        return mark
    admin_id = app[ADMIN_TOKEN_ID] or ""
    return admin_id if hmac.compare_digest(mark, _token_mark(app, admin_id)) else ""
