"""The complete URL table."""

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from service import keys
from service.handlers import (
    content_polls,
    content_votes,
    docs,
    enrollments,
    health,
    poll_choices,
    poll_sessions,
    poll_submissions,
    polls,
)

PUBLIC = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/{asset}"})
"""Routes that need no token."""


def _by_type(polls: Handler, votes: Handler) -> Handler:
    """The content API is one endpoint: its parameter ``type`` says what a request is about."""

    async def handle(request: web.Request) -> web.StreamResponse:
        is_vote = ("type", content_votes.VOTES) in request[keys.CALL].query
        return await (votes if is_vote else polls)(request)

    return handle


API = "/api/v1"
POLL = f"{API}/polls/{{poll_id}}"
CHOICES = f"{POLL}/poll_choices"
SESSIONS = f"{POLL}/poll_sessions"
SUBMISSIONS = f"{SESSIONS}/{{poll_session_id}}/poll_submissions"
COURSE = f"{API}/courses/{{course_id}}"

ROUTES: dict[str, dict[str, Handler]] = {
    "/healthz": {"GET": health.healthz},
    "/readyz": {"GET": health.readyz},
    "/metrics": {"GET": health.metrics},
    "/openapi.json": {"GET": docs.show_document},
    "/docs": {"GET": docs.show_page},
    "/docs/{asset}": {"GET": docs.show_asset},
    "/rest": {
        "GET": _by_type(content_polls.list_polls, content_votes.list_votes),
        "POST": _by_type(content_polls.create_poll, content_votes.cast_vote),
        "PUT": content_polls.replace_poll,
        "DELETE": _by_type(content_polls.delete_poll, content_votes.withdraw_vote),
    },
    f"{API}/polls": {"GET": polls.list_polls, "POST": polls.create_poll},
    POLL: {"GET": polls.show_poll, "PUT": polls.update_poll, "DELETE": polls.delete_poll},
    CHOICES: {"GET": poll_choices.list_choices, "POST": poll_choices.create_choice},
    f"{CHOICES}/{{id}}": {
        "GET": poll_choices.show_choice,
        "PUT": poll_choices.update_choice,
        "DELETE": poll_choices.delete_choice,
    },
    SESSIONS: {"GET": poll_sessions.list_sessions, "POST": poll_sessions.create_session},
    f"{SESSIONS}/{{id}}": {
        "GET": poll_sessions.show_session,
        "PUT": poll_sessions.update_session,
        "DELETE": poll_sessions.delete_session,
    },
    f"{SESSIONS}/{{id}}/open": {
        "GET": poll_sessions.open_session,
        "PUT": poll_sessions.open_session,
    },
    f"{SESSIONS}/{{id}}/close": {
        "GET": poll_sessions.close_session,
        "PUT": poll_sessions.close_session,
    },
    f"{SESSIONS}/{{id}}/export": {"GET": poll_sessions.export_session},
    SUBMISSIONS: {
        "GET": poll_submissions.list_submissions,
        "POST": poll_submissions.create_submission,
    },
    f"{SUBMISSIONS}/{{id}}": {"GET": poll_submissions.show_submission},
    f"{API}/poll_sessions/opened": {"GET": poll_sessions.list_opened},
    f"{API}/poll_sessions/closed": {"GET": poll_sessions.list_closed},
    COURSE: {"GET": enrollments.show_course},
    f"{COURSE}/enrollments": {
        "GET": enrollments.list_enrollments,
        "POST": enrollments.create_enrollment,
    },
    f"{COURSE}/enrollments/{{id}}": {"DELETE": enrollments.delete_enrollment},
    f"{API}/users/{{id}}": {"GET": enrollments.show_user},
}
# Callers of the source API keep its path and change the host.
ROUTES["/x1/{name}"] = ROUTES["/rest"]

UNSAFE_GETS = (poll_sessions.open_session, poll_sessions.close_session)
"""GETs that change something: whoever asks for the headers alone must not."""


def add_routes(router: web.UrlDispatcher) -> None:
    for path, methods in ROUTES.items():
        resource = router.add_resource(path)
        for method, handler in methods.items():
            resource.add_route(method, handler, expect_handler=_accept_expectation)
            if method == "GET" and handler not in UNSAFE_GETS:
                resource.add_route("HEAD", handler, expect_handler=_accept_expectation)


async def _accept_expectation(request: web.Request) -> None:
    """Asks for the body where the client waits for that; RFC 9110 lets a server ignore the rest."""
    expectation = request.headers.get("Expect", "").lower()
    if expectation == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The interim response is no part of the answer.
        request.writer.output_size = 0
