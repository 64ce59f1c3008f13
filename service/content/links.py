"""Links to the pages of content polls: ``/rest/links`` (docs/api.md, section 7)."""

from aiohttp import web

from service.content.lookups import find_standing_session
from service.live.links import respond_new_link
from service.rules import policy


async def create_link(request: web.Request) -> web.Response:
    """Make a link to the page of a poll.

    For tokens with `read` on the workspace and, for links that vote, with `vote`. Whoever has the
    link sees and does in a browser what the caller may, without a token, until it expires or the
    token ends; with `as_user_id` it is that user's. Does not let anybody manage the poll.
    """
    caller, session = await find_standing_session(
        request,
        "links",
        elsewhere="This poll has no link here: make one to a session under /api/v1.",
    )
    return await respond_new_link(request, session, policy.view_of(caller, session))
