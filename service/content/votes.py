"""Votes in content polls, ``type=votes`` of ``/rest`` (contract, sections 3 and 5)."""

from typing import Any, NamedTuple

from aiohttp import web

from service import casting
from service.content import bodies
from service.content.query import read_poll_address
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import pagination, responses
from service.web.call import CALL, CLOCK
from service.web.store import STORE
from storage.documents import BallotDocument, ContainerKey, PollDocument, SessionRules
from storage.errors import Conflict

VOTES = "votes"


class Voting(NamedTuple):
    """A content poll, and the session that its votes go to."""

    key: ContainerKey
    poll: PollDocument
    session_id: int


async def list_votes(request: web.Request) -> web.Response:
    """List the votes in a poll.

    Callers with ``write`` on the workspace get all votes, in pages, if names are saved. Otherwise
    the list holds the caller's own vote only.
    """
    paging = pagination.read_paging(request)
    voting = await _find_voting(request)
    ballots, principal = request.app[STORE].ballots, request[CALL].principal
    session = await request.app[STORE].sessions.get(voting.session_id)
    own = await ballots.find(ballots.id_of(voting.session_id, principal.user_id))
    view = policy.view_of(Caller(principal), session, own, request.app[CLOCK]())
    if not (view.is_manager and session["rules"]["settings"]["saveParticipantNames"]):
        mine = [] if own is None else [_show_own(request, own, session["rules"], voting.poll["id"])]
        return responses.json_response(mine)
    page = await ballots.of_session(voting.session_id, paging.window)
    # An own vote that may not be known stays one among the others: marked, it would be found in
    # the list of another manager, at the same place.
    shown = [
        views.content_vote(
            ballot, session["rules"], voting.poll["id"], author_id=view.author_of(ballot)
        )
        for ballot in page.rows
    ]
    headers = pagination.link_header(request, paging, page)
    return responses.json_response(shown, headers=headers)


async def cast_vote(request: web.Request) -> web.Response:
    """Cast the caller's vote.

    If the poll has ``allowRevote``, the vote replaces the previous one.
    """
    voting = await _find_voting(request)
    vote, cast_key = await bodies.read_vote(request)
    outcome = await casting.cast(
        request,
        casting.CONTENT,
        voting.session_id,
        vote["optionIds"],
        comment=vote["comment"],
        cast_key=cast_key,
    )
    # Whoever sent the vote knows it, also a caller who acts for another user.
    author_id = request[CALL].principal.user_id
    return responses.json_response(
        views.content_vote(outcome.ballot, outcome.rules, voting.poll["id"], author_id=author_id)
    )


async def withdraw_vote(request: web.Request) -> web.Response:
    """Withdraw the caller's vote, if the poll has ``allowRevote``."""
    voting = await _find_voting(request)
    outcome = await casting.cast(request, casting.CONTENT, voting.session_id, None)
    shown = _show_own(request, outcome.ballot, outcome.rules, voting.poll["id"])
    return responses.json_response(shown)


def _show_own(
    request: web.Request, own: BallotDocument, rules: SessionRules, poll_id: str
) -> dict[str, Any]:
    """The caller's own vote; callers that may not know what it says learn that it is there."""
    principal = request[CALL].principal
    if policy.knows_own(principal, own, rules):
        return views.content_vote(own, rules, poll_id, author_id=principal.user_id)
    return views.hidden_content_vote(own, poll_id, principal.user_id)


async def _find_voting(request: web.Request) -> Voting:
    key, poll_id = read_poll_address(request, VOTES)
    policy.require_content(request[CALL].principal, policy.VOTE, key)
    poll = await request.app[STORE].polls.get(key, poll_id)
    casting.note_anonymity(request, poll["settings"])
    if poll["standing_session"] is None:
        raise Conflict("Votes in this poll are cast in its sessions, under /api/v1.")
    return Voting(key, poll, poll["standing_session"])
