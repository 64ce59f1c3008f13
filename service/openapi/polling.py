"""The operations of the polling API."""

from typing import Any

from marshmallow import Schema

from schemas import polling as received
from schemas import responses
from schemas.polling import CHOICES, ENROLLMENTS, POLLS, SESSIONS, SUBMISSIONS, Resource
from service.openapi.examples import EXAMPLES
from service.openapi.fields import form_of
from service.openapi.operation import (
    Answer,
    Content,
    Json,
    Operation,
    Operations,
    Refusals,
    Shape,
    json_answer,
    list_of,
)
from service.polling import paths
from service.polling.paths import API
from service.web.bodies import FORM, JSON, MULTIPART
from storage.errors import Code

FORMS = (
    "Fields may be named in every way that clients of this API use, with the plural or the "
    "singular name: `{0}[][member]`, `{0}[0][member]`, `{0}[member][]`, `{0}[member]`. Unknown and "
    "read-only members are ignored."
)
SHOWN: dict[Resource, Schema] = {
    POLLS: responses.SHOWN_POLL,
    CHOICES: responses.SHOWN_CHOICE,
    SESSIONS: responses.SHOWN_SESSION,
    SUBMISSIONS: responses.SHOWN_SUBMISSION,
}
"""How the objects of each resource are returned."""
GONE = Answer("Deleted.")
FILE = Answer(
    "The file.",
    {JSON: {"schema": responses.EXPORT}, "text/csv": {"schema": {"type": "string"}}},
    ("Content-Disposition",),
)
COURSE = json_answer("The course.", responses.COURSE)
USER = json_answer("The user.", responses.USER)
ENROLLMENT = json_answer("The enrollment.", responses.ENROLLMENT)
ENROLLED = json_answer("A page of enrollments.", list_of(responses.ENROLLMENT), "Link")


def _page(
    name: str, resource: Resource, *parameters: str, headers: tuple[str, ...] = ("Link",)
) -> Operation:
    """Answers with a page of objects."""
    description = f"A page of {resource.plural.replace('_', ' ')}."
    return Operation(name, _answer(resource, description, *headers), parameters)


def _one(
    name: str,
    resource: Resource,
    takes: Schema | None = None,
    refusals: Refusals | None = None,
    headers: tuple[str, ...] = (),
) -> Operation:
    """Answers with a list of one object; its body, if any, is one that ``takes`` accepts."""
    description = f"The {resource.singular.replace('_', ' ')}."
    answer = _answer(resource, description, *headers, minItems=1, maxItems=1)
    body = None if takes is None else _body(resource, takes)
    return Operation(name, answer, body=body, refusals=refusals or {})


def _answer(resource: Resource, description: str, *headers: str, **bounds: int) -> Answer:
    objects = list_of(SHOWN[resource], **bounds)
    shape = _object(resource.plural, objects, additionalProperties=False)
    return json_answer(description, shape, *headers)


def _object(name: str, shape: Shape, **more: Any) -> Json:
    return {"type": "object", "properties": {name: shape}, "required": [name], **more}


def _body(resource: Resource, schema: Schema) -> Content:
    """The same object as JSON, with either name, and as a form."""
    plural, singular = resource
    example = EXAMPLES[type(schema)]
    # All objects of a submission count, else only the first.
    many = resource is SUBMISSIONS
    items = {"items": schema} if many else {"prefixItems": [schema], "items": {"type": "object"}}
    objects = {"anyOf": [{"type": "array", "minItems": 1, **items}, schema]}
    either_name = [
        _object(plural, objects, title=plural),
        _object(singular, objects, title=singular, **{"not": {"required": [plural]}}),
    ]
    # Clients write enrollments in the singular.
    is_single = resource is ENROLLMENTS
    field = f"{singular}[{{}}]" if is_single else f"{plural}[][{{}}]"
    form = {
        "schema": {**form_of(schema, field, many=many), "description": FORMS.format(plural)},
        "example": {
            field.format(name): [str(value)] if many else _as_text(value)
            for name, value in example.items()
        },
    }
    json_example = {singular: example} if is_single else {plural: [example]}
    return {
        JSON: {"schema": {"anyOf": either_name}, "example": json_example},
        FORM: form,
        MULTIPART: form,
    }


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


