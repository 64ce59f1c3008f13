"""The operations of the polling API."""

from marshmallow import Schema

from schemas import polling as received
from schemas import responses
from schemas.links import NEW_LINK
from schemas.polling import CHOICES, ENROLLMENTS, POLLS, SESSIONS, SUBMISSIONS, Resource
from service.openapi.names import component_name
from service.openapi.operation import (
    Answer,
    Content,
    Either,
    Envelope,
    OneOrSeveral,
    Operation,
    Operations,
    Refusals,
    json_answer,
    json_content,
    list_of,
    live_answer,
)
from service.polling import paths
from service.polling.bodies import MAX_ENROLLMENTS, MAX_OBJECTS
from service.polling.paths import API
from service.web.bodies import JSON
from storage.errors import Code

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
    # Text comes first, since generated clients that know one type of answer take that for both.
    {"text/csv": {"schema": {"type": "string"}}, JSON: {"schema": responses.EXPORT}},
    ("Content-Disposition",),
)
RESULTS = live_answer(responses.RESULTS_OF_SESSION)
COURSE = json_answer("The course.", responses.COURSE)
USER = json_answer("The user.", responses.USER)
ENROLLMENT = json_answer("The enrollment.", responses.ENROLLMENT)
NEW_ENROLLMENTS = json_answer(
    "The enrollment, or several in their order.",
    OneOrSeveral("NewEnrollments", responses.ENROLLMENT, MAX_ENROLLMENTS),
)
# Clients write one in the singular.
ONE_ENROLLMENT = Envelope(
    "NewEnrollmentBody", ENROLLMENTS.singular, "Whom to enroll.", received.NEW_ENROLLMENT
)
SEVERAL_ENROLLMENTS = Envelope(
    "NewEnrollmentsBody",
    ENROLLMENTS.plural,
    "Whom to enroll, each once or more.",
    list_of(received.NEW_ENROLLMENT, minItems=1, maxItems=MAX_ENROLLMENTS),
)
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
    *,
    headers: tuple[str, ...] = (),
    parameters: tuple[str, ...] = (),
    most: int = 1,
) -> Operation:
    """Answers with a list of one object; its body, if any, has one that ``takes`` accepts.

    ``most`` is how many objects the body may have.
    """
    description = f"The {resource.singular.replace('_', ' ')}."
    answer = _answer(resource, description, *headers)
    body = None if takes is None else _body(resource, takes, most)
    return Operation(name, answer, parameters, body=body, refusals=refusals or {})


def _answer(resource: Resource, description: str, *headers: str) -> Answer:
    name = resource.plural.title().replace("_", "")
    found = list_of(SHOWN[resource])
    envelope = Envelope(name, resource.plural, "A list, also of one.", found, is_closed=True)
    return json_answer(description, envelope, *headers)


def _body(resource: Resource, takes: Schema, most: int = 1) -> Content:
    """The one form that new clients should send; the service reads others too."""
    name = f"{component_name(takes)}Body"
    description = "What to create." if name.startswith("New") else "What to change."
    objects = list_of(takes, minItems=1, maxItems=most)
    return json_content(Envelope(name, resource.plural, description, objects))


IF_MATCH = ("If-Match",)
FULL = {409: (Code.LIMIT_REACHED,)}
ENDED = {409: (Code.END_DATE_PASSED, Code.CONFLICT)}
WRITES = {503: (Code.OUTCOME_UNKNOWN,)}
"""Of GETs that change something."""
REACHED = ("include", "as_admin")
A_CHOICE, A_SESSION = f"{paths.CHOICES}/{{id}}", f"{paths.SESSIONS}/{{id}}"
OPERATIONS: Operations = {
    f"GET {API}/polls": _page("listPolls", POLLS, "as_admin"),
    f"POST {API}/polls": _one("createPoll", POLLS, received.NEW_POLL, most=MAX_OBJECTS),
    f"GET {paths.POLL}": _one("getPoll", POLLS, headers=("ETag",)),
    f"PUT {paths.POLL}": _one(
        "updatePoll", POLLS, received.POLL_CHANGES, FULL, parameters=IF_MATCH
    ),
    f"DELETE {paths.POLL}": Operation("deletePoll", GONE, ("now", *IF_MATCH)),
    f"GET {paths.CHOICES}": _page("listPollChoices", CHOICES, headers=("Link", "ETag")),
    f"POST {paths.CHOICES}": _one(
        "createPollChoice", CHOICES, received.NEW_CHOICE, FULL, most=MAX_OBJECTS
    ),
    f"GET {A_CHOICE}": _one("getPollChoice", CHOICES, headers=("ETag",)),
    f"PUT {A_CHOICE}": _one(
        "updatePollChoice", CHOICES, received.CHOICE_CHANGES, FULL, parameters=IF_MATCH
    ),
    f"DELETE {A_CHOICE}": Operation(
        "deletePollChoice", GONE, IF_MATCH, refusals={409: (Code.OPTION_HAS_VOTES,)}
    ),
    f"GET {paths.SESSIONS}": _page("listPollSessions", SESSIONS, "include"),
    f"POST {paths.SESSIONS}": _one(
        "createPollSession", SESSIONS, received.NEW_SESSION, FULL, most=MAX_OBJECTS
    ),
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
    f"GET {A_SESSION}/results": Operation(
        "getPollSessionResults", RESULTS, ("Last-Event-ID",), refusals={403: (Code.RESULTS_HIDDEN,)}
    ),
    f"POST {A_SESSION}/links": Operation(
        "createPollSessionLink",
        json_answer("The link.", responses.LINK),
        body=json_content(NEW_LINK),
    ),
    f"GET {API}/poll_sessions/opened": _page("listOpenedPollSessions", SESSIONS, *REACHED),
    f"GET {API}/poll_sessions/closed": _page("listClosedPollSessions", SESSIONS, *REACHED),
    f"GET {paths.SUBMISSIONS}": _page("listPollSubmissions", SUBMISSIONS),
    f"POST {paths.SUBMISSIONS}": _one(
        "createPollSubmission",
        SUBMISSIONS,
        received.NEW_SUBMISSION,
        {
            400: (Code.INVALID_VOTE, Code.ALREADY_VOTED),
            403: (Code.SESSION_CLOSED,),
            404: (Code.UNKNOWN_OPTION,),
            409: (Code.IDEMPOTENCY_KEY_OUTDATED, Code.LIMIT_REACHED),
        },
        most=MAX_OBJECTS,
    ),
    f"GET {paths.SUBMISSIONS}/{{id}}": _one("getPollSubmission", SUBMISSIONS),
    f"GET {paths.COURSE}": Operation("getCourse", COURSE),
    f"GET {paths.COURSE}/enrollments": Operation("listEnrollments", ENROLLED),
    f"POST {paths.COURSE}/enrollments": Operation(
        "createEnrollment",
        NEW_ENROLLMENTS,
        body=json_content(Either("Enroll", (ONE_ENROLLMENT, SEVERAL_ENROLLMENTS))),
    ),
    f"DELETE {paths.COURSE}/enrollments/{{id}}": Operation("deleteEnrollment", ENROLLMENT),
    f"GET {API}/users/{{id}}": Operation("getUser", USER),
}
