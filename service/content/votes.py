"""Votes in content polls: ``/rest/votes`` (docs/api.md, sections 3 and 5)."""

from collections.abc import Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from aiohttp import web

from schemas.content import NEW_VOTE
from service import casting
from service.content.query import read_poll_address
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import pagination, responses
from service.web.bodies import parse_json, read_idempotency_key, read_json_text
from service.web.call import CALL
from service.web.store_key import STORE
from storage.documents import BallotDocument, ContainerKey, PollDocument, SessionRules
from storage.errors import NoStandingSession

MAX_SHORT = 100
"""The longest body that is remembered once it is parsed. A faster answer may tell that somebody has
sent the same lately, so none with a comment is remembered."""


async def list_votes(request: web.Request) -> web.Response:
    """List the votes in a poll.

    For tokens with ``vote`` on the workspace. Callers with ``read`` and ``write`` as well get all
    votes, in pages, if names are saved; otherwise the list holds the caller's own vote only. Does
    not tell who cast a vote without a name.
    """
    paging = pagination.read_paging(request)
    poll = await _find_poll(request, *_require_address(request))
    poll_id, session_id = poll["id"], _require_session(poll["standing_session"])
    ballots, principal = request.app[STORE].ballots, request[CALL].principal
    session = await request.app[STORE].sessions.get(session_id)
    own = await ballots.find(session_id, principal.user_id)
    view = policy.view_of(Caller(principal), session, own)
    if not (view.sees_all_submissions and session["rules"]["settings"]["saveParticipantNames"]):
        mine = [own] if own is not None and view.has_voted else []
        data = [_own_vote(request, one, session["rules"], poll_id) for one in mine]
        return responses.json_response(data)
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
    # Where the session is known the poll is not read: casting finds out whether they still exist.
    key, poll_id = _require_address(request)
    known = request.app[STORE].ballots.known_session(key, poll_id)
    session_id = known or (await _find_poll(request, key, poll_id))["standing_session"]
    body, vote = _read_vote(await read_json_text(request))
    outcome = await casting.cast(
        request,
        casting.CONTENT,
        _require_session(session_id),
        vote["optionIds"],
        comment=vote["comment"],
        idempotency_key=read_idempotency_key(request, body),
        place=(key.id, poll_id),
        find_session=partial(_find_session, request, key, poll_id),
    )
    # The sender of a new vote knows it, even when acting for another user.
    is_sent = not outcome.is_replay
    data = _own_vote(request, outcome.ballot, outcome.rules, poll_id, is_sent=is_sent)
    return responses.json_response(data)


async def withdraw_vote(request: web.Request) -> web.Response:
    """Withdraw the caller's vote, if the poll has ``allowRevote``.

    For tokens with ``vote`` on the workspace. Does not withdraw votes of others, or any after the
    poll has closed.
    """
    key, poll_id = _require_address(request)
    poll = await _find_poll(request, key, poll_id)
    session_id = _require_session(poll["standing_session"])
    place = (key.id, poll_id)
    outcome = await casting.cast(request, casting.CONTENT, session_id, None, place=place)
    data = _own_vote(request, outcome.ballot, outcome.rules, poll["id"])
    return responses.json_response(data)


def _read_vote(raw: bytes) -> tuple[Any, Mapping[str, Any]]:
    """The body, and what its schema makes of it; raises ``ValidationError``.

    Most votes are one of a few short texts, which say nothing about who sent them.
    """
    is_remembered = len(raw) <= MAX_SHORT and b"comment" not in raw
    return _load_remembered(raw) if is_remembered else _load(raw)


def _load(raw: bytes) -> tuple[Any, Mapping[str, Any]]:
    body = parse_json(raw)
    return body, MappingProxyType(NEW_VOTE.load(body))


_load_remembered = lru_cache(maxsize=1024)(_load)


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


async def _find_poll(request: web.Request, key: ContainerKey, poll_id: str) -> PollDocument:
    poll = await request.app[STORE].polls.get(key, poll_id)
    casting.note_anonymity(request, poll["settings"])
    return poll


async def _find_session(request: web.Request, key: ContainerKey, poll_id: str) -> int:
    return _require_session((await _find_poll(request, key, poll_id))["standing_session"])


def _require_address(request: web.Request) -> tuple[ContainerKey, str]:
    """The container and the id of the poll, where the caller may vote."""
    key, poll_id = read_poll_address(request, "votes")
    policy.require_content(request[CALL].principal, policy.VOTE, key, poll_id)
    return key, poll_id


def _require_session(number: int | None) -> int:
    """The standing session; raises ``NoStandingSession``, a conflict: a bad body comes before."""
    if number is None:
        raise NoStandingSession(
            "This poll takes no votes here: vote in its sessions under /api/v1."
        )
    return number
