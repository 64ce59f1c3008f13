"""The polling API: polls, choices, sessions and submissions, courses and users."""

from typing import Any

from marshmallow import Schema

from schemas.polling import (
    CHOICE_CHANGES,
    CHOICES,
    ENROLLMENTS,
    NEW_CHOICE,
    NEW_ENROLLMENT,
    NEW_POLL,
    NEW_SESSION,
    NEW_SUBMISSION,
    POLL_CHANGES,
    POLLS,
    SESSION_CHANGES,
    SESSIONS,
    SUBMISSIONS,
    Resource,
)
from schemas.shown import (
    COURSE,
    ENROLLMENT,
    EXPORT,
    SHOWN_CHOICE,
    SHOWN_POLL,
    SHOWN_SESSION,
    SHOWN_SUBMISSION,
    USER,
)
from service.openapi import examples
from service.openapi.fields import form_of
from service.openapi.operation import (
    JSON,
    Answer,
    Json,
    Operation,
    Operations,
    json_answer,
    list_of,
    member,
)
from service.polling import paths
from service.web.bodies import FORM, MULTIPART

FORMS = (
    "Fields may be written in every form that clients of this API send, under the plural or the "
    "singular name: `{0}[][member]`, `{0}[0][member]`, `{0}[member][]`, `{0}[member]`. Unknown and "
    "read-only members are ignored."
)
PAGES = ("Page", "PerPage")


def _body(resource: Resource, schema: Schema, example: Json, *, many: bool = False) -> Any:
    """The same object as JSON, under either name, and as a form."""
    plural, singular = resource
    # All objects count where there are many, else the first.
    objects: Json = {"type": "array", "minItems": 1}
    objects |= {"items": schema} if many else {"prefixItems": [schema], "items": {"type": "object"}}
    named: Json = {
        "title": plural,
        "type": "object",
        "properties": {plural: {"anyOf": [objects, schema]}},
        "required": [plural],
    }
    named_singly: Json = {
        "title": singular,
        "type": "object",
        "properties": {singular: {"anyOf": [objects, schema]}},
        "required": [singular],
        "not": {"required": [plural]},
    }
    single = resource is ENROLLMENTS
    written = f"{singular}[{{}}]" if single else f"{plural}[][{{}}]"
    form = {
        "schema": {**form_of(schema, written, many=many), "description": FORMS.format(plural)},
        "example": {
            written.format(name): [str(value)] if many else _as_field(value)
            for name, value in example.items()
        },
    }
    return {
        JSON: {
            "schema": {"anyOf": [named, named_singly]},
            "example": {singular: example} if single else {plural: [example]},
        },
        FORM: form,
        MULTIPART: form,
    }


