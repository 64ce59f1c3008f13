"""What many operations share: parameters, headers, refusals, ways to bring a token."""

from http import HTTPStatus
from typing import Any

from schemas.shown import ProblemSchema
from service.openapi import examples
from service.openapi.fields import OPTION_ID, WHOLE_ID, either, text
from service.openapi.operation import Json
from service.openapi.page import ASSETS
from service.polling.responses import STRING_IDS
from service.web.responses import PROBLEM_TYPE

NAME: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
}
UUID: Json = {"type": "string", "format": "uuid"}


def _parameter(place: str, name: str, schema: Json, description: str, **more: Any) -> Json:
    return {"in": place, "name": name, "schema": schema, "description": description, **more}


PARAMETERS: dict[str, Json] = {
    # The content API.
    "Workspace": _parameter(
        "query",
        "workspace",
        NAME,
        "The key of the project, or the id of the space.",
        required=True,
        example="PLAT",
    ),
    "Content": _parameter(
        "query",
        "content",
        NAME,
        "The key of the issue, or the id of the page.",
        required=True,
        example="PLAT-254604",
    ),
    "Container": _parameter(
        "query",
        "container",
        {**NAME, "minLength": 0, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
        "The id of the macro on a page, where it is required; empty or absent where the content "
        "looks like the key of an issue, as `PLAT-254604`.",
    ),
    "PollIdAsked": _parameter(
        "query",
        "pollId",
        NAME,  # a new poll takes no notice of it, whatever it is
        "One poll alone, by its UUID.",
    ),
    "PollIdRequired": _parameter("query", "pollId", UUID, "The poll.", required=True),
    "Expand": _parameter(
        "query",
        "expand",
        {"type": "string", "enum": ["results"]},
        "Adds `results` to each poll whose results the caller may see.",
    ),
    # The polling API.
    "IncludeSubmissions": _parameter(
        "query",
        "include[]",
        {"type": "array", "items": {"type": "string"}},
        "`poll_submissions` shows the submissions to each session too.",
        style="form",
        explode=True,
    ),
    "Format": _parameter(
        "query",
        "format",
        {"type": "string", "enum": ["csv", "json"]},
        "CSV for spreadsheets, JSON for programs.",
        required=True,
    ),
    "Page": _parameter(
        "query",
        "page",
        either(
            WHOLE_ID,
            {"type": "string", "pattern": "^(bookmark:[A-Za-z0-9_-]+)?$"},
        ),
        "The number of a page, or the bookmark that the `Link` with `rel=next` of the page before "
        "holds.",
    ),
    "PerPage": _parameter(
        "query",
        "per_page",
        {"type": "integer", "minimum": 1, "default": 10},
        "How many rows a page has; more than 100 is taken as 100.",
    ),
    "Accept": _parameter(
        "header",
        "Accept",
        {"type": "string"},
        f"`{STRING_IDS}` makes every `id` and `*_id` of the answer a string.",
    ),
    # Both.
    "ActingFor": _parameter(
        "query",
        "as_user_id",
        WHOLE_ID,
        "The user whom an admin token acts for, in rights and in authorship.",
    ),
    "IfMatch": _parameter(
        "header",
        "If-Match",
        {"type": "string"},
        'The `ETag` of an earlier answer, as `"1-1"`: 412 if the poll has changed since. `*` or '
        "nothing: whatever it is now.",
    ),
    "IdempotencyKey": _parameter(
        "header",
        "Idempotency-Key",
        {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
        "Within 24 hours the same key from the same token gets the first answer again, and nothing "
        "new is made. Another request under that key is a 409.",
    ),
    "RequestId": _parameter(
        "header",
        "X-Request-Id",
        {"type": "string"},
        "Goes into the answer and the log, if it has 1 to 128 of the characters "
        "`A-Z a-z 0-9 . _ : / + = @ -`; otherwise a new one does.",
    ),
}

ID_IN_PATH: dict[str, tuple[Json, str]] = {
    "poll_id": (either(WHOLE_ID, UUID), "The number of a poll, or its UUID."),
    "poll_session_id": (WHOLE_ID, "The id of a session of this poll."),
    "course_id": (WHOLE_ID, "The id of a course."),
    "id": (WHOLE_ID, "The id."),
    "name": ({"type": "string", "minLength": 1}, "Anything: it is not looked at."),
    "asset": ({"enum": [*ASSETS]}, "The name of the file."),
}
"""Parameters of the path by name, unless ``PATH_PARAMETERS`` says more of one."""

PATH_PARAMETERS: dict[tuple[str, str], tuple[Json, str]] = {
    ("poll_choices", "id"): (
        either(WHOLE_ID, text(OPTION_ID)),
        "The id of a choice of this poll.",
    ),
    ("users", "id"): (either(WHOLE_ID, {"const": "self"}), "The id of a user, or `self`."),
}
"""By the part of the path before it, and its name."""

HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "The id of the request: the caller's, if sane, else a new one.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "ETag": {
        "description": "The revision of a single poll, unmoved by votes; for `If-Match`.",
        "schema": {"type": "string", "pattern": '^"[^"]+"$'},
        "example": '"1-1"',
    },
    "Link": {
        "description": "RFC 8288: absolute URLs, with `rel` `current`, `next`, `prev`, `first` and "
        "`last` as far as they exist.",
        "schema": {"type": "string"},
    },
    "Content-Disposition": {
        "description": "The name of the file.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which the same request may be sent again.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "RateLimit": {
        "description": "How many requests are left, and for how long.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "How many requests are allowed, and in how long.",
        "schema": {"type": "string"},
    },
    "Allow": {
        "description": "The methods that are allowed here.",
        "required": True,
        "schema": {"type": "string"},
    },
}

