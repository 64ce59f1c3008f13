"""Finds out who is asking; without a good token the answer is 403, never 401 (contract, 2)."""

import hmac

from aiohttp import web
from aiohttp.typedefs import Handler
from marshmallow import ValidationError

from schemas.polling import parse_id
from service import keys, policy
from service.principal import SERVICE_USER, Principal
from service.requests import TOKEN_PARAMETERS, parse_query
from service.routes import PUBLIC
from storage.tokens import token_id

BEARER = "bearer "


@web.middleware
async def require_token(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Puts the principal and the parsed query into the request.

    What the router does not know and what is public passes without: a wrong path is a 404 to
    everybody.
    """
    resource = request.match_info.route.resource
    if resource is None or resource.canonical in PUBLIC:
        return await handler(request)
    query = request[keys.QUERY] = parse_query(request)
    principal = await _identify(request, _read_secret(request, dict(query)))
    wanted = dict(query).get("as_user_id")
    request[keys.PRINCIPAL] = principal
    if wanted is not None:
        policy.require_acting(principal)
        user_id = parse_id(wanted)
        if user_id is None:
            raise ValidationError("must be a whole number from 1 to 2^53-1", "as_user_id")
        request[keys.PRINCIPAL] = principal.acting_for(user_id)
    return await handler(request)


def _read_secret(request: web.Request, query: dict[str, str]) -> str:
    authorization = request.headers.get("Authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    for parameter in TOKEN_PARAMETERS:
        if parameter in query:
            return query[parameter]
    raise policy.Forbidden("A token is missing: send Authorization: Bearer, or ?token=.")


async def _identify(request: web.Request, secret: str) -> Principal:
    identifier = token_id(secret)
    admin_token = request.app[keys.SETTINGS].admin_token
    if admin_token is not None and hmac.compare_digest(identifier, token_id(admin_token)):
        return Principal(SERVICE_USER, identifier, "POLLS_ADMIN_TOKEN", is_admin=True)
    token = await request.app[keys.STORE].tokens.find(identifier, request.app[keys.CLOCK]())
    if token is None:
        raise policy.Forbidden("The token is unknown, revoked or expired.")
    return Principal(
        user_id=token["user_id"],
        token_id=identifier,
        token_name=token["name"],
        is_admin=token["admin"],
        actions=frozenset(token["actions"]),
        workspaces=frozenset(token["workspaces"]),
    )
