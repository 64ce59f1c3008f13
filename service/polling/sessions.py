"""Sessions of a poll (docs/api.md, section 4)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web

from schemas.polling import NEW_SESSION, SESSION_CHANGES, SESSIONS
from service.live.events import respond_events
from service.live.links import respond_new_link
from service.polling import bodies, lookups
from service.polling import export as exports
from service.polling.responses import polling_response, revalidated
from service.rules import policy, validators, views
from service.rules.policy import Caller, View
from service.web import pagination, streams
from service.web.accept import accepts_events
from service.web.call import CALL, CLOCK, actor_of
from service.web.concurrency import EXPORT_LIMIT
from service.web.conditional import revised_response
from service.web.store_key import STORE
from storage.audit import Action
from storage.documents import BallotDocument, SessionDocument
from storage.errors import require
from storage.pagination import Page
from storage.sessions import subject_of

MAX_SUBMISSIONS = 1000
"""In an answer; longer lists are read page by page from ``poll_submissions``."""


async def list_sessions(request: web.Request) -> web.Response:
    """List the sessions of a poll, by id.

    For managers of the poll. Does not hold submissions, unless they are included, and of those not
    more than 1,000 in one answer: in the sessions that do not fit they are null.
    """
    caller = await lookups.read_caller(request, policy.READ)
    paging = pagination.read_paging(request)
    located = await lookups.find_managed_poll(request, caller)
    courses = policy.courses_of(caller.principal)
    page = await request.app[STORE].sessions.of_poll(located.poll["id"], paging.window, courses)
    return await _respond_page(request, caller, paging, page)


async def list_opened(request: web.Request) -> web.Response:
    """List the open sessions of the caller's courses and sections.

    For every user; those of all courses for an admin who asks with ``as_admin=true``. Does not list
    standing sessions of content polls, which have no course.
    """
    return await _list_reached(request, is_open=True)


async def list_closed(request: web.Request) -> web.Response:
    """List the closed sessions of the caller's courses and sections.

    For every user; those of all courses for an admin who asks with ``as_admin=true``. A session
    that was never opened counts as closed. Does not list standing sessions of content polls, which
    have no course.
    """
    return await _list_reached(request, is_open=False)


async def _list_reached(request: web.Request, *, is_open: bool) -> web.Response:
    caller = await lookups.read_caller(request, policy.READ)
    as_admin = lookups.read_as_admin(request)
    paging = pagination.read_paging(request, _is_place if as_admin else pagination.is_number)
    sessions = request.app[STORE].sessions
    if as_admin:
        page = await sessions.in_courses(paging.window, is_open=is_open)
    else:
        page = await sessions.within(policy.reach(caller), paging.window, is_open=is_open)
    return await _respond_page(request, caller, paging, page)


def _is_place(after: Any) -> bool:
    """Whether a decoded cursor is a course and a session in it."""
    return isinstance(after, list) and len(after) == 2 and all(map(pagination.is_number, after))


async def show_session(request: web.Request) -> web.Response:
    """Get a session, with its results if the caller may see them.

    For readers of the session. ``poll_submissions`` holds all submissions for callers that may see
    results, else the caller's own. Does not hold more than 1,000: then it is null, and the
    submissions are listed instead.
    """
    caller = await lookups.read_caller(request, policy.READ)
    session = await lookups.find_session(request)
    own = await request.app[STORE].ballots.find(session["_id"], caller.principal.user_id)
    shown = require(await _shown(request, caller, session, own), "poll session")
    policy.require(shown.view.may_read, policy.NO_SESSION_ACCESS)
    headers = revalidated(request, validators.of_session(*shown))
    return polling_response(request, {SESSIONS.plural: [views.session(*shown)]}, headers=headers)


async def show_results(request: web.Request) -> web.StreamResponse:
    """Get the results of a session, once or as they change.

    For readers of the session that may see them; otherwise, or not yet, the answer is a 403. With
    ``Accept: text/event-stream`` an event tells of each change, until the caller may not see them
    any more. Does not tell who voted.
    """
    caller = await lookups.read_caller(request, policy.READ)
    session = await lookups.find_session(request)
    view = await lookups.view_with_ballot(request, caller, session)
    policy.require(view.may_read, policy.NO_SESSION_ACCESS)
    policy.require_results(view)
    if accepts_events(request):
        return await respond_events(request, session["_id"], shown_results)
    return revised_response(request, views.session_results(session, view))


def shown_results(session: SessionDocument, view: View) -> dict[str, Any] | None:
    return views.session_results(session, view) if view.sees_results else None


async def create_session(request: web.Request) -> web.Response:
    """Create sessions of a poll in courses.

    For managers of the poll who teach the course. Up to 100 are created together, and answered in
    their order. A poll has at most 1,000 sessions: if not all fit, none is created. Does not open
    them.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    located = await lookups.find_managed_poll(request, caller)
    wanted, idempotency_key = await bodies.read_new(request, SESSIONS, NEW_SESSION)
    for session in wanted:
        policy.require_teaching(caller, session["course_id"])
    sessions = await request.app[STORE].sessions.create(
        located,
        wanted,
        lookups.teacher(caller),
        now=request.app[CLOCK](),
        idempotency_key=idempotency_key,
        actor=actor_of(request),
    )
    # A replay for an idempotency key answers the same, even if there are votes by now.
    data = [
        views.session(session, policy.view_of(caller, session), submissions=[])
        for session in sessions
    ]
    return polling_response(request, {SESSIONS.plural: data})


