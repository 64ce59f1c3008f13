"""A teacher's run: enroll 50 students, open a session, follow it while they vote, close, export.

    POLLS_TOKEN=polls_… python examples/run_a_session.py http://127.0.0.1:8080 answers.csv

It needs aiohttp, and an admin token, since only admins enroll; all else is done as the teacher
(``as_user_id``). The students vote here by themselves, each in a call of its own, as their own
devices would. The run itself takes eight calls:

1. enroll the teacher and all students,
2. make the poll,
3. and its choices,
4. make the session,
5. open it,
6. follow its results as they change,
7. close it,
8. export it as a spreadsheet.

``examples/watch_results.py`` shows how to follow results through restarts of the service,
``examples/cast_votes.py`` how to repeat what was not answered.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp

COURSE, TEACHER = 1111, 1
STUDENTS = range(1001, 1051)
CHOICES = ("Mitosis", "Meiosis", "Neither")
SILENCE_SECONDS = 45.0
"""The service sends a comment every 15 s."""


class Refused(Exception):
    """The service refused; the text says why."""


class Desk:
    """Calls of the polling API as one user."""

    def __init__(self, http: aiohttp.ClientSession, user: int | None = None) -> None:
        self._http = http
        self._query = {} if user is None else {"as_user_id": str(user)}

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> bytes:
        """The answer; raises ``Refused``."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        async with self._http.request(
            method, f"/api/v1{path}", json=body, params={**self._query, **query}, headers=headers
        ) as answer:
            await require_success(answer)
            return await answer.read()

    async def make(self, path: str, *objects: dict[str, Any]) -> list[int]:
        """Makes objects of the kind that the path ends with; returns their ids."""
        kind = path.rpartition("/")[2]
        made = json.loads(await self.call("POST", path, {kind: objects}))
        return [one["id"] for one in (made if isinstance(made, list) else made[kind])]

    async def follow(self, path: str) -> AsyncGenerator[Any, None]:
        """The results of a session, now and whenever they change."""
        headers = {"Accept": "text/event-stream"}
        async with self._http.get(
            f"/api/v1{path}/results", params=self._query, headers=headers
        ) as answer:
            await require_success(answer)
            event = ""
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == "results":
                    yield json.loads(value)


async def require_success(answer: aiohttp.ClientResponse) -> None:
    if not answer.ok:
        # application/problem+json, with the reason in "detail".
        raise Refused(json.loads(await answer.read())["detail"])


async def run(url: str, token: str) -> bytes:
    """The export of the session that was run."""
    async with aiohttp.ClientSession(
        url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS),
    ) as http:
        teacher = Desk(http, TEACHER)
        enrolled = [{"user_id": TEACHER, "type": "TeacherEnrollment"}]
        enrolled += [{"user_id": user, "type": "StudentEnrollment"} for user in STUDENTS]
        await Desk(http).make(f"/courses/{COURSE}/enrollments", *enrolled)
        print(f"{len(STUDENTS)} students are enrolled in the course {COURSE}.")

        [poll_id] = await teacher.make("/polls", {"question": "What makes gametes?"})
        poll = f"/polls/{poll_id}"
        right = [{"text": text, "is_correct": text == "Meiosis"} for text in CHOICES]
        choices = await teacher.make(f"{poll}/poll_choices", *right)
        [number] = await teacher.make(f"{poll}/poll_sessions", {"course_id": COURSE})
        session = f"{poll}/poll_sessions/{number}"
        await teacher.call("PUT", f"{session}/open")

        async with asyncio.TaskGroup() as group:
            for user in STUDENTS:
                group.create_task(vote(Desk(http, user), session, choices))
            await watch(teacher, session)
        return await teacher.call("GET", f"{session}/export", format="csv")


async def vote(student: Desk, session: str, choices: Sequence[int]) -> None:
    await asyncio.sleep(random.random())
    [choice] = random.choices(choices, weights=[1, 3, 1])
    await student.make(f"{session}/poll_submissions", {"poll_choice_id": choice})


async def watch(teacher: Desk, session: str) -> None:
    """Draws the results, closes the session when all have voted, and ends when it is closed."""
    async with aclosing(teacher.follow(session)) as states:
        async for shown in states:
            votes = sum(shown["results"].values())
            state = "closed" if shown["closed"] else "open"
            print(f"{votes:3} votes ({state}): {'█' * votes}", flush=True)
            if shown["closed"]:
                return
            if votes == len(STUDENTS):
                await teacher.call("PUT", f"{session}/close")


def main() -> int:
    """0: the session was run. 1: the service refused; it says why."""
    parser = argparse.ArgumentParser(description="Runs a session of a poll with 50 students.")
    parser.add_argument("url", help="of the service, as http://127.0.0.1:8080")
    parser.add_argument("file", type=Path, help="for the export")
    options = parser.parse_args()
    token = os.environ.get("POLLS_TOKEN")
    if not token:
        parser.error("POLLS_TOKEN must hold an admin token")
    status = 1
    try:
        options.file.write_bytes(asyncio.run(run(options.url, token)))
        print(f"Exported to {options.file}.")
        status = 0
    except* (Refused, aiohttp.ClientError) as errors:
        print(errors.exceptions[0], file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
