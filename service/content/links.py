"""Links to the pages of content polls: ``/rest/links`` (docs/api.md, section 7)."""

from aiohttp import web

from service.content.query import read_poll_address
from service.live.links import respond_new_link
from service.rules import policy
from service.rules.policy import Caller
from service.web.call import CALL
from service.web.store_key import STORE
from storage.errors import NoStandingSession


async def create_link(request: web.Request) -> web.Response:
    """Make a link to the page of a poll.

    For tokens with `read` on the workspace and, for links that vote, with `vote`. Whoever has the
    link sees and does in a browser what the caller may, without a token, until it expires or the
    token ends; with `as_user_id` it is that user's. Does not let anybody manage the poll.
    """
    key, poll_id = read_poll_address(request, "links")
    caller = Caller(request[CALL].principal)
    policy.require_content(caller.principal, policy.READ, key, poll_id)
    store = request.app[STORE]
    poll = await store.polls.get(key, poll_id)
    if poll["standing_session"] is None:
        raise NoStandingSession("This poll has no link here: make one to a session under /api/v1.")
    session = await store.sessions.get(poll["standing_session"])
    return await respond_new_link(request, session, policy.view_of(caller, session))