REFUSALS: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("A parameter, a header or the body is not as described; `errors` names each fault.", ()),
    403: ("No token, no valid one, or one whose owner may not do this. Never 401.", ()),
    404: ("What the path or the query names is not there.", ()),
    405: ("The route does not know this method.", ("Allow",)),
    408: ("The rest of the request did not come in time.", ()),
    409: ("The request contradicts what is stored; the problem says what.", ()),
    412: ("`If-Match` names another revision than the stored one.", ()),
    413: ("The body is larger than is read: 1 MiB, unless the service is told otherwise.", ()),
    415: ("The body is of a media type that is not read here.", ()),
    417: ("`Expect` asks for something, and the route does not know the method.", ()),
    429: (
        "Too many requests from this token or address.",
        ("Retry-After", "RateLimit", "RateLimit-Policy"),
    ),
    431: ("A header line is over 8,190 bytes, or all of them over 32 KiB.", ()),
    500: ("Something went wrong here; the answer says nothing of it, the log does.", ()),
    503: (
        "The database cannot be reached, or the service is stopping; nothing is half-done.",
        ("Retry-After",),
    ),
}
"""By status: when it is answered, and its headers beside ``X-Request-Id``."""

SECURITY_SCHEMES: dict[str, Json] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token, as `python -m service token create` prints it.",
    },
    "token": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "The same, as clients of the content API send it.",
    },
    "access_token": {
        "type": "apiKey",
        "in": "query",
        "name": "access_token",
        "description": "The same, as clients of the polling API may send it.",
    },
}


def refusal_name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")


def refusal(status: int) -> Json:
    description, headers = REFUSALS[status]
    phrase = HTTPStatus(status).phrase
    only: Json = {"properties": {"status": {"const": status}, "title": {"const": phrase}}}
    media: Json = {"schema": {"allOf": [ProblemSchema(), only]}}
    if status == 400:
        media["example"] = examples.PROBLEM
    return {
        "description": description,
        "headers": headers_of("X-Request-Id", *headers),
        "content": {PROBLEM_TYPE: media},
    }


def headers_of(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def parameter_of_path(path: str, name: str) -> Json:
    before = path.split("/")[path.split("/").index(f"{{{name}}}") - 1]
    schema, description = PATH_PARAMETERS.get((before, name), ID_IN_PATH[name])
    return _parameter("path", name, schema, description, required=True)