async def update_session(request: web.Request) -> web.Response:
    """Update a session.

    For managers of the poll. Does not change members that are left out, nor course and section once
    there are submissions, and does not open or close it.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    session = await lookups.find_managed_session(request, caller)
    changes = await bodies.read_changes(request, SESSIONS, SESSION_CHANGES)
    changed = await request.app[STORE].sessions.update(
        session["_id"], changes, lookups.teacher(caller), actor=actor_of(request)
    )
    return await _respond_changed(request, caller, changed)


async def open_session(request: web.Request) -> web.Response:
    """Open a session.

    For managers of the poll. Does not open other sessions of the poll, and changes nothing where it
    is open.
    """
    return await _publish(request, is_published=True)


async def close_session(request: web.Request) -> web.Response:
    """Close a session.

    For managers of the poll. Does not close other sessions of the poll, and changes nothing where
    it is closed.
    """
    return await _publish(request, is_published=False)


async def _publish(request: web.Request, *, is_published: bool) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    session = await lookups.find_managed_session(request, caller)
    changed = await request.app[STORE].sessions.set_published(
        session["_id"], is_published=is_published, actor=actor_of(request)
    )
    return await _respond_changed(request, caller, changed)


async def export_session(request: web.Request) -> web.StreamResponse:
    """Export the results of a session as a file.

    For managers of the poll. The file has the choices with their votes and percentages and, if
    names are saved, one row for each submission, all as of the same moment. While as many exports
    run as the service allows, the answer is a 503. Does not name voters where names are not saved.
    """
    caller = await lookups.read_caller(request, policy.READ)
    form = exports.read_format(request)
    session = await lookups.find_managed_session(request, caller)
    with request.app[EXPORT_LIMIT].admit():
        await request.app[STORE].audit.write(
            actor_of(request), Action.SESSION_EXPORTED, **subject_of(session)
        )
        async with request.app[STORE].exports.open(session["_id"]) as export:
            chunks = form.render(request, export)
            headers, seconds = form.headers(export), streams.STREAM_SECONDS
            return await streams.respond(request, headers, chunks, seconds=seconds)


async def create_link(request: web.Request) -> web.Response:
    """Make a link to the page of a session.

    For readers of the session; links that vote also need `vote`. Whoever has the link sees and does
    in a browser what a reader may, without a token, until it expires or the token ends; with
    `as_user_id` it is that user's. Does not let anybody manage the poll.
    """
    caller = await lookups.read_caller(request, policy.READ)
    session = await lookups.find_session(request)
    view = policy.view_of(caller, session)
    policy.require(view.may_read, policy.NO_SESSION_ACCESS)
    return await respond_new_link(request, session, view)


async def delete_session(request: web.Request) -> web.Response:
    """Delete a session, with its submissions.

    For managers of the poll. Does not delete the standing session of a content poll, and cannot be
    undone.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    session = await lookups.find_managed_session(request, caller)
    await request.app[STORE].sessions.delete(session["_id"], actor=actor_of(request))
    return web.Response(status=204)


