"""The paths of the polling API (docs/api.md, section 4)."""

API = "/api/v1"
POLL = f"{API}/polls/{{poll_id}}"
CHOICES = f"{POLL}/poll_choices"
SESSIONS = f"{POLL}/poll_sessions"
SUBMISSIONS = f"{SESSIONS}/{{poll_session_id}}/poll_submissions"
COURSE = f"{API}/courses/{{course_id}}"