def _as_field(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rows(
    resource: Resource, schema: Schema, example: Json, description: str, **more: Any
) -> Answer:
    """A list of rows in pages."""
    return json_answer(
        member(resource.plural, list_of(schema)),
        description,
        example={resource.plural: [example]},
        headers=("Link",),
        **more,
    )


def _row(resource: Resource, schema: Schema, example: Json, description: str) -> Answer:
    """One row, in the envelope that lists have too."""
    return json_answer(
        member(resource.plural, list_of(schema, minItems=1, maxItems=1)),
        description,
        example={resource.plural: [example]},
    )


GONE = Answer(description="Deleted.", status=204)


# Polls -----------------------------------------------------------------------------------------

POLL_ROW = _row(POLLS, SHOWN_POLL, examples.POLL, "The poll.")
CHOICE_ROW = _row(CHOICES, SHOWN_CHOICE, examples.CHOICE, "The choice.")
SESSION_ROW = _row(SESSIONS, SHOWN_SESSION, examples.SESSION, "The session.")
SUBMISSION_ROW = _row(SUBMISSIONS, SHOWN_SUBMISSION, examples.SUBMISSION, "The submission.")

QUESTION = {"question": "What is your favorite color?"}
SESSION_ROWS = _rows(SESSIONS, SHOWN_SESSION, examples.SESSION, "Sessions.")

POLL_OPERATIONS: Operations = {
    f"{paths.API}/polls": {
        "GET": Operation(
            id="listPolls",
            summary="List the polls that the caller made here",
            description="Newest first.",
            tag="Polls",
            parameters=PAGES,
            answer=_rows(POLLS, SHOWN_POLL, examples.POLL, "Polls."),
        ),
        "POST": Operation(
            id="createPoll",
            summary="Create a poll",
            description="For teachers and admins.",
            tag="Polls",
            body=_body(POLLS, NEW_POLL, QUESTION),
            answer=POLL_ROW,
            leads_to={
                name: {"path.poll_id": "$response.body#/polls/0/id"}
                for name in (
                    "getPoll",
                    "updatePoll",
                    "deletePoll",
                    "createPollChoice",
                    "listPollChoices",
                    "createPollSession",
                    "listPollSessions",
                )
            },
        ),
    },
    paths.POLL: {
        "GET": Operation(
            id="getPoll",
            summary="Get a poll",
            description="For its readers. `user_id` and `total_results` are for its managers.",
            tag="Polls",
            answer=POLL_ROW,
        ),
        "PUT": Operation(
            id="updatePoll",
            summary="Change a poll",
            description="For its managers. What is left out stays.",
            tag="Polls",
            body=_body(POLLS, POLL_CHANGES, QUESTION),
            answer=POLL_ROW,
            refusals=(409,),
        ),
        "DELETE": Operation(
            id="deletePoll",
            summary="Delete a poll, with its sessions and all submissions",
            description="For its managers.",
            tag="Polls",
            answer=GONE,
        ),
    },
}

CHOICE_OPERATIONS: Operations = {
    paths.CHOICES: {
        "GET": Operation(
            id="listPollChoices",
            summary="List the choices of a poll",
            description="By `position`. `is_correct` is for managers, and for a user who has "
            "submitted to a session that is closed now and may vote in no open one.",
            tag="Poll choices",
            parameters=PAGES,
            answer=_rows(CHOICES, SHOWN_CHOICE, examples.CHOICE, "Choices."),
        ),
        "POST": Operation(
            id="createPollChoice",
            summary="Add a choice to a poll",
            description="For managers of the poll; up to 100 choices.",
            tag="Poll choices",
            body=_body(CHOICES, NEW_CHOICE, {"text": "Red", "is_correct": False, "position": 1}),
            answer=CHOICE_ROW,
            leads_to={
                name: {
                    "path.poll_id": "$request.path.poll_id",
                    "path.id": "$response.body#/poll_choices/0/id",
                }
                for name in ("getPollChoice", "updatePollChoice", "deletePollChoice")
            },
        ),
    },
    f"{paths.CHOICES}/{{id}}": {
        "GET": Operation(
            id="getPollChoice",
            summary="Get a choice",
            tag="Poll choices",
            answer=CHOICE_ROW,
        ),
        "PUT": Operation(
            id="updatePollChoice",
            summary="Change a choice",
            description="For managers of the poll. What is left out stays.",
            tag="Poll choices",
            body=_body(CHOICES, CHOICE_CHANGES, {"text": "Green", "is_correct": True}),
            answer=CHOICE_ROW,
            refusals=(409,),
        ),
        "DELETE": Operation(
            id="deletePollChoice",
            summary="Delete a choice that has no votes",
            description="For managers of the poll.",
            tag="Poll choices",
            answer=GONE,
            refusals=(409,),
        ),
    },
}


# Sessions --------------------------------------------------------------------------------------


def _publishing(word: str, refusals: tuple[int, ...]) -> dict[str, Operation]:
    """Opening and closing, which clients ask for with ``GET``."""
    return {
        method: Operation(
            id=f"{word}PollSession{suffix}",
            summary=f"{word.capitalize()} a session",
            description="For managers of the poll. Asking again changes nothing more.",
            tag="Poll sessions",
            answer=SESSION_ROW,
            refusals=refusals,
        )
        for method, suffix in (("GET", ""), ("PUT", "ByPut"))
    }


SESSION_OPERATIONS: Operations = {
    paths.SESSIONS: {
        "GET": Operation(
            id="listPollSessions",
            summary="List the sessions of a poll",
            description="For managers of the poll, by id.",
            tag="Poll sessions",
            parameters=(*PAGES, "IncludeSubmissions"),
            answer=SESSION_ROWS,
        ),
        "POST": Operation(
            id="createPollSession",
            summary="Create a session of a poll in a course",
            description="For managers of the poll who teach the course. It is not open yet.",
            tag="Poll sessions",
            body=_body(
                SESSIONS,
                NEW_SESSION,
                {"course_id": 1111, "course_section_id": 444, "has_public_results": True},
            ),
            answer=SESSION_ROW,
            leads_to={
                name: {
                    "path.poll_id": "$request.path.poll_id",
                    f"path.{parameter}": "$response.body#/poll_sessions/0/id",
                }
                for name, parameter in (
                    ("getPollSession", "id"),
                    ("updatePollSession", "id"),
                    ("deletePollSession", "id"),
                    ("openPollSession", "id"),
                    ("openPollSessionByPut", "id"),
                    ("closePollSession", "id"),
                    ("closePollSessionByPut", "id"),
                    ("createPollSubmission", "poll_session_id"),
                    ("listPollSubmissions", "poll_session_id"),
                )
            },
        ),
    },
    f"{paths.SESSIONS}/{{id}}": {
        "GET": Operation(
            id="getPollSession",
            summary="Get a session, and its results",
            description="For readers of the session. `poll_submissions` are all of them for who "
            "may see results, else the caller's own; over 1,000 they are null, and the listing "
            "of submissions has them.",
            tag="Poll sessions",
            answer=SESSION_ROW,
        ),
        "PUT": Operation(
            id="updatePollSession",
            summary="Change a session",
            description="For managers of the poll. What is left out stays. Once there are "
            "submissions, course and section stay.",
            tag="Poll sessions",
            body=_body(SESSIONS, SESSION_CHANGES, {"has_public_results": True}),
            answer=SESSION_ROW,
            refusals=(409,),
        ),
        "DELETE": Operation(
            id="deletePollSession",
            summary="Delete a session, with its submissions",
            description="For managers of the poll.",
            tag="Poll sessions",
            answer=GONE,
            refusals=(409,),
        ),
    },
    f"{paths.SESSIONS}/{{id}}/open": _publishing("open", (409,)),
    f"{paths.SESSIONS}/{{id}}/close": _publishing("close", ()),
    f"{paths.SESSIONS}/{{id}}/export": {
        "GET": Operation(
            id="exportPollSession",
            summary="Export the results of a session as a file",
            description="For managers of the poll: choices with their votes and shares and, where "
            "names are saved, one row a submission. All of it is of one moment.",
            tag="Poll sessions",
            parameters=("Format",),
            answer=Answer(
                description="The file.",
                content={
                    JSON: {"schema": EXPORT},
                    "text/csv": {"schema": {"type": "string"}},
                },
                headers=("Content-Disposition",),
            ),
        ),
    },
    f"{paths.API}/poll_sessions/opened": {
        "GET": Operation(
            id="listOpenedPollSessions",
            summary="List the open sessions of the caller's courses and sections",
            tag="Poll sessions",
            parameters=(*PAGES, "IncludeSubmissions"),
            answer=SESSION_ROWS,
        ),
    },
    f"{paths.API}/poll_sessions/closed": {
        "GET": Operation(
            id="listClosedPollSessions",
            summary="List the closed sessions of the caller's courses and sections",
            description="One that was never opened counts as closed.",
            tag="Poll sessions",
            parameters=(*PAGES, "IncludeSubmissions"),
            answer=SESSION_ROWS,
        ),
    },
}

SUBMISSION_OPERATIONS: Operations = {
    paths.SUBMISSIONS: {
        "GET": Operation(
            id="listPollSubmissions",
            summary="List the submissions to a session",
            description="For managers of the poll.",
            tag="Poll submissions",
            parameters=PAGES,
            answer=_rows(SUBMISSIONS, SHOWN_SUBMISSION, examples.SUBMISSION, "Submissions."),
        ),
        "POST": Operation(
            id="createPollSubmission",
            summary="Submit a choice to an open session",
            description="For readers of the session, once a user, unless the poll allows to "
            "revote. In a poll that takes several choices send an object for each.",
            tag="Poll submissions",
            body=_body(SUBMISSIONS, NEW_SUBMISSION, {"poll_choice_id": 155}, many=True),
            answer=SUBMISSION_ROW,
            leads_to={
                "getPollSubmission": {
                    "path.poll_id": "$request.path.poll_id",
                    "path.poll_session_id": "$request.path.poll_session_id",
                    "path.id": "$response.body#/poll_submissions/0/id",
                }
            },
        ),
    },
    f"{paths.SUBMISSIONS}/{{id}}": {
        "GET": Operation(
            id="getPollSubmission",
            summary="Get a submission",
            description="For managers of the poll and its author; to others it is not there.",
            tag="Poll submissions",
            answer=SUBMISSION_ROW,
        ),
    },
}


# Courses and users -----------------------------------------------------------------------------

COURSE_OPERATIONS: Operations = {
    paths.COURSE: {
        "GET": Operation(
            id="getCourse",
            summary="Get a course",
            description="For who is enrolled there, and admins.",
            tag="Courses and users",
            answer=json_answer(COURSE, "The course.", example=examples.COURSE),
        ),
    },
    f"{paths.COURSE}/enrollments": {
        "GET": Operation(
            id="listEnrollments",
            summary="List who is enrolled in a course",
            description="For admins.",
            tag="Courses and users",
            parameters=PAGES,
            answer=json_answer(
                list_of(ENROLLMENT),
                "Enrollments.",
                example=[examples.ENROLLMENT],
                headers=("Link",),
            ),
        ),
        "POST": Operation(
            id="createEnrollment",
            summary="Enroll a user in a course",
            description="For admins. Who is enrolled already stays so.",
            tag="Courses and users",
            body=_body(ENROLLMENTS, NEW_ENROLLMENT, {"user_id": 4555, "type": "StudentEnrollment"}),
            answer=json_answer(ENROLLMENT, "The enrollment.", example=examples.ENROLLMENT),
            leads_to={
                "deleteEnrollment": {
                    "path.course_id": "$request.path.course_id",
                    "path.id": "$response.body#/id",
                }
            },
        ),
    },
    f"{paths.COURSE}/enrollments/{{id}}": {
        "DELETE": Operation(
            id="deleteEnrollment",
            summary="End an enrollment",
            description="For admins.",
            tag="Courses and users",
            answer=json_answer(ENROLLMENT, "The enrollment.", example=examples.ENROLLMENT),
        ),
    },
    f"{paths.API}/users/{{id}}": {
        "GET": Operation(
            id="getUser",
            summary="Get a user",
            description="For oneself, and admins.",
            tag="Courses and users",
            answer=json_answer(USER, "The user.", example=examples.USER),
        ),
    },
}

OPERATIONS: Operations = {
    **POLL_OPERATIONS,
    **CHOICE_OPERATIONS,
    **SESSION_OPERATIONS,
    **SUBMISSION_OPERATIONS,
    **COURSE_OPERATIONS,
}
