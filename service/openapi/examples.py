"""The examples of the documentation of the two source APIs, with all members that ours share."""

from typing import Any

from schemas.content import SettingsSchema

CREATED_AT = "2014-01-07T15:16:18Z"

STARS: dict[str, Any] = {
    "settings": SettingsSchema().load({}),
    "options": [{"id": str(n), "title": "⭐" * n, "order": n - 1} for n in range(1, 6)],
    "description": "Simple scoring from 1 to 5 stars",
    "title": "Stars from ⭐ to ⭐⭐⭐⭐⭐",
}
STARS_ID = "ee9107b5-5041-4c15-8c76-f14404fa1fad"
STORED_STARS = {**STARS, "id": STARS_ID}
VOTE = {"optionIds": ["5"]}
STORED_VOTE = {
    "pollId": STARS_ID,
    "userId": 7,
    "optionIds": ["5"],
    "comment": None,
    "createdAt": CREATED_AT,
    "updatedAt": CREATED_AT,
}
RESULTS_OF_STARS = {
    "pollId": STARS_ID,
    "sessionId": 1023,
    "closed": False,
    "results": {
        "options": {"4": {"votes": 3, "percentage": 37.5}, "5": {"votes": 5, "percentage": 62.5}},
        "votes": 8,
        "participants": 8,
        "closed": False,
    },
}

RESULTS = {"144": 10, "145": 3, "146": 27, "147": 8}
POLL = {
    "id": 55,
    "question": "What is your favorite color?",
    "description": "This poll is to determine what the class's favorite color is.",
    "created_at": CREATED_AT,
    "user_id": 105,
    "total_results": RESULTS,
}
CHOICE = {"id": 144, "poll_id": 55, "text": "Red", "position": 1, "is_correct": False}
SESSION = {
    "id": 1023,
    "poll_id": 55,
    "course_id": 1111,
    "course_section_id": 444,
    "is_published": True,
    "has_public_results": True,
    "created_at": CREATED_AT,
    "results": RESULTS,
    "poll_submissions": None,
    "has_submitted": False,
}
SUBMISSION = {
    "id": 1023,
    "poll_session_id": 1023,
    "poll_choice_id": 155,
    "user_id": 4555,
    "created_at": CREATED_AT,
}
ENROLLMENT = {
    "id": 1,
    "user_id": 4555,
    "course_id": 1111,
    "course_section_id": 444,
    "type": "StudentEnrollment",
    "enrollment_state": "active",
}
USER = {"id": 4555, "name": "User 4555"}
COURSE = {"id": 1111, "name": "Course 1111"}

PROBLEM = {
    "type": "about:blank",
    "title": "Bad Request",
    "status": 400,
    "detail": "poll_sessions is missing",
    "errors": [{"field": "poll_sessions", "message": "poll_sessions is missing"}],
}
