"""What operations share: parameters, headers, refusals and security schemes."""

import re
from http import HTTPStatus
from typing import Any

from schemas.fields import OPTION_ID
from schemas.responses import ProblemSchema
from service.live.files import FILES
from service.openapi.examples import EXAMPLES
from service.openapi.explorer import ASSETS
from service.openapi.fields import GIVEN_USER, MOMENT, SHOWN_USER, STRING, WHOLE_ID, either, text
from service.openapi.operation import Json
from service.polling.export import FORMATS
from service.web.pagination import DEFAULT_LIMIT, DEFAULT_PER_PAGE, MAX_PER_PAGE
from service.web.responses import PROBLEM_TYPE
from storage.errors import Code

NAME = text(r"[^\u0000-\u001f\u007f-\u009f]+", minLength=1, maxLength=255)
NAME_OR_EMPTY = text(r"[^\u0000-\u001f\u007f-\u009f]*", maxLength=255)
UUID: Json = {**STRING, "format": "uuid"}
PAGE = either(WHOLE_ID, text("(bookmark:[A-Za-z0-9_-]+)?"))
IDEMPOTENCY_KEY = text("[!-~]([ -~]{0,253}[!-~])?")
PER_PAGE: Json = {"type": "integer", "minimum": 1, "default": DEFAULT_PER_PAGE}
REQUEST_ID: Json = {**STRING, "minLength": 1, "maxLength": 128}


def _of(schema: Json, description: str, **more: Any) -> Json:
    return {"schema": schema, "description": description, **more}


def _one_of(*values: str) -> Json:
    return {**STRING, "enum": [*values]}


