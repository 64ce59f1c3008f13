"""The principal of a token, by the hash of its secret."""

import hmac

from aiohttp import web

from service.rules.principal import SERVICE_USER, Principal
from service.web.call import CLOCK
from storage.tokens import Tokens

ADMIN_TOKEN_ID: web.AppKey[str | None] = web.AppKey("admin_token_id")
"""The hash of the token of the environment, which is never stored."""


def is_admin_token(app: web.Application, identifier: str) -> bool:
    """Whether this is the hash of the token of the environment."""
    admin_id = app[ADMIN_TOKEN_ID]
    return admin_id is not None and hmac.compare_digest(identifier, admin_id)


async def find_principal(app: web.Application, tokens: Tokens, identifier: str) -> Principal | None:
    """The owner of the token with this hash; None unless it is valid now."""
    if is_admin_token(app, identifier):
        return Principal(SERVICE_USER, identifier, "POLLS_ADMIN_TOKEN", is_admin=True)
    token = await tokens.find(identifier, app[CLOCK]())
    return None if token is None else Principal.of(token)
