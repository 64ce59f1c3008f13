"""The URL table: which function answers which method of which path."""

import re

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from service import audit, people, tokens
from service.audit import AUDIT
from service.content import (
    copies,
    exporting,
    importing,
    links,
    live,
    queries,
    restores,
    votes,
)
from service.content import polls as content_polls
from service.content.endpoint import ENDPOINTS, TYPED_PATHS, ContentEndpoint
from service.live import files, page
from service.openapi import explorer
from service.polling import choices, enrollments, polls, sessions, submissions
from service.polling.paths import API, CHOICES, COURSE, POLL, SESSIONS, SUBMISSIONS
from service.tokens import TOKEN, TOKENS
from service.web import health

ROUTES: dict[str, dict[str, Handler]] = {
    "/": {"GET": explorer.show_index},
    "/healthz": {"GET": health.healthz},
    "/readyz": {"GET": health.readyz},
    "/metrics": {"GET": health.metrics},
    "/openapi.json": {"GET": explorer.show_document},
    "/docs": {"GET": explorer.show_page},
    "/docs/{asset}": {"GET": explorer.show_asset},
    "/rest/polls": {
        "GET": content_polls.list_polls,
        "POST": content_polls.create_poll,
        "PUT": content_polls.replace_poll,
        "DELETE": content_polls.delete_poll,
    },
    "/rest/votes": {
        "GET": votes.list_votes,
        "POST": votes.cast_vote,
        "DELETE": votes.withdraw_vote,
    },
    "/rest/query": {"POST": queries.query_polls},
    "/rest/results": {"GET": live.show_results},
    "/rest/links": {"POST": links.create_link},
    "/rest/copies": {"POST": copies.copy_poll},
    "/rest/export": {"GET": exporting.export_poll},
    "/rest/import": {"POST": importing.import_polls},
    "/rest/restore": {"POST": restores.restore_poll},
    "/p/{link}": {"GET": page.show_page, "POST": page.send_form},
    "/p/{link}/events": {"GET": page.follow_page},
    "/pages/{file}": {"GET": files.show_file},
    f"{API}/polls": {"GET": polls.list_polls, "POST": polls.create_poll},
    POLL: {"GET": polls.show_poll, "PUT": polls.update_poll, "DELETE": polls.delete_poll},
    CHOICES: {"GET": choices.list_choices, "POST": choices.create_choice},
    f"{CHOICES}/{{id}}": {
        "GET": choices.show_choice,
        "PUT": choices.update_choice,
        "DELETE": choices.delete_choice,
    },
    SESSIONS: {"GET": sessions.list_sessions, "POST": sessions.create_session},
    f"{SESSIONS}/{{id}}": {
        "GET": sessions.show_session,
        "PUT": sessions.update_session,
        "DELETE": sessions.delete_session,
    },
    f"{SESSIONS}/{{id}}/open": dict.fromkeys(("GET", "PUT"), sessions.open_session),
    f"{SESSIONS}/{{id}}/close": dict.fromkeys(("GET", "PUT"), sessions.close_session),
    f"{SESSIONS}/{{id}}/export": {"GET": sessions.export_session},
    f"{SESSIONS}/{{id}}/results": {"GET": sessions.show_results},
    f"{SESSIONS}/{{id}}/links": {"POST": sessions.create_link},
    SUBMISSIONS: {
        "GET": submissions.list_submissions,
        "POST": submissions.create_submission,
    },
    f"{SUBMISSIONS}/{{id}}": {"GET": submissions.show_submission},
    f"{API}/poll_sessions/opened": {"GET": sessions.list_opened},
    f"{API}/poll_sessions/closed": {"GET": sessions.list_closed},
    COURSE: {"GET": enrollments.show_course},
    f"{COURSE}/enrollments": {
        "GET": enrollments.list_enrollments,
        "POST": enrollments.create_enrollment,
    },
    f"{COURSE}/enrollments/{{id}}": {"DELETE": enrollments.delete_enrollment},
    f"{API}/users/{{id}}": {"GET": enrollments.show_user},
    TOKENS: {"GET": tokens.list_tokens, "POST": tokens.create_token},
    TOKEN: {"DELETE": tokens.revoke_token},
    AUDIT: {"GET": audit.list_entries},
    people.DATA: {"GET": people.export_data, "DELETE": people.erase_data},
    people.ERASURE: {"GET": people.show_erasure},
}
PARAMETER = re.compile(r"\{(\w+)\}")
SLASHED = ("/rest/", API, TOKENS, AUDIT, "/users/", "/erasures/")
"""The paths of the APIs, which may end in a slash."""
UNSAFE_GETS = (sessions.open_session, sessions.close_session)
"""GETs that change something: whoever asks for the headers alone must not."""

CASTS = frozenset(
    (
        *(votes.cast_vote, votes.withdraw_vote, submissions.create_submission),
        *(page.show_page, page.send_form, page.follow_page),
    )
)
"""What casts votes, also those without a name, or leads to it: the log must not tell who asked."""


def add_routes(router: web.UrlDispatcher) -> None:
    resources = {path: router.add_resource(_pattern(path)) for path in ROUTES}
    # After all others, which are matched first.
    slashed = {path: SlashedResource(path) for path in ROUTES if path.startswith(SLASHED)}
    for path, resource in [*resources.items(), *slashed.items()]:
        for method, handler in ROUTES[path].items():
            resource.add_route(method, handler, expect_handler=_accept_expectation)
            if method == "GET" and handler not in UNSAFE_GETS:
                resource.add_route("HEAD", handler, expect_handler=_accept_expectation)
    typed = {kind: resources[path] for kind, path in TYPED_PATHS.items()}
    for path in ENDPOINTS:
        router.register_resource(ContentEndpoint(path, typed))
        router.register_resource(ContentEndpoint(f"{path}/", typed))
    for resource in slashed.values():
        router.register_resource(resource)


class SlashedResource(web.DynamicResource):
    """A path with a slash at its end: the same resource, also in the log and the metrics."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{_pattern(path)}/")

    @property
    def canonical(self) -> str:
        return super().canonical.removesuffix("/")


def _pattern(path: str) -> str:
    """With names and ids of any characters: aiohttp's own pattern admits no braces."""
    return PARAMETER.sub(r"{\1:[^/]+}", path)


async def _accept_expectation(request: web.Request) -> None:
    """Asks for the body where the client waits for that; RFC 9110 lets a server ignore the rest."""
    expectation = request.headers.get("Expect", "").lower()
    if expectation == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The interim response is no part of the answer.
        request.writer.output_size = 0
