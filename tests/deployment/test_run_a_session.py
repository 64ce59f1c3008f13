"""The example of a teacher's run with 50 students: what it stores, and how often it calls."""

import csv
import io
from collections import Counter
from pathlib import Path

from service.telemetry.log import REQUEST_LOG
from tests.conftest import Client, Raw, TokenMaker
from tests.support.examples import calls, run
from tests.support.fleet import eventually

SCRIPT = "run_a_session.py"
SESSION = "/api/v1/polls/{poll_id}/poll_sessions"


async def test_a_teacher_runs_a_session_with_50_students_in_eight_calls(
    api: Client, raw: Raw, tmp_path: Path, request_lines: io.BytesIO
) -> None:
    file = tmp_path / "answers.csv"
    status, said, complained = await run(api, SCRIPT, str(file))
    assert (status, complained) == (0, "")
    first, *drawn, last = said.splitlines()
    assert first == "50 students are enrolled in the course 1111."
    assert drawn[-1].startswith(" 50 votes (closed): ███")
    assert last == f"Exported to {file}."

    [session] = raw.sessions.find()
    assert (session["participants"], session["is_published"]) == (50, False)
    assert raw.enrollments.count_documents({"course_id": 1111}) == 51
    assert raw.ballots.count_documents({"session_id": session["_id"]}) == 50
    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode("utf-8-sig"))))
    assert sum(int(row["count"]) for row in rows if row["record"] == "choice") == 50

    def lines_of_all() -> bool:
        api.app[REQUEST_LOG].flush()
        return request_lines.getvalue().count(b"\n") >= 8 + 50

    # That of the stream is written when the service has seen its end.
    await eventually(lines_of_all)
    lines = calls(api, request_lines)
    made = Counter((one["method"], one["route"]) for one in lines)
    submissions = f"{SESSION}/{{poll_session_id}}/poll_submissions"
    assert made.pop(("POST", submissions)) == 50
    assert made == dict.fromkeys(
        [
            ("POST", "/api/v1/courses/{course_id}/enrollments"),
            ("POST", "/api/v1/polls"),
            ("POST", "/api/v1/polls/{poll_id}/poll_choices"),
            ("POST", SESSION),
            ("PUT", f"{SESSION}/{{id}}/open"),
            ("GET", f"{SESSION}/{{id}}/results"),
            ("PUT", f"{SESSION}/{{id}}/close"),
            ("GET", f"{SESSION}/{{id}}/export"),
        ],
        1,
    )


async def test_who_may_not_enroll_is_told_so(
    api: Client, raw: Raw, make_token: TokenMaker, tmp_path: Path
) -> None:
    who = await make_token(workspaces=["*"])
    status, said, complained = await run(api, SCRIPT, str(tmp_path / "answers.csv"), who=who)
    assert (status, said) == (1, "")
    assert complained == "Only admins may do this, without as_user_id.\n"
    assert raw.enrollments.count_documents({}) == 0