FULL = {409: (Code.LIMIT_REACHED,)}
ENDED = {409: (Code.END_DATE_PASSED,)}
WRITES = {503: (Code.OUTCOME_UNKNOWN,)}
"""Of GETs that change something."""
A_CHOICE, A_SESSION = f"{paths.CHOICES}/{{id}}", f"{paths.SESSIONS}/{{id}}"
OPERATIONS: Operations = {
    f"GET {API}/polls": _page("listPolls", POLLS),
    f"POST {API}/polls": _one("createPoll", POLLS, received.NEW_POLL),
    f"GET {paths.POLL}": _one("getPoll", POLLS, headers=("ETag",)),
    f"PUT {paths.POLL}": _one("updatePoll", POLLS, received.POLL_CHANGES, FULL),
    f"DELETE {paths.POLL}": Operation("deletePoll", GONE),
    f"GET {paths.CHOICES}": _page("listPollChoices", CHOICES, headers=("Link", "ETag")),
    f"POST {paths.CHOICES}": _one("createPollChoice", CHOICES, received.NEW_CHOICE, FULL),
    f"GET {A_CHOICE}": _one("getPollChoice", CHOICES, headers=("ETag",)),
    f"PUT {A_CHOICE}": _one("updatePollChoice", CHOICES, received.CHOICE_CHANGES, FULL),
    f"DELETE {A_CHOICE}": Operation(
        "deletePollChoice", GONE, refusals={409: (Code.OPTION_HAS_VOTES,)}
    ),
    f"GET {paths.SESSIONS}": _page("listPollSessions", SESSIONS, "include"),
    f"POST {paths.SESSIONS}": _one("createPollSession", SESSIONS, received.NEW_SESSION, FULL),
    f"GET {A_SESSION}": _one("getPollSession", SESSIONS, headers=("ETag",)),
    f"PUT {A_SESSION}": _one(
        "updatePollSession",
        SESSIONS,
        received.SESSION_CHANGES,
        {409: (Code.SESSION_HAS_SUBMISSIONS, Code.STANDING_SESSION)},
    ),
    f"DELETE {A_SESSION}": Operation(
        "deletePollSession", GONE, refusals={409: (Code.STANDING_SESSION,)}
    ),
    f"GET {A_SESSION}/open": _one("openPollSession", SESSIONS, refusals={**ENDED, **WRITES}),
    f"PUT {A_SESSION}/open": _one("openPollSessionByPut", SESSIONS, refusals=ENDED),
    f"GET {A_SESSION}/close": _one("closePollSession", SESSIONS, refusals=WRITES),
    f"PUT {A_SESSION}/close": _one("closePollSessionByPut", SESSIONS),
    f"GET {A_SESSION}/export": Operation("exportPollSession", FILE, ("format",)),
    f"GET {API}/poll_sessions/opened": _page("listOpenedPollSessions", SESSIONS, "include"),
    f"GET {API}/poll_sessions/closed": _page("listClosedPollSessions", SESSIONS, "include"),
    f"GET {paths.SUBMISSIONS}": _page("listPollSubmissions", SUBMISSIONS),
    f"POST {paths.SUBMISSIONS}": _one(
        "createPollSubmission",
        SUBMISSIONS,
        received.NEW_SUBMISSION,
        {
            400: (Code.INVALID_VOTE, Code.ALREADY_VOTED),
            403: (Code.SESSION_CLOSED,),
            404: (Code.UNKNOWN_OPTION,),
        },
    ),
    f"GET {paths.SUBMISSIONS}/{{id}}": _one("getPollSubmission", SUBMISSIONS),
    f"GET {paths.COURSE}": Operation("getCourse", COURSE),
    f"GET {paths.COURSE}/enrollments": Operation("listEnrollments", ENROLLED),
    f"POST {paths.COURSE}/enrollments": Operation(
        "createEnrollment",
        ENROLLMENT,
        body=_body(ENROLLMENTS, received.NEW_ENROLLMENT),
    ),
    f"DELETE {paths.COURSE}/enrollments/{{id}}": Operation("deleteEnrollment", ENROLLMENT),
    f"GET {API}/users/{{id}}": Operation("getUser", USER),
}
