"""Votes in content polls, ``type=votes`` of ``/rest`` (contract, sections 3 and 5)."""

from typing import Any, NamedTuple

from aiohttp import web

from service import bodies, casts, keys, pagination, policy, requests, responses, views
from service.policy import Caller
from storage.documents import BallotDocument, ContainerKey, PollDocument, SessionRules
from storage.errors import Conflict

VOTES = "votes"


class Voting(NamedTuple):
    """A content poll, and the session that its votes go to."""

    key: ContainerKey
    poll: PollDocument
    session_id: int


async def list_votes(request: web.Request) -> web.Response:
    paging = pagination.read_paging(request)
    key, poll, session_id = await _find_voting(request)
    session = await request.app[keys.STORE].sessions.get(session_id)
    poll_id = poll["id"]
    principal = request[keys.CALL].principal
    ballots = request.app[keys.STORE].ballots
    own_id = ballots.id_of(session_id, principal.user_id)
    rules = session["rules"]
    saves_names = rules["settings"]["saveParticipantNames"]
    if saves_names and policy.manages(Caller(principal), key, session["owner_id"]):
        page = await ballots.of_session(session_id, paging.window)
        shown = []
        for ballot in page.rows:
            # An own vote that may not be known stays one among the others: marked, it would be
            # found in the list of another manager, at the same place.
            is_own = ballot["_id"] == own_id and policy.sees_own_choice(principal, ballot, rules)
            author_id = principal.user_id if is_own else None
            shown.append(views.content_vote(ballot, rules, poll_id, author_id=author_id))
        headers = pagination.link_header(request, paging, page)
        return responses.json_response(shown, headers=headers)
    own = await ballots.find(own_id)
    mine = [] if own is None else [_show_own(request, own, rules, poll_id)]
    return responses.json_response(mine)


async def cast_vote(request: web.Request) -> web.Response:
    voting = await _find_voting(request)
    vote, cast_key = await bodies.read_vote(request)
    outcome = await casts.cast(
        request,
        casts.CONTENT,
        voting.session_id,
        vote["optionIds"],
        comment=vote["comment"],
        cast_key=cast_key,
    )
    # Whoever sent the vote knows it, also who acts for another.
    author_id = request[keys.CALL].principal.user_id
    return responses.json_response(
        views.content_vote(outcome.ballot, outcome.rules, voting.poll["id"], author_id=author_id)
    )


async def withdraw_vote(request: web.Request) -> web.Response:
    voting = await _find_voting(request)
    outcome = await casts.cast(request, casts.CONTENT, voting.session_id, None)
    return responses.json_response(
        _show_own(request, outcome.ballot, outcome.rules, voting.poll["id"])
    )


def _show_own(
    request: web.Request, ballot: BallotDocument, rules: SessionRules, poll_id: str
) -> dict[str, Any]:
    """The caller's own vote; who acts for a user may learn no more than that it is there."""
    principal = request[keys.CALL].principal
    if policy.sees_own_choice(principal, ballot, rules):
        return views.content_vote(ballot, rules, poll_id, author_id=principal.user_id)
    return views.hidden_content_vote(ballot, poll_id, principal.user_id)


async def _find_voting(request: web.Request) -> Voting:
    key, poll_id = requests.read_poll_address(request, VOTES)
    policy.require_content(request[keys.CALL].principal, policy.VOTE, key)
    poll = await request.app[keys.STORE].polls.get(key, poll_id)
    casts.note_anonymity(request, poll["settings"])
    if poll["standing_session"] is None:
        raise Conflict("Votes in this poll are cast in its sessions, under /api/v1.")
    return Voting(key, poll, poll["standing_session"])