IN_QUERY: dict[str, Json] = {
    # The content API.
    "workspace": _of(
        NAME, "The key of a project, or the id of a space.", required=True, example="PLAT"
    ),
    "content": _of(
        NAME, "The key of an issue, or the id of a page.", required=True, example="PLAT-254604"
    ),
    "container": _of(
        NAME_OR_EMPTY,
        "The id of the macro on a page. Required unless `content` is an issue key, such as "
        "`PLAT-254604`; then it must be empty or absent.",
    ),
    "pollId": _of(UUID, "The id of the poll.", required=True),
    "onlyPollId": _of(UUID, "Return this poll only.", name="pollId"),
    "contentOfPolls": _of(
        NAME,
        "The key of an issue, or the id of a page. Left out, the polls of the workspace are "
        "listed; then `container` and `pollId` must be absent.",
        name="content",
        example="PLAT-254604",
    ),
    "anyPollId": _of(
        either(UUID, WHOLE_ID), "The id of the poll, or its number.", name="pollId", required=True
    ),
    "deletedPollId": _of(
        either(UUID, WHOLE_ID),
        "The id of the deleted poll, or its number.",
        name="pollId",
        required=True,
    ),
    "now": _of(
        {"type": "boolean"}, "Whether the poll is purged at once, so that it cannot be restored."
    ),
    "auditedPollId": _of(UUID, "Only what was done to this poll.", name="pollId"),
    "since": _of(text(f"({MOMENT})", maxLength=255), "Only what was done at this time or later."),
    "expand": _of(
        _one_of("results", "vote", "results,vote", "vote,results"),
        "`results` adds them to each poll, if the caller may see them; `vote` the caller's own "
        "vote, and what the caller may do now.",
    ),
    "state": _of(
        _one_of("open", "closed"), "In the list of a workspace, only polls that are open, or not."
    ),
    "updatedSince": _of(
        text(f"({MOMENT})", maxLength=255),
        "In the list of a workspace, only polls that were changed, opened or closed at this time "
        "or later, the longest unchanged first.",
    ),
    "createdBy": _of(
        SHOWN_USER,
        "In the list of a workspace, only polls that this user created.",
    ),
    "limit": _of(
        # Without a default: generated clients would send it with every request.
        {"type": "integer", "minimum": 1},
        f"Rows per page of a list that has `nextCursor`, {DEFAULT_LIMIT} unless given; over "
        f"{MAX_PER_PAGE} counts as {MAX_PER_PAGE}.",
    ),
    "cursor": _of(
        text("[A-Za-z0-9_-]+", maxLength=255),
        "The `nextCursor` of the page before.",
    ),
    # The polling API.
    "include": _of(
        {"type": "array", "items": STRING},
        "`poll_submissions` adds the submissions to each session, up to 1,000 in all.",
        name="include[]",
    ),
    # Data of users.
    "votes": _of(
        _one_of("anonymize", "withdraw"),
        "`anonymize`: the votes of the user still count, without name, comment and time. "
        "`withdraw`: they are removed, and their counts with them.",
        required=True,
    ),
    "format": _of(_one_of(*FORMATS), "CSV for spreadsheets, JSON for programs.", required=True),
    "as_admin": _of({"type": "boolean"}, "For admins: those of all users, not only their own."),
    # Both.
    "page": _of(PAGE, "A page number, or the cursor in the `next` link of the previous page."),
    "per_page": _of(PER_PAGE, f"Items per page; over {MAX_PER_PAGE} counts as {MAX_PER_PAGE}."),
    "as_user_id": _of(
        GIVEN_USER,
        "The user to act for, with that user's rights and authorship: for admin tokens, and for "
        "tokens with the action `act` within their workspaces and courses.",
    ),
}
IN_HEADER: dict[str, Json] = {
    "If-Match": _of(
        STRING,
        'The `ETag` of an earlier response, such as `"1-1-5f2a91c0"`: 412 if the poll has changed '
        "since. `*` matches every version.",
    ),
    "If-None-Match": _of(
        STRING, "The `ETag` of an earlier response: 304 without a body if it is still the same."
    ),
    "Idempotency-Key": _of(
        IDEMPOTENCY_KEY,
        "For 24 hours, a repeated request with the same key and token gets the first response "
        "again and creates nothing new. A different request with that key is answered with 409.",
    ),
    "Last-Event-ID": _of(
        STRING,
        "The `id` of the last event of an earlier stream: the first event comes when the results "
        "are others.",
    ),
    "X-Request-Id": _of(
        STRING,
        "Identifies the request in the response and the log. Ignored unless it has 1 to 128 of the "
        "characters `A-Z a-z 0-9 . _ : / + = @ -`.",
    ),
}
PARAMETERS: dict[str, Json] = {
    name: {"in": place, "name": name, **parameter}
    for place, parameters in (("query", IN_QUERY), ("header", IN_HEADER))
    for name, parameter in parameters.items()
}

IN_PATH: dict[str, Json] = {
    "poll_id": _of(either(WHOLE_ID, UUID), "The number or the UUID of a poll."),
    "poll_session_id": _of(WHOLE_ID, "The id of a session of the poll."),
    "course_id": _of(WHOLE_ID, "The id of a course."),
    "poll_choices/id": _of(
        either(WHOLE_ID, text(OPTION_ID.pattern)), "The id of a choice of the poll."
    ),
    "poll_sessions/id": _of(WHOLE_ID, "The id of a session of the poll."),
    "poll_submissions/id": _of(WHOLE_ID, "The id of a submission to the session."),
    "enrollments/id": _of(WHOLE_ID, "The id of an enrollment in the course."),
    "users/id": _of(either(GIVEN_USER, _one_of("self")), "The id of a user, or `self`."),
    "link": _of(text("[A-Za-z0-9_.-]+"), "The end of the URL of a link."),
    "file": _of(_one_of(*FILES), "The name of the file."),
    "name": _of({**STRING, "minLength": 1, "maxLength": 100}, "The name of a live token."),
    "erasure_id": _of(UUID, "The id of an erasure."),
    "asset": _of(_one_of(*ASSETS), "The name of the file."),
}
"""Parameters of paths by name; ``id`` with the collection before it."""

