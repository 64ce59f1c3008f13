"""Examples by schema, from the documentation of the two source APIs where they have one."""

import json
from typing import Any

from marshmallow import Schema

from schemas import content, links, moving, polling, responses, tokens

CREATED_AT = "2014-01-07T15:16:18Z"
QUESTION = "What is your favorite color?"
RESULTS = {"144": 10, "145": 3, "146": 27, "147": 8}
SECTION = {"course_id": 1111, "course_section_id": 444}
STUDENT = {"user_id": 4555, "type": "StudentEnrollment"}
RED = {"text": "Red", "is_correct": False, "position": 1}
REVISION = "8f14e45fceea167a5a36"
RESULTS_OF_SESSION: dict[str, Any] = {
    "pollId": 55,
    "sessionId": 1023,
    "closed": False,
    "results": RESULTS,
    "revision": REVISION,
}
EVENTS = f"""\
event: results
id: {REVISION}
data: {json.dumps(RESULTS_OF_SESSION)}

event: end
data: {{"reason": "deleted"}}

"""
HELD = """\
{"kind":"user","userId":42}
{"kind":"enrollment","courseId":5,"courseSectionId":null,"type":"StudentEnrollment",\
"createdAt":"2014-01-07T15:16:18Z"}
"""
AUDIT_ENTRY: dict[str, Any] = {
    "id": "014371f8c1d0-5f2a91c05f2a91c0",
    "at": CREATED_AT,
    "action": "poll.changed",
    "actor": {"userId": 42, "token": "forum"},
    "pollId": "ee9107b5-5041-4c15-8c76-f14404fa1fad",
    "sessionId": None,
    "courseId": None,
    "enrollmentId": None,
    "token": None,
    "changed": ["title", "settings.endDate"],
    "count": None,
}
STARS: dict[str, Any] = {
    "settings": content.DEFAULT_SETTINGS,
    "options": [{"id": str(n), "title": "⭐" * n, "order": n - 1} for n in range(1, 6)],
    "description": "Simple scoring from 1 to 5 stars",
    "title": "Stars from ⭐ to ⭐⭐⭐⭐⭐",
}
STARS_ID = "ee9107b5-5041-4c15-8c76-f14404fa1fad"
STORED_STARS = {**STARS, "id": STARS_ID}
STARS_RESULTS = {"4": {"votes": 3, "percentage": 37.5}, "5": {"votes": 5, "percentage": 62.5}}

NEW_TOKEN: dict[str, Any] = {
    "name": "PLAT-254604, user 42, 1",
    "userId": 42,
    "actions": ["read", "vote"],
    "workspaces": ["PLAT"],
    "polls": [STARS_ID],
}
SHOWN_TOKEN = {
    **NEW_TOKEN,
    "admin": False,
    "courses": [],
    "createdAt": CREATED_AT,
    "expiresAt": "2014-01-07T15:31:18Z",
}

EXAMPLES: dict[type[Schema], dict[str, Any]] = {
    responses.ProblemSchema: {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "poll_sessions is missing",
        "code": "invalid_request",
        "errors": [{"field": "poll_sessions", "message": "poll_sessions is missing"}],
    },
    # The content API.
    content.NewPollSchema: STARS,
    content.PollReplacementSchema: STORED_STARS,
    content.NewVoteSchema: {"optionIds": ["5"]},
    content.NewPlaceSchema: {"workspace": "PLAT", "content": "PLAT-254605"},
    content.PollsQuerySchema: {
        "polls": [{"workspace": "PLAT", "content": "PLAT-254604"}, {"pollId": STARS_ID}],
        "expand": ["results", "vote"],
    },
    responses.PollSchema: STORED_STARS,
    responses.ExpandedPollSchema: STORED_STARS,
    responses.VoteSchema: {
        "pollId": STARS_ID,
        "userId": 7,
        "optionIds": ["5"],
        "comment": None,
        "createdAt": CREATED_AT,
        "updatedAt": CREATED_AT,
    },
    links.NewLinkSchema: {"actions": ["view", "vote"], "expiresIn": 86400},
    responses.LinkSchema: {
        "url": "https://polls.example.com/p/WzEsInBvbGwiXQ.c2lnbmF0dXJl",
        "expiresAt": CREATED_AT,
    },
    responses.ResultsOfPollSchema: {
        "pollId": STARS_ID,
        "sessionId": 1023,
        "closed": False,
        "results": {
            "options": STARS_RESULTS,
            "votes": 8,
            "participants": 8,
            "closed": False,
        },
        "revision": REVISION,
    },
    moving.PollLineSchema: {
        **STORED_STARS,
        "number": 55,
        "workspace": "PLAT",
        "content": "PLAT-254604",
        "createdBy": 105,
        "createdAt": CREATED_AT,
        "sessions": [{"ballots": [{"userId": 7, "optionIds": ["5"], "createdAt": CREATED_AT}]}],
    },
    responses.LineAnswerSchema: {
        "line": 1,
        "status": 200,
        "id": STARS_ID,
        "number": 55,
        "result": "created",
    },
    # The polling API.
    polling.NewPoll: {"question": QUESTION},
    polling.PollChanges: {"question": QUESTION},
    polling.NewChoice: RED,
    polling.ChoiceChanges: {"text": "Green", "is_correct": True},
    polling.NewSession: {**SECTION, "has_public_results": True},
    polling.SessionChanges: {"has_public_results": True},
    polling.NewSubmission: {"poll_choice_id": 155},
    polling.NewEnrollment: STUDENT,
    responses.ShownPollSchema: {
        "id": 55,
        "question": QUESTION,
        "description": "This poll is to determine what the class's favorite color is.",
        "created_at": CREATED_AT,
        "user_id": 105,
        "total_results": RESULTS,
    },
    responses.ShownChoiceSchema: {**RED, "id": 144, "poll_id": 55},
    responses.ShownSessionSchema: {
        **SECTION,
        "id": 1023,
        "poll_id": 55,
        "is_published": True,
        "has_public_results": True,
        "created_at": CREATED_AT,
        "results": RESULTS,
        "poll_submissions": None,
        "has_submitted": False,
    },
    responses.ResultsOfSessionSchema: RESULTS_OF_SESSION,
    responses.ShownSubmissionSchema: {
        "id": 1023,
        "poll_session_id": 1023,
        "poll_choice_id": 155,
        "user_id": 4555,
        "created_at": CREATED_AT,
    },
    responses.EnrollmentSchema: {**STUDENT, **SECTION, "id": 1, "enrollment_state": "active"},
    responses.UserSchema: {"id": 4555, "name": "User 4555"},
    responses.CourseSchema: {"id": 1111, "name": "Course 1111"},
    # Tokens.
    tokens.NewTokenSchema: {**NEW_TOKEN, "expiresIn": 900},
    responses.TokenSchema: SHOWN_TOKEN,
    responses.AuditSchema: {"entries": [AUDIT_ENTRY], "nextCursor": None},
    responses.AuditEntrySchema: AUDIT_ENTRY,
    responses.ActorSchema: AUDIT_ENTRY["actor"],
    responses.CreatedTokenSchema: {**SHOWN_TOKEN, "secret": "polls_…"},
    # Data of users.
    responses.ErasureSchema: {
        "id": STARS_ID,
        "state": "running",
        "step": "votes",
        "votes": "anonymize",
        "counts": {"enrollments": 2, "tokens": 1, "polls": 3, "sessions": 4000, "votes": 17},
        "createdAt": CREATED_AT,
        "updatedAt": CREATED_AT,
        "finishedAt": None,
    },
}
