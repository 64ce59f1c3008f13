"""The session of a content poll that a request names."""

from aiohttp import web

from service.content.query import read_poll_address
from service.rules import policy
from service.rules.policy import Caller
from service.web.call import CALL
from service.web.store_key import STORE
from storage.documents import SessionDocument
from storage.errors import NoStandingSession


async def find_standing_session(
    request: web.Request, kind: str, *, elsewhere: str
) -> tuple[Caller, SessionDocument]:
    """The caller, who may read the poll of the query, and its standing session.

    ``elsewhere`` is what a poll without one is refused with. Raises ``NotFound``, ``Forbidden``.
    """
    key, poll_id = read_poll_address(request, kind)
    caller = Caller(request[CALL].principal)
    policy.require_content(caller.principal, policy.READ, key, poll_id)
    store = request.app[STORE]
    poll = await store.polls.get(key, poll_id)
    if poll["standing_session"] is None:
        raise NoStandingSession(elsewhere)
    return caller, await store.sessions.get(poll["standing_session"])