HEADERS: dict[str, Json] = {
    "X-Request-Id": _of(REQUEST_ID, "The caller's id of the request, or a new one.", required=True),
    "ETag": _of(
        text('"[^"]+"'),
        "Changes with whatever the response shows, for `If-None-Match`. That of a single poll "
        "or choice names the version of the poll, for `If-Match`.",
        example='"1-1-5f2a91c0"',
    ),
    "Cache-Control": _of(
        STRING,
        "`no-store`, and for responses to `GET` with an `ETag` `private, no-cache`.",
        required=True,
    ),
    "Link": _of(
        STRING,
        "The absolute URLs of other pages (RFC 8288), with `rel` `current`, `next`, `prev`, "
        "`first` and `last`, as far as those pages exist.",
    ),
    "Location": _of(STRING, "The path of the erasure.", required=True),
    "Content-Disposition": _of(STRING, "The name of the file."),
    "Retry-After": _of(text("[0-9]+"), "Seconds to wait before a retry.", required=True),
    "RateLimit": _of(STRING, "The number of requests left, and for how many seconds."),
    "RateLimit-Policy": _of(STRING, "The number of requests allowed, and in how many seconds."),
}

REFUSALS: dict[int, str] = {
    400: "A parameter, a header or the body is invalid; `errors` lists each fault.",
    403: "The token is missing or invalid, or does not allow this. Never 401.",
    404: "What the path or the query refers to does not exist.",
    408: "The rest of the request did not arrive in time.",
    409: "The request conflicts with what is stored; the problem says how.",
    412: "`If-Match` names another version than the stored one.",
    413: "The body is too large. The limit is 1 MiB unless configured otherwise.",
    415: "The media type of the body is not supported.",
    429: "Too many requests from this token or address.",
    500: "An unexpected error. Only the log of the service says more.",
    503: "The database is unreachable or the service is stopping. Nothing is left half-done.",
}
SHARED: dict[frozenset[Code], str] = {
    frozenset({Code.TOKEN_REQUIRED, Code.BAD_TOKEN, Code.FORBIDDEN}): "Forbidden",
    frozenset({Code.UNAVAILABLE, Code.OUTCOME_UNKNOWN}): "MaybeStored",
}
"""Names of refusals that many operations have, with several codes."""
REFUSAL_HEADERS: dict[int, tuple[str, ...]] = {
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def _token_in_query(name: str, description: str) -> Json:
    return {"type": "apiKey", "in": "query", "name": name, "description": description}


SECURITY_SCHEMES: dict[str, Json] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token created with `python -m service token create` or `POST /tokens`.",
    },
    "token": _token_in_query("token", "The same token, for clients of the content API."),
    "access_token": _token_in_query("access_token", "The same token, for polling API clients."),
}


def refusal_name(operation_id: str, status: int, codes: frozenset[Code]) -> str:
    """The name of a response and of its schema, shared by all operations with the same codes."""
    if codes in SHARED:
        return SHARED[codes]
    if len(codes) == 1:
        return "".join(word.title() for word in next(iter(codes)).split("_"))
    phrase = HTTPStatus(status).phrase.title().replace(" ", "")
    return f"{operation_id[0].upper()}{operation_id[1:]}{phrase}"


def problem(shape: Json, codes: frozenset[Code]) -> Json:
    """``shape``, the schema of all problems, with these codes only."""
    code = {**shape["properties"]["code"], "enum": [code.value for code in Code if code in codes]}
    return {**shape, "properties": {**shape["properties"], "code": code}}


def refusal(name: str, status: int) -> Json:
    media: Json = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    if status == 400:
        media["example"] = EXAMPLES[ProblemSchema]
    return {
        "description": REFUSALS[status],
        "headers": headers_of(*REFUSAL_HEADERS.get(status, ())),
        "content": {PROBLEM_TYPE: media},
    }


def headers_of(*names: str) -> Json:
    """References to headers, with those that every answer has."""
    names = ("X-Request-Id", "Cache-Control", *names)
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def path_parameters(path: str) -> list[Json]:
    parameters = []
    for before, name in re.findall(r"([^/]+)/\{(\w+)\}", path):
        described = IN_PATH[f"{before}/{name}" if name == "id" else name]
        parameters.append({"in": "path", "name": name, "required": True, **described})
    return parameters
