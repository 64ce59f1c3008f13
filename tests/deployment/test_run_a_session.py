"""The example of a teacher's run with 50 students: what it stores, and how often it calls."""

import asyncio
import csv
import io
import json
import os
import sys
from collections import Counter
from pathlib import Path

from service.telemetry.log import REQUEST_LOG
from tests.conftest import ADMIN, Client, Raw, TokenMaker
from tests.support.fleet import eventually
from tests.support.processes import ROOT

SCRIPT = ROOT / "examples" / "run_a_session.py"
PATIENCE_SECONDS = 60.0
SESSION = "/api/v1/polls/{poll_id}/poll_sessions"


async def run(api: Client, token: str, file: Path) -> tuple[int | None, str, str]:
    """The exit status of the example, what it said, and what it complained of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), str(api.make_url("/")), str(file)),
        env={"PATH": os.defpath, "POLLS_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        said, complained = await process.communicate()
    return process.returncode, said.decode(), complained.decode()


async def test_a_teacher_runs_a_session_with_50_students_in_eight_calls(
    api: Client, raw: Raw, tmp_path: Path, request_lines: io.BytesIO
) -> None:
    file = tmp_path / "answers.csv"
    status, said, complained = await run(api, ADMIN, file)
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
    lines = [json.loads(line) for line in request_lines.getvalue().splitlines()]
    calls = Counter((one["method"], one["route"]) for one in lines)
    submissions = f"{SESSION}/{{poll_session_id}}/poll_submissions"
    assert calls.pop(("POST", submissions)) == 50
    assert calls == dict.fromkeys(
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
    token = who["Authorization"].removeprefix("Bearer ")
    status, said, complained = await run(api, token, tmp_path / "answers.csv")
    assert (status, said) == (1, "")
    assert complained == "Only admins may do this, without as_user_id.\n"
    assert raw.enrollments.count_documents({}) == 0
