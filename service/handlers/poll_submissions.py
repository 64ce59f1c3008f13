"""Submissions to a session (contract, sections 4 and 5)."""

from typing import Any

from aiohttp import web

from service import bodies, casts, keys, lookups, pagination, policy, responses, views
from service.forms import Resource
from service.policy import Caller
from storage.documents import BallotDocument, ContainerKey, SessionDocument
from storage.errors import NotFound

SUBMISSION = Resource("poll_submissions", "poll_submission")


async def list_submissions(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.READ)
    paging = pagination.read_paging(request)
    session = await lookups.find_session(request, "poll_session_id")
    policy.require_manager(caller, ContainerKey.of(session["container"]), session["owner_id"])
    page = await request.app[keys.STORE].ballots.of_session(session["_id"], paging.window)
    headers = pagination.link_header(request, paging, page)
    shown = [show(request, ballot, session) for ballot in page.rows]
    return responses.polling_response(request, {SUBMISSION.plural: shown}, headers=headers)


async def show_submission(request: web.Request) -> web.Response:
    """Others than managers and its author are told that there is none."""
    caller = await lookups.read_caller(request, policy.READ)
    session = await lookups.find_session(request, "poll_session_id")
    number = lookups.read_path_id(request, "id")
    ballot = await request.app[keys.STORE].ballots.get(session["_id"], number)
    is_manager = policy.manages(caller, ContainerKey.of(session["container"]), session["owner_id"])
    if not is_manager and _author_id(request, ballot, session) is None:
        raise NotFound("There is no such poll submission.")
    return _respond(request, show(request, ballot, session))


def show(request: web.Request, ballot: BallotDocument, session: SessionDocument) -> dict[str, Any]:
    """What the caller, a manager or its author, sees of a submission."""
    author_id = _author_id(request, ballot, session)
    return views.submission(ballot, session["rules"], author_id=author_id)


def _author_id(
    request: web.Request, ballot: BallotDocument, session: SessionDocument
) -> int | None:
    """The caller, where the ballot is the caller's own and may be known to be."""
    principal = request[keys.CALL].principal
    own_id = request.app[keys.STORE].ballots.id_of(session["_id"], principal.user_id)
    is_shown = policy.sees_own_choice(principal, ballot, session["rules"])
    return principal.user_id if ballot["_id"] == own_id and is_shown else None


async def create_submission(request: web.Request) -> web.Response:
    principal = request[keys.CALL].principal
    policy.require_action(principal, policy.VOTE)
    session = await lookups.find_session(request, "poll_session_id")
    casts.note_anonymity(request, session["rules"]["settings"])
    caller = Caller(principal)
    if not principal.is_admin and not principal.is_acting:
        caller = await lookups.read_caller(request, policy.VOTE)
    policy.require_voter(caller, session)
    options, comment, cast_key = await bodies.read_submission(request, SUBMISSION)
    outcome = await casts.cast(
        request, casts.POLLING, session["_id"], options, comment=comment, cast_key=cast_key
    )
    shown = views.submission(outcome.ballot, outcome.rules, author_id=principal.user_id)
    if not policy.sees_own_choice(principal, outcome.ballot, outcome.rules):
        # Under its number an admin would find later what the user changes the vote to.
        shown["id"] = None
    return _respond(request, shown)


def _respond(request: web.Request, shown: dict[str, Any]) -> web.Response:
    return responses.polling_response(request, {SUBMISSION.plural: [shown]})
