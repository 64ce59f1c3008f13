"""Authentication by token. Without a valid one the status is 403, never 401 (docs/api.md, 2)."""

from aiohttp import hdrs, web
from marshmallow import ValidationError

from schemas.fields import USER_MESSAGE, parse_user_id
from service.rules import policy
from service.rules.principal import Principal
from service.web.call import CALL
from service.web.query import TOKEN_PARAMETERS, parse_query
from service.web.rate_limits import (
    count_bad_token,
    count_token_use,
    require_few_bad_tokens,
)
from service.web.store_key import STORE
from service.web.tokens import find_principal, is_admin_token
from storage.errors import Code
from storage.tokens import token_id

PUBLIC = frozenset(
    {
        *("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/{asset}"),
        *("/p/{link}", "/p/{link}/events", "/pages/{file}"),
    }
)
"""Routes without a token. What a link opens authenticates it by itself: ``service.live.links``."""
BEARER = "bearer "


class TokenRequired(policy.Forbidden):
    """The request has no token."""

    code = Code.TOKEN_REQUIRED


class BadToken(policy.Forbidden):
    """The token is unknown, revoked or expired; callers cannot tell which."""

    code = Code.BAD_TOKEN

    def __init__(self) -> None:
        super().__init__("The token is unknown, revoked or expired.")


async def identify(request: web.Request) -> None:
    """Sets the principal and the parsed query of the call.

    Raises ``Forbidden``, and ``QuotaExceeded`` after too many bad tokens or uses of a token.
    """
    call = request[CALL]
    call.query = parse_query(request)
    values = dict(call.query)
    identifier = token_id(_read_secret(request, values))
    # Before acting is checked, so that a refused request is counted, and logged with its token.
    call.principal = await _principal_of(request, identifier)
    count_token_use(request, identifier)
    wanted = values.get("as_user_id")
    if wanted is None:
        return
    policy.require_acting(call.principal)
    user_id = parse_user_id(wanted)
    if user_id is None:
        raise ValidationError(USER_MESSAGE, "as_user_id")
    call.principal = call.principal.acting_for(user_id)


async def require_valid(request: web.Request) -> None:
    """For requests that last: raises ``BadToken`` once the caller's token has ended."""
    app = request.app
    identifier = request[CALL].principal.token_id
    if await find_principal(app, app[STORE].tokens, identifier) is None:
        raise BadToken


def _read_secret(request: web.Request, query: dict[str, str]) -> str:
    authorization = request.headers.get(hdrs.AUTHORIZATION, "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    for parameter in TOKEN_PARAMETERS:
        if parameter in query:
            return query[parameter]
    raise TokenRequired("A token is required: send Authorization: Bearer TOKEN.")


async def _principal_of(request: web.Request, identifier: str) -> Principal:
    """The principal of the token of the environment, or of a stored one, by its hash."""
    app = request.app
    tokens = app[STORE].tokens
    if not (tokens.is_known(identifier) or is_admin_token(app, identifier)):
        require_few_bad_tokens(request)
    principal = await find_principal(app, tokens, identifier)
    if principal is None:
        count_bad_token(request)
        raise BadToken
    return principal