async def _respond_changed(
    request: web.Request, caller: Caller, session: SessionDocument
) -> web.Response:
    own = await request.app[STORE].ballots.find(session["_id"], caller.principal.user_id)
    shown = require(await _shown(request, caller, session, own), "poll session")
    return polling_response(request, {SESSIONS.plural: [views.session(*shown)]})


async def _respond_page(
    request: web.Request, caller: Caller, paging: pagination.Paging, page: Page[SessionDocument]
) -> web.Response:
    included = ("include[]", "poll_submissions") in request[CALL].query
    numbers = [session["_id"] for session in page.rows]
    ballots = await request.app[STORE].ballots.find_all(numbers, caller.principal.user_id)
    data = []
    left = MAX_SUBMISSIONS
    for session in page.rows:
        own = ballots.get(session["_id"])
        if not included:
            data.append(views.session(session, policy.view_of(caller, session, own), None))
            continue
        shown = await _shown(request, caller, session, own, most=left)
        if shown is not None and shown.view.may_read:
            left -= len(shown.submissions or ())
            data.append(views.session(*shown))
    headers = pagination.link_header(request, paging, page)
    return polling_response(request, {SESSIONS.plural: data}, headers=headers)


class Shown(NamedTuple):
    """A session with the submissions that the caller may see.

    ``submissions`` is None if the caller sees none, or if there are too many for one answer.
    """

    session: SessionDocument
    view: View
    submissions: list[dict[str, Any]] | None


async def _shown(
    request: web.Request,
    caller: Caller,
    session: SessionDocument,
    own: BallotDocument | None,
    *,
    most: int = MAX_SUBMISSIONS,
) -> Shown | None:
    """What to answer of a session, with ``most`` submissions; None if it was deleted since.

    Results and submissions are of one moment: where both are shown, both are read again.
    """
    view = policy.view_of(caller, session, own)
    if not (view.sees_results and view.sees_submissions) or _are_too_many(session, view, most):
        return Shown(session, view, _submissions(session, view, [own] if own else [], most))
    store = request.app[STORE]
    own_id = store.ballots.id_of(session["_id"], view.user_id)
    only = None if view.sees_all_submissions else own_id
    found = await store.sessions.with_ballots(session["_id"], limit=MAX_SUBMISSIONS, ballot_id=only)
    if found is None:
        return None
    session, ballots = found
    mine = next((ballot for ballot in ballots if ballot["_id"] == own_id), None)
    if mine is not None or len(ballots) < MAX_SUBMISSIONS:
        own = mine  # else it may be one that was not read
    again = policy.view_of(caller, session, own)
    if again.sees_all_submissions and not view.sees_all_submissions:
        return await _shown(
            request, caller, session, own, most=most
        )  # they have just become visible
    return Shown(session, again, _submissions(session, again, ballots, most))


def _are_too_many(session: SessionDocument, view: View, most: int) -> bool:
    return view.sees_all_submissions and session["participants"] > most


def _submissions(
    session: SessionDocument, view: View, ballots: Sequence[BallotDocument], most: int
) -> list[dict[str, Any]] | None:
    """Those of ``ballots``, which the caller's own is among, that the caller may see."""
    if not view.sees_submissions or _are_too_many(session, view, most):
        return None
    if not view.sees_all_submissions:
        ballots = [] if view.own is None else [view.own]
    return [
        views.submission(ballot, session["rules"], author_id=view.author_of(ballot))
        for ballot in ballots
    ]
