"""Tokens over HTTP: ``/tokens`` (docs/api.md, section 8)."""

from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from marshmallow import ValidationError

from schemas.tokens import NEW_TOKEN
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import pagination
from service.web.bodies import read_idempotency_key, read_json_body
from service.web.call import CALL, CLOCK, actor_of
from service.web.responses import json_response
from service.web.store_key import STORE
from storage.documents import has_passed
from storage.tokens import new_secret, token_id

TOKENS = "/tokens"
TOKEN = f"{TOKENS}/{{name}}"


async def list_tokens(request: web.Request) -> web.Response:
    """List the live tokens, by name.

    For admins. Does not show secrets, nor tokens that were revoked or have expired.
    """
    paging = pagination.read_paging(request, lambda after: isinstance(after, str))
    policy.require_admin(Caller(request[CALL].principal))
    page = await request.app[STORE].tokens.live(paging.window, request.app[CLOCK]())
    headers = pagination.link_header(request, paging, page)
    return json_response([views.token(token) for token in page.rows], headers=headers)


async def create_token(request: web.Request) -> web.Response:
    """Create a token.

    For admins. The answer has the secret, which is not stored. Does not show it again: repeated
    with its ``Idempotency-Key``, the request answers the same token with null for the secret.
    """
    policy.require_admin(Caller(request[CALL].principal))
    body = await read_json_body(request)
    now, secret = request.app[CLOCK](), new_secret()
    token = await request.app[STORE].tokens.create(
        secret,
        **_with_expiry(NEW_TOKEN.load(body), now),
        now=now,
        idempotency_key=read_idempotency_key(request, body),
        actor=actor_of(request),
    )
    is_new = token["_id"] == token_id(secret)
    return json_response({**views.token(token), "secret": secret if is_new else None})


async def revoke_token(request: web.Request) -> web.Response:
    """Revoke a token.

    For admins. It stops working at once in the process that answers, and within 5 seconds in every
    other. Does not undo what was done with the token.
    """
    policy.require_admin(Caller(request[CALL].principal))
    name = request.match_info["name"]
    revoked = await request.app[STORE].tokens.revoke(
        name, request.app[CLOCK](), actor=actor_of(request)
    )
    return json_response(views.token(revoked))


def _with_expiry(wanted: dict[str, Any], now: datetime) -> dict[str, Any]:
    """``wanted`` with the time of its expiry alone. Raises ``ValidationError`` if that is past."""
    seconds = wanted.pop("expires_in")
    if seconds is not None:
        return {**wanted, "expires_at": now + timedelta(seconds=seconds)}
    if has_passed(wanted["expires_at"], now):
        raise ValidationError("must be in the future", "expiresAt")
    return wanted
