"""Finds out who is asking; without a good token the answer is 403, never 401 (contract, 2)."""

import hmac

from aiohttp import hdrs, web
from marshmallow import ValidationError

from schemas.fields import parse_id
from service.rules import policy
from service.rules.principal import SERVICE_USER, Principal
from service.web.call import CALL, CLOCK
from service.web.query import TOKEN_PARAMETERS, parse_query
from service.web.rate_limits import count_bad_token
from service.web.store import STORE
from storage.tokens import token_id

ADMIN_TOKEN_ID: web.AppKey[str | None] = web.AppKey("admin_token_id")
PUBLIC = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/{asset}"})
"""Routes that need no token."""
BEARER = "bearer "


async def identify(request: web.Request) -> None:
    """Puts the principal and the parsed query into the call.

    Raises ``Forbidden``, and ``QuotaExceeded`` where too many bad tokens came.
    """
    call = request[CALL]
    call.query = parse_query(request)
    values = dict(call.query)
    identifier = token_id(_read_secret(request, values))
    # Known also where acting is refused: the log shall tell whose token it was.
    call.principal = _recall(request, identifier) or await _find(request, identifier)
    wanted = values.get("as_user_id")
    if wanted is None:
        return
    policy.require_acting(call.principal)
    user_id = parse_id(wanted)
    if user_id is None:
        raise ValidationError("must be a whole number from 1 to 2^53-1", "as_user_id")
    call.principal = call.principal.acting_for(user_id)


def _read_secret(request: web.Request, query: dict[str, str]) -> str:
    authorization = request.headers.get(hdrs.AUTHORIZATION, "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    for parameter in TOKEN_PARAMETERS:
        if parameter in query:
            return query[parameter]
    raise policy.Forbidden("A token is missing: send Authorization: Bearer, or ?token=.")


def _recall(request: web.Request, identifier: str) -> Principal | None:
    """Who it was a moment ago, or the token of the environment; without a question to the store."""
    app = request.app
    admin_id = app[ADMIN_TOKEN_ID]
    if admin_id is not None and hmac.compare_digest(identifier, admin_id):
        return Principal(SERVICE_USER, identifier, "POLLS_ADMIN_TOKEN", is_admin=True)
    token = app[STORE].tokens.recall(identifier, app[CLOCK]())
    return None if token is None else Principal.of(token)


async def _find(request: web.Request, identifier: str) -> Principal:
    token = await request.app[STORE].tokens.find(identifier, request.app[CLOCK]())
    if token is None:
        count_bad_token(request)
        raise policy.Forbidden("The token is unknown, revoked or expired.")
    return Principal.of(token)
