"""Votes in content polls: ``/rest/votes`` (docs/api.md, sections 3 and 5)."""

from typing import Any

from aiohttp import web

from schemas.content import NEW_VOTE
from service import casting
from service.content.query import read_poll_address
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import pagination, responses
from service.web.bodies import read_idempotency_key, read_json_body
from service.web.call import CALL
from service.web.store_key import STORE
from storage.documents import BallotDocument, PollDocument, SessionRules
from storage.errors import NoStandingSession


async def list_votes(request: web.Request) -> web.Response:
    """List the votes in a poll.

    For tokens with ``vote`` on the workspace. Callers with ``read`` and ``write`` as well get all
    votes, in pages, if names are saved; otherwise the list holds the caller's own vote only. Does
    not tell who cast a vote without a name.
    """
    paging = pagination.read_paging(request)
    poll = await _find_poll(request)
    poll_id, session_id = poll["id"], _standing_session(poll)
    ballots, principal = request.app[STORE].ballots, request[CALL].principal
    session = await request.app[STORE].sessions.get(session_id)
    own = await ballots.find(session_id, principal.user_id)
    view = policy.view_of(Caller(principal), session, own)
    if not (view.sees_all_submissions and session["rules"]["settings"]["saveParticipantNames"]):
        mine = [] if own is None else [_own_vote(request, own, session["rules"], poll_id)]
        return responses.json_response(mine)
    page = await ballots.of_session(session_id, paging.window)
    # The caller's own vote is not marked if its content must stay unknown: it has the same place
    # in the list of another manager.
    data = [
        views.content_vote(ballot, session["rules"], poll_id, author_id=view.author_of(ballot))
        for ballot in page.rows
    ]
    headers = pagination.link_header(request, paging, page)
    return responses.json_response(data, headers=headers)


async def cast_vote(request: web.Request) -> web.Response:
    """Cast the caller's vote.

    For tokens with ``vote`` on the workspace. If the poll has ``allowRevote``, the vote replaces
    the previous one. Does not add a second vote, and does not count where it is refused.
    """
    poll = await _find_poll(request)
    body = await read_json_body(request)
    vote = NEW_VOTE.load(body)
    outcome = await casting.cast(
        request,
        casting.CONTENT,
        _standing_session(poll),
        vote["optionIds"],
        comment=vote["comment"],
        idempotency_key=read_idempotency_key(request, body),
    )
    # The sender of a new vote knows it, even when acting for another user.
    is_sent = not outcome.is_replay
    data = _own_vote(request, outcome.ballot, outcome.rules, poll["id"], is_sent=is_sent)
    return responses.json_response(data)


async def withdraw_vote(request: web.Request) -> web.Response:
    """Withdraw the caller's vote, if the poll has ``allowRevote``.

    For tokens with ``vote`` on the workspace. Does not withdraw votes of others, or any after the
    poll has closed.
    """
    poll = await _find_poll(request)
    outcome = await casting.cast(request, casting.CONTENT, _standing_session(poll), None)
    data = _own_vote(request, outcome.ballot, outcome.rules, poll["id"])
    return responses.json_response(data)


def _own_vote(
    request: web.Request,
    own: BallotDocument,
    rules: SessionRules,
    poll_id: str,
    *,
    is_sent: bool = False,
) -> dict[str, Any]:
    """The caller's own vote, as far as they may know it."""
    principal = request[CALL].principal
    is_known = policy.knows_own(principal, own, rules)
    return views.content_vote(
        own, rules, poll_id, author_id=principal.user_id, is_known=is_known, is_sent=is_sent
    )


async def _find_poll(request: web.Request) -> PollDocument:
    """The poll of the query, for callers that may vote there."""
    key, poll_id = read_poll_address(request, "votes")
    policy.require_content(request[CALL].principal, policy.VOTE, key, poll_id)
    poll = await request.app[STORE].polls.get(key, poll_id)
    casting.note_anonymity(request, poll["settings"])
    return poll


def _standing_session(poll: PollDocument) -> int:
    """Raises ``NoStandingSession``: a conflict, which a bad body comes before."""
    if poll["standing_session"] is None:
        raise NoStandingSession(
            "This poll takes no votes here: vote in its sessions under /api/v1."
        )
    return poll["standing_session"]
