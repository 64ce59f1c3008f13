"""Submissions to a session (docs/api.md, sections 4 and 5)."""

from functools import partial

from aiohttp import web

from schemas.polling import SUBMISSIONS
from service import casting
from service.polling import bodies, lookups
from service.polling.responses import polling_response
from service.rules import policy, views
from service.rules.policy import Caller
from service.web import pagination
from service.web.call import CALL
from service.web.store_key import STORE
from storage.documents import BallotDocument, RightsState, rights_state
from storage.errors import NotFound
from storage.pagination import Page


async def list_submissions(request: web.Request) -> web.Response:
    """List the submissions to a session.

    For managers of the poll. Does not tell who submitted, where names are not saved.
    """
    caller = await lookups.read_caller(request, policy.READ)
    paging = pagination.read_paging(request)
    session = await lookups.find_managed_session(request, caller, "poll_session_id")
    view = await lookups.view_with_ballot(request, caller, session)
    page: Page[BallotDocument] = Page([])
    if view.sees_all_submissions:
        page = await request.app[STORE].ballots.of_session(session["_id"], paging.window)
    headers = pagination.link_header(request, paging, page)
    data = [
        views.submission(ballot, session["rules"], author_id=view.author_of(ballot))
        for ballot in page.rows
    ]
    return polling_response(request, {SUBMISSIONS.plural: data}, headers=headers)


async def show_submission(request: web.Request) -> web.Response:
    """Get a submission.

    For managers of the poll and the author of the submission; other callers get 404. Does not tell
    managers who submitted it, where names are not saved.
    """
    caller = await lookups.read_caller(request, policy.READ)
    session = await lookups.find_session(request, "poll_session_id")
    number = lookups.read_path_id(request, "id")
    ballot = await request.app[STORE].ballots.get(session["_id"], number)
    view = await lookups.view_with_ballot(request, caller, session)
    author_id = view.author_of(ballot)
    if not (view.is_manager and view.sees_all_submissions) and author_id is None:
        raise NotFound("There is no such poll submission.")
    data = views.submission(ballot, session["rules"], author_id=author_id)
    return polling_response(request, {SUBMISSIONS.plural: [data]})


async def create_submission(request: web.Request) -> web.Response:
    """Submit a choice to an open session.

    For readers of the session. In a poll that takes several choices, send one object for each. Does
    not take a second submission of a user, unless the poll allows revoting: then it replaces the
    first.
    """
    principal = request[CALL].principal
    checked = await _require_voter(request)
    sent = await bodies.read_submission(request, SUBMISSIONS)
    outcome = await casting.cast(
        request,
        casting.POLLING._replace(
            option_fields=sent.option_fields, comment_field=sent.comment_field
        ),
        lookups.read_path_id(request, "poll_session_id"),
        sent.options,
        comment=sent.comment,
        idempotency_key=sent.idempotency_key,
        rights_state=checked,
        check_rights=partial(_require_voter, request),
    )
    data = views.submission(
        outcome.ballot,
        outcome.rules,
        author_id=principal.user_id,
        is_known=policy.knows_own(principal, outcome.ballot, outcome.rules),
        is_sent=not outcome.is_replay,
    )
    return polling_response(request, {SUBMISSIONS.plural: [data]})


async def _require_voter(request: web.Request) -> RightsState | None:
    """Raises ``Forbidden`` unless the caller may vote in the session of the path.

    Returns what the right was checked on; None for callers that may vote in any. The session is
    read before the enrollments: if one of them ends in between, the session is another one then.
    """
    principal = lookups.require_action(request, policy.VOTE)
    session = await lookups.find_session(request, "poll_session_id")
    casting.note_anonymity(request, session["rules"]["settings"])
    if principal.is_admin:
        return None
    caller = Caller(principal)
    if session["course_id"] is not None:  # else enrollments do not matter
        caller = await lookups.read_caller(request, policy.VOTE)
    policy.require(policy.view_of(caller, session).may_vote, policy.NO_SESSION_ACCESS)
    return rights_state(session)
