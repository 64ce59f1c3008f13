"""Sessions of a poll (contract, section 4)."""

from datetime import datetime
from typing import Any

from aiohttp import web

from schemas.polling import NEW_SESSION, SESSION_CHANGES
from service import bodies, keys, lookups, pagination, policy, responses, views
from service.forms import Resource
from service.policy import Caller
from storage.documents import ContainerKey, SessionDocument, is_open
from storage.pages import Page

SESSION = Resource("poll_sessions", "poll_session")


async def list_sessions(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.READ)
    paging = pagination.read_paging(request)
    located = await lookups.find_managed_poll(request, caller)
    page = await request.app[keys.STORE].sessions.of_poll(located.poll["id"], paging.window)
    return _respond_page(request, caller, paging, page)


async def list_opened(request: web.Request) -> web.Response:
    return await _list_reached(request, is_open=True)


async def list_closed(request: web.Request) -> web.Response:
    return await _list_reached(request, is_open=False)


async def _list_reached(request: web.Request, *, is_open: bool) -> web.Response:
    caller = await lookups.read_caller(request, policy.READ)
    paging = pagination.read_paging(request)
    page = await request.app[keys.STORE].sessions.within(
        policy.reach(caller.enrollments),
        paging.window,
        open_at=request.app[keys.CLOCK](),
        is_open=is_open,
    )
    return _respond_page(request, caller, paging, page)


async def show_session(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.READ)
    located = await lookups.find_poll(request)
    session = await lookups.find_session(request, located)
    policy.require_session_reader(caller, session)
    return _respond(request, caller, session)


async def create_session(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located = await lookups.find_managed_poll(request, caller)
    wanted, idempotency_key = await bodies.read_new(request, SESSION, NEW_SESSION)
    policy.require_teaching(caller, wanted["course_id"])
    session = await request.app[keys.STORE].sessions.create(
        located, **wanted, now=request.app[keys.CLOCK](), idempotency_key=idempotency_key
    )
    return _respond(request, caller, session)


async def update_session(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located, session = await lookups.find_managed_session(request, caller)
    changes = await bodies.read_changes(request, SESSION, SESSION_CHANGES)
    if changes.get("course_id", session["course_id"]) != session["course_id"]:
        policy.require_teaching(caller, changes["course_id"])
    sessions = request.app[keys.STORE].sessions
    changed = await sessions.update(located.poll["id"], session["_id"], changes)
    return _respond(request, caller, changed)


async def open_session(request: web.Request) -> web.Response:
    return await _publish(request, is_published=True)


async def close_session(request: web.Request) -> web.Response:
    return await _publish(request, is_published=False)


async def _publish(request: web.Request, *, is_published: bool) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located, session = await lookups.find_managed_session(request, caller)
    sessions, now = request.app[keys.STORE].sessions, request.app[keys.CLOCK]()
    changed = await sessions.set_published(
        located.poll["id"], session["_id"], now, is_published=is_published
    )
    return _respond(request, caller, changed)


async def delete_session(request: web.Request) -> web.Response:
    caller = await lookups.read_caller(request, policy.WRITE)
    located, session = await lookups.find_managed_session(request, caller)
    await request.app[keys.STORE].sessions.delete(located.poll["id"], session["_id"])
    return web.Response(status=204)


def _respond(request: web.Request, caller: Caller, session: SessionDocument) -> web.Response:
    shown = _show(session, caller, request.app[keys.CLOCK](), with_submissions=True)
    return responses.polling_response(request, {SESSION.plural: [shown]})


def _respond_page(
    request: web.Request, caller: Caller, paging: pagination.Paging, page: Page[SessionDocument]
) -> web.Response:
    now = request.app[keys.CLOCK]()
    included = ("include[]", "poll_submissions") in request[keys.QUERY]
    shown = [_show(one, caller, now, with_submissions=included) for one in page.rows]
    headers = pagination.link_header(request, paging, page)
    return responses.polling_response(request, {SESSION.plural: shown}, headers=headers)


def _show(
    session: SessionDocument, caller: Caller, now: datetime, *, with_submissions: bool
) -> dict[str, Any]:
    key = ContainerKey.of(session["container"])
    is_manager = policy.manages(caller, key, session["owner_id"])
    sees_results = policy.sees_results(
        session, is_manager=is_manager, is_open=is_open(session, now), has_voted=False
    )
    return views.session(
        session,
        now,
        is_manager=is_manager,
        sees_results=sees_results,
        submissions=[] if with_submissions else None,
    )
