"""Polls to vote in through both APIs, and what must hold of a session after any vote."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import ClientResponse

from storage.documents import UserId
from tests.conftest import Client, Raw
from tests.support.seeds import DEFAULT_SETTINGS, ISSUE, Json, a_poll

COURSE = 55
OPTIONS = [{"id": "1", "title": "red"}, {"id": "2", "title": "green"}, {"id": "3", "title": "blue"}]
CLOSED = "This poll session is not open for submissions."
SECOND = "can only submit one choice per poll session."

Headers = dict[str, str]


@dataclass(frozen=True)
class Run:
    """One session of a poll with the options 1, 2 and 3; reachable through both APIs."""

    poll_id: str
    number: int
    session: int
    place: dict[str, str]

    @property
    def query(self) -> dict[str, str]:
        return {**self.place, "pollId": self.poll_id}

    @property
    def votes(self) -> dict[str, str]:
        return {**self.query, "type": "votes"}

    @property
    def poll_url(self) -> str:
        return f"/api/v1/polls/{self.number}"

    @property
    def url(self) -> str:
        return f"{self.poll_url}/poll_sessions/{self.session}"

    @property
    def submissions(self) -> str:
        return f"{self.url}/poll_submissions"


async def answered(response: ClientResponse, status: int = 200) -> Any:
    """The body of an answer that must have this status."""
    text = await response.text()
    assert response.status == status, text[:500]
    return await response.json() if text else None


async def content_run(
    api: Client,
    raw: Raw,
    *,
    place: dict[str, str] = ISSUE,
    who: Headers | None = None,
    **settings: Any,
) -> Run:
    """A new content poll, with its standing session."""
    body = a_poll(options=OPTIONS, settings=settings)
    poll = await answered(await api.post("/rest", params=place, json=body, headers=who))
    [session] = raw.sessions.find({"poll_id": poll["id"]})
    return Run(poll["id"], session["poll_number"], session["_id"], place)


async def course_run(
    api: Client,
    raw: Raw,
    *,
    section: int | None = None,
    public: bool = False,
    opened: bool = True,
    **settings: Any,
) -> Run:
    """A new poll of the admin's under ``/api/v1``, and a session of it in a course."""
    made = await answered(await api.post("/api/v1/polls", json={"polls": [{"question": "Tea?"}]}))
    number = made["polls"][0]["id"]
    place = {"type": "polls", "workspace": "users", "content": "0", "container": str(number)}
    [address] = raw.addresses.find({"number": number})
    run = Run(address["_id"], number, 0, place)
    await change(api, run, **{"saveParticipantNames": True, **settings})
    return await another_session(api, run, section=section, public=public, opened=opened)


async def another_session(
    api: Client, run: Run, *, section: int | None = None, public: bool = False, opened: bool = True
) -> Run:
    """One more session of the same poll, in the same course."""
    wanted = {"course_id": COURSE, "course_section_id": section, "has_public_results": public}
    url = f"{run.poll_url}/poll_sessions"
    made = await answered(await api.post(url, json={"poll_sessions": [wanted]}))
    new = Run(run.poll_id, run.number, made["poll_sessions"][0]["id"], run.place)
    if opened:
        await answered(await api.get(f"{new.url}/open"))
    return new


async def change(api: Client, run: Run, **settings: Any) -> Json:
    """Replaces the settings of a poll whole."""
    body = a_poll(options=OPTIONS, settings=DEFAULT_SETTINGS | settings)
    poll: Json = await answered(await api.put("/rest", params=run.query, json=body))
    return poll


async def enroll(
    api: Client, user_id: UserId, *, section: int | None = None, kind: str = "StudentEnrollment"
) -> None:
    enrollment = {"user_id": user_id, "type": kind, "course_section_id": section}
    url = f"/api/v1/courses/{COURSE}/enrollments"
    await answered(await api.post(url, json={"enrollment": enrollment}))


async def vote(
    api: Client,
    run: Run,
    *options: str,
    who: Headers | None = None,
    key: str | None = None,
    acting: UserId | None = None,
    **members: Any,
) -> ClientResponse:
    """Casts through ``/rest``."""
    body = {"optionIds": list(options), **members}
    headers = {**(who or {}), **({"Idempotency-Key": key} if key else {})}
    params = run.votes if acting is None else {**run.votes, "as_user_id": str(acting)}
    return await api.post("/rest", params=params, json=body, headers=headers)


async def submit(
    api: Client,
    run: Run,
    *choices: int | str,
    who: Headers | None = None,
    key: str | None = None,
    acting: UserId | None = None,
    enrolls: bool = True,
    **members: Any,
) -> ClientResponse:
    """Casts under ``/api/v1``; whoever is acted for in a course is enrolled in it before."""
    if acting is not None and enrolls and run.place["workspace"] == "users":
        await enroll(api, acting)
    objects = [{"poll_choice_id": choice, **members} for choice in choices]
    headers = {**(who or {}), **({"Idempotency-Key": key} if key else {})}
    params = {} if acting is None else {"as_user_id": str(acting)}
    return await api.post(
        run.submissions, json={"poll_submissions": objects}, headers=headers, params=params
    )


async def submitted(api: Client, run: Run, *choices: int | str, **how: Any) -> Json:
    """The PollSubmission of a cast that was taken."""
    [submission] = (await answered(await submit(api, run, *choices, **how)))["poll_submissions"]
    return dict(submission)


async def shown(api: Client, run: Run, who: Headers | None = None, **query: str) -> Json:
    """The PollSession, as a caller sees it."""
    [session] = (await answered(await api.get(run.url, headers=who, params=query)))["poll_sessions"]
    return dict(session)


async def results(api: Client, run: Run, who: Headers | None = None, **query: str) -> Json | None:
    """``results`` of the content poll as a caller sees them; None if they are left out."""
    params = {**run.query, "expand": "results", **query}
    [poll] = await answered(await api.get("/rest", params=params, headers=who))
    found: Json | None = poll.get("results")
    return found


def tally(raw: Raw, run: Run) -> Json:
    """The stored results without zeros, after comparing them with the stored ballots."""
    session = raw.sessions.find_one({"_id": run.session})
    assert session is not None
    ballots = list(raw.ballots.find({"session_id": run.session}))
    counted = Counter(choice for ballot in ballots for choice in ballot["choices"])
    assert session["results"] == {"1": 0, "2": 0, "3": 0, **counted}
    assert session["participants"] == len(ballots)
    return dict(counted)


def seed_ballots(
    raw: Raw,
    run: Run,
    voters: int,
    choice: str = "1",
    *,
    named: bool = False,
    comment: str | None = None,
) -> None:
    """So many ballots past the service, of nobody in particular unless ``named``.

    They are the first of the session, which is told of them.
    """
    moment = datetime(2126, 1, 31, 12, 0, tzinfo=UTC)
    for first in range(0, voters, 5_000):
        raw.ballots.insert_many(
            {
                "_id": f"{run.session}:{number:064x}",
                "session_id": run.session,
                # Not in the order in which they are stored.
                "number": number * 7_919 % 1_000_003,
                "choices": [choice],
                "comment": comment,
                "user_id": number if named else None,
                "requests": [],
                "created_at": moment,
                "updated_at": moment,
            }
            for number in range(first + 1, min(first + 5_000, voters) + 1)
        )
    update = {"$inc": {"participants": voters, f"results.{choice}": voters, "casts": voters}}
    raw.sessions.update_one({"_id": run.session}, update)
