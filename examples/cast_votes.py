"""A whole caller of the polls service: it runs a poll with many voters, and loses no vote.

    POLLS_TOKEN=polls_… python examples/cast_votes.py http://127.0.0.1:8080 --votes 1000

It creates a poll, enrolls many users in a course, opens a session of the poll there, casts one vote
for each user, reads the results, and holds them against what it cast. It needs aiohttp, nothing
else of this repository, and an admin token, since it enrolls users and votes for them
(``as_user_id``).

All that makes it reliable is in ``Polls.ask``:

* Every attempt has a timeout, and all attempts of a request together have one.
* A 503 and a 429 changed nothing, and say in ``Retry-After`` when to ask again. A connection that
  broke and an attempt that timed out say nothing: the request may have been done.
* So each POST carries an ``Idempotency-Key``, the same one in every attempt. What was done already
  is answered as it was the first time, and not done again. (Where work must survive the death of
  the caller too, keep the key with the work.)
* It waits a little longer each time, and never exactly as long as its neighbours, so that a service
  that comes back is not overrun.
* Any other refusal would be the same the next time. It is raised.
"""

import argparse
import asyncio
import itertools
import os
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import aiohttp

ATTEMPT_SECONDS = 10.0
"""The service itself answers within 5 s also where its database does not."""
REQUEST_SECONDS = 120.0
PAUSE_SECONDS = (0.1, 5.0)
MAX_ENROLLMENTS = 1000
"""In one request."""
RETRIED = frozenset({429, 502, 503, 504})
"""502 and 504 are what a proxy says while no service is behind it."""

QUESTION = "Tea or coffee?"
OPTIONS = ("Tea", "Coffee", "Neither")


class Refused(Exception):
    """The service will not do this, now or later; the text says why."""


class GaveUp(Exception):
    """No attempt was answered in time; whether the request was done is not known."""


class Polls:
    """The service, as its callers see it."""

    def __init__(self, http: aiohttp.ClientSession, request_seconds: float) -> None:
        self._http = http
        self._request_seconds = request_seconds
        self.repeated = 0

    async def ask(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None
    ) -> Any:
        """The body of the answer. Raises ``Refused``, or ``GaveUp`` after ``request_seconds``."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        reason = "there was no time for any"
        try:
            async with asyncio.timeout(self._request_seconds):
                for attempt in itertools.count():
                    wanted = 0.0
                    try:
                        async with self._http.request(
                            method, path, params=query, json=body, headers=headers
                        ) as answer:
                            if answer.status not in RETRIED:
                                return await _read(answer)
                            reason = f"status {answer.status}"
                            wanted = _retry_after(answer)
                    except (
                        aiohttp.ClientConnectionError,
                        aiohttp.ClientPayloadError,
                        TimeoutError,
                    ) as error:
                        reason = repr(error)
                    self.repeated += 1
                    await asyncio.sleep(wanted + _pause(attempt))
        except TimeoutError:
            sentence = f"{method} {path}: gave up after {self._request_seconds} s, last {reason}."
            raise GaveUp(sentence) from None


async def _read(answer: aiohttp.ClientResponse) -> Any:
    text = await answer.text()
    if not answer.ok:
        # application/problem+json, with the reason in "detail".
        raise Refused(f"{answer.method} {answer.url.path}: {answer.status} {text}")
    return await answer.json() if text else None


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    """Seconds; a proxy may also name a date, for which a pause of ours will do."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _pause(attempt: int) -> float:
    first, longest = PAUSE_SECONDS
    return random.uniform(0, min(longest, first * 2.0 ** min(attempt, 16)))


async def open_poll(polls: Polls, course_id: int) -> tuple[str, list[str]]:
    """Creates a poll and opens a session of it; the session's path, and the ids of the options."""
    place = {"type": "polls", "workspace": "EXAMPLE", "content": "EXAMPLE-1"}
    options = [{"title": title} for title in OPTIONS]
    poll = await polls.ask(
        "POST", "/rest", query=place, body={"title": QUESTION, "options": options}
    )
    sessions = f"/api/v1/polls/{poll['id']}/poll_sessions"
    made = await polls.ask("POST", sessions, body={"poll_sessions": [{"course_id": course_id}]})
    session = f"{sessions}/{made['poll_sessions'][0]['id']}"
    await polls.ask("PUT", f"{session}/open")
    return session, [option["id"] for option in poll["options"]]


async def enroll(polls: Polls, course_id: int, users: int) -> None:
    """Makes the users from 1 to this one students of the course: only they may vote there."""
    for first in range(1, users + 1, MAX_ENROLLMENTS):
        some = range(first, min(first + MAX_ENROLLMENTS, users + 1))
        body = {"enrollments": [{"user_id": user_id} for user_id in some]}
        await polls.ask("POST", f"/api/v1/courses/{course_id}/enrollments", body=body)


async def cast(polls: Polls, session: str, choices: Sequence[str], at_once: int) -> None:
    """Casts ``choices[n]`` for user n + 1, so many at a time; returns when all were answered."""
    voters = enumerate(choices, start=1)

    async def lane() -> None:
        for user_id, choice in voters:
            await polls.ask(
                "POST",
                f"{session}/poll_submissions",
                query={"as_user_id": str(user_id)},
                body={"poll_submissions": [{"poll_choice_id": choice}]},
            )

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(lane())


async def run(url: str, token: str, options: argparse.Namespace) -> bool:
    """Whether the results are the votes that were cast."""
    async with aiohttp.ClientSession(
        url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=options.attempt_seconds),
        connector=aiohttp.TCPConnector(limit=options.at_once),
    ) as http:
        polls = Polls(http, options.request_seconds)
        session, ids = await open_poll(polls, options.course)
        print(f"Open: {session}", flush=True)
        await enroll(polls, options.course, options.votes)

        choices = random.choices(ids, k=options.votes)
        begun = time.monotonic()
        await cast(polls, session, choices, options.at_once)
        print(f"{options.votes} votes were answered in {time.monotonic() - begun:.1f} s.")
        print(f"{polls.repeated} attempts were made again.")

        shown = await polls.ask("GET", session)
        results = shown["poll_sessions"][0]["results"]
        for title, option_id in zip(OPTIONS, ids, strict=True):
            print(f"{results[option_id]:8} {title}")
        return bool(results == {option_id: Counter(choices)[option_id] for option_id in ids})


def main() -> int:
    """0: all votes are counted. 1: they are not. 2: misused."""
    parser = argparse.ArgumentParser(description="Runs a poll with many voters.")
    parser.add_argument("url", help="of the service, as http://127.0.0.1:8080")
    parser.add_argument("--votes", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=64, help="votes under way at a time")
    parser.add_argument("--course", type=int, default=1, help="where the session is opened")
    parser.add_argument("--attempt-seconds", type=float, default=ATTEMPT_SECONDS)
    parser.add_argument("--request-seconds", type=float, default=REQUEST_SECONDS)
    options = parser.parse_args()
    token = os.environ.get("POLLS_TOKEN")
    if not token:
        parser.error("POLLS_TOKEN must hold an admin token")
    try:
        is_exact = asyncio.run(run(options.url, token, options))
    except* (Refused, GaveUp) as group:
        # Of many requests that fail at once the first tells enough.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(error, file=sys.stderr)
        sys.exit(1)
    if not is_exact:
        print("These are not the votes that were cast.", file=sys.stderr)
    return 0 if is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
