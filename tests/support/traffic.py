"""Callers who vote, change their minds, close sessions and delete polls.

Each insists: after a 503 it sends the same request again, to another service. So when all have
stopped, it is known exactly what must be stored.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import pymongo
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from storage import voting
from tests.conftest import SECRET, Raw
from tests.support.fleet import Answer, Fleet, Poll, eventually
from tests.support.seeds import ISSUE, PAGE, Json, a_poll

OPTIONS = ("1", "2", "3")
CHOICES = [{"id": option, "title": f"number {option}"} for option in OPTIONS]
CALLERS = 32
ANSWER_SECONDS = 5.0
"""The longest that any request may take."""
INSIST_SECONDS = 60.0
PAUSE_SECONDS = 0.05
NOTHING_CHANGED = "nothing was changed"
NOW = {"now": "true"}
"""Of a deletion: or the ballots would stay for a day."""
NOT_KNOWN = "is not known"


@dataclass(frozen=True)
class Call:
    """One request that was answered; times are on the monotonic clock."""

    service: int
    method: str
    path: str
    started: float
    ended: float
    status: int

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def is_stored(self) -> bool:
        """Whether it was told that a change is stored."""
        return self.method != "GET" and self.status < 300


class Callers:
    """What they share: how to call, and what they were answered."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.calls: list[Call] = []
        self.is_over = False
        self._users = count(1)
        self._keys = count(1)

    def new_user(self) -> int:
        return next(self._users)

    def new_key(self) -> dict[str, str]:
        return {"Idempotency-Key": f"request {next(self._keys)}"}

    async def call(self, place: int, method: str, path: str, **request: Any) -> Answer:
        place %= len(self.fleet.services)
        started = time.monotonic()
        answer = await self.fleet.services[place].call(method, path, **request)
        call = Call(place, method, path, started, time.monotonic(), answer.status)
        self.calls.append(call)
        return answer

    async def insist(
        self,
        method: str,
        path: str,
        *,
        refusal: int | None = None,
        second: int | None = None,
        **request: Any,
    ) -> Answer:
        """The first answer that is no 503: a success, or ``refusal`` if that may be.

        ``second`` is the answer to the same request once more. It is as good as a success where an
        earlier 503 left open whether the change was stored, and nowhere else.
        """
        may_be_done = False
        async with asyncio.timeout(INSIST_SECONDS):
            for place in count(random.randrange(len(self.fleet.services))):
                answer = await self.call(place, method, path, **request)
                if answer.status != 503:
                    break
                detail = answer.json()["detail"]
                assert (NOTHING_CHANGED in detail) != (NOT_KNOWN in detail), answer
                may_be_done |= NOT_KNOWN in detail
                await asyncio.sleep(PAUSE_SECONDS)
        allowed = {200, refusal, second if may_be_done else None}
        assert answer.status in allowed, (method, path, request, may_be_done, answer)
        return answer

    async def think(self) -> None:
        """So that the machine has time for elections."""
        await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))

    async def enroll(self, user_id: int) -> None:
        body = {"enrollment": {"user_id": user_id}}
        path = "/api/v1/courses/1/enrollments"
        await self.insist("POST", path, json=body, headers=self.new_key())

    async def make_poll(self, place: Json, **settings: Any) -> Poll:
        body = {**a_poll(settings=settings), "options": CHOICES}
        made = await self.insist("POST", "/rest", params=place, json=body, headers=self.new_key())
        return Poll(place, made.json()["id"])


class Voters:
    """They vote in the standing session of a poll; ``choices`` is what must be stored of them."""

    def __init__(self, callers: Callers, poll: Poll, session_id: int) -> None:
        self._callers = callers
        self.poll = poll
        self.session_id = session_id
        self.choices: dict[int, str] = {}

    async def change_their_minds(self) -> None:
        """Votes, votes again, and one in three withdraws."""
        while not self._callers.is_over:
            user_id = self._callers.new_user()
            for option in random.sample(OPTIONS, 2):
                await self._vote(user_id, option, headers=self._callers.new_key())
                await self._callers.think()
            if user_id % 3 == 0:
                votes = self.poll.votes(user_id)
                await self._callers.insist("DELETE", "/rest", second=404, params=votes)
                del self.choices[user_id]

    async def vote_once(self) -> None:
        """Without a key: a vote that was not taken is taken when it is sent again."""
        while not self._callers.is_over:
            await self._vote(self._callers.new_user(), random.choice(OPTIONS), second=409)
            await self._callers.think()

    async def _vote(self, user_id: int, option: str, **request: Any) -> None:
        body = {"optionIds": [option]}
        votes = self.poll.votes(user_id)
        answer = await self._callers.insist("POST", "/rest", params=votes, json=body, **request)
        assert answer.status == 409 or answer.json()["optionIds"] == [option], answer
        self.choices[user_id] = option


class Room:
    """A course's session, which is closed and opened again while votes come in."""

    def __init__(self, callers: Callers, poll: Poll, session_id: int, raw: Raw) -> None:
        self._callers = callers
        self._poll = poll
        self._raw = raw
        self.session_id = session_id
        self.choices: dict[int, str] = {}
        self.closes = 0
        self._is_closed = False
        self._late = 0
        self._answered = Counter[int]()

    async def change_their_minds(self) -> None:
        while not self._callers.is_over:
            user_id = self._callers.new_user()
            await self._callers.enroll(user_id)
            for _ in range(voting.MAX_KEYS // 2):
                if not self._callers.is_over:
                    await self._vote(user_id)
                    await self._callers.think()

    async def _vote(self, user_id: int) -> None:
        option, is_late = random.choice(OPTIONS), self._is_closed
        self._late += is_late
        answer = await self._callers.insist(
            "POST",
            self._poll.sessions(self.session_id, "poll_submissions"),
            refusal=403,
            params={"as_user_id": str(user_id)},
            json={"poll_submissions": {"poll_choice_id": int(option)}},
            headers=self._callers.new_key(),
        )
        self._late -= is_late
        if answer.status == 200:
            assert not is_late, "a vote was taken after the close was answered"
            self.choices[user_id] = option
        self._answered[answer.status] += 1

    async def close_and_open(self) -> None:
        while not self._callers.is_over:
            await self._answers(200, 20)
            await self._put("close")
            self._is_closed = True
            at_the_close = await self._look()
            await self._answers(403, 20)
            self._is_closed = False
            await eventually(lambda: not self._late, seconds=INSIST_SECONDS)
            assert await self._look() == at_the_close
            self.closes += 1
            await self._put("open")

    async def _put(self, verb: str) -> None:
        await self._callers.insist("PUT", self._poll.sessions(self.session_id, verb))

    async def _answers(self, status: int, number: int) -> None:
        wanted = self._answered[status] + number
        await eventually(
            lambda: self._answered[status] >= wanted or self._callers.is_over,
            seconds=INSIST_SECONDS,
        )

    async def _look(self) -> Json:
        """The session, by a write: a primary that was replaced still answers reads."""
        change = {"$inc": {"looks": 1}}

        def look() -> Json | None:
            try:
                with pymongo.timeout(2):
                    return self._raw.sessions.find_one_and_update(
                        {"_id": self.session_id}, change, return_document=ReturnDocument.AFTER
                    )
            except PyMongoError:
                return None

        deadline = time.monotonic() + INSIST_SECONDS
        while (session := await asyncio.to_thread(look)) is None:
            assert time.monotonic() < deadline
        return {name: session[name] for name in ("casts", "results", "participants")}


class Deleters:
    """They make polls, have them voted in, and delete them."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self.deletions = 0

    async def delete_polls(self, place: Json) -> None:
        while not self._callers.is_over:
            poll = await self._callers.make_poll(place)
            for _ in range(2):
                await self._vote_in_new(poll)
            await self._callers.insist("DELETE", "/rest", second=404, params={**poll.query, **NOW})
            late = await self._vote(poll)
            assert late.status == 404, late
            self.deletions += 1
            await self._callers.think()

    async def _vote_in_new(self, poll: Poll) -> None:
        """A primary that was cut off may not know the poll yet, until it steps down."""
        async with asyncio.timeout(INSIST_SECONDS):
            for _ in count():
                if (await self._vote(poll)).status == 200:
                    return
                await asyncio.sleep(PAUSE_SECONDS)

    async def _vote(self, poll: Poll) -> Answer:
        return await self._callers.insist(
            "POST",
            "/rest",
            refusal=404,
            params=poll.votes(self._callers.new_user()),
            json={"optionIds": ["1"]},
            headers=self._callers.new_key(),
        )


class Traffic:
    """All of them at once."""

    def __init__(self, callers: Callers, voters: Voters, once: Voters, room: Room) -> None:
        self.callers = callers
        self._voters = voters
        self._once = once
        self.room = room
        self.deleters = Deleters(callers)

    async def run(self) -> None:
        """Until ``stop``; then each caller still gets the answer that it insists on."""
        jobs: list[Callable[[], Coroutine[Any, Any, None]]] = [
            *[self._voters.change_their_minds] * 12,
            *[self._once.vote_once] * 6,
            *[self.room.change_their_minds] * 8,
            self.room.close_and_open,
            *[partial(self.deleters.delete_polls, {**PAGE, "content": str(n)}) for n in range(4)],
            partial(self._read, self._voters.poll),
        ]
        assert len(jobs) == CALLERS
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job())

    def stop(self) -> None:
        self.callers.is_over = True

    def calls_since(self, moment: float, status: int | None = None) -> list[Call]:
        """Those that were answered since, with this status if given; in that order."""
        return [
            call
            for call in self.callers.calls
            if call.ended > moment and status in (None, call.status)
        ]

    async def _read(self, poll: Poll) -> None:
        query = {**poll.query, "expand": "results"}
        while not self.callers.is_over:
            [shown] = (await self.callers.insist("GET", "/rest", params=query)).json()
            results = shown["results"]
            counts = [option["votes"] for option in results["options"].values()]
            assert sum(counts) == results["votes"] == results["participants"]
            await self.callers.think()

    def require_answers_in_time(self) -> None:
        """No request took longer than 5 s, whatever the answer."""
        slowest = max(self.callers.calls, key=lambda call: call.seconds)
        assert slowest.seconds < ANSWER_SECONDS, slowest

    async def require_exact(self, raw: Raw) -> None:
        """Each acknowledged vote is one ballot, and nothing else is; results are their counts."""
        await eventually(lambda: raw.purges.count_documents({}) == 0, seconds=60)
        for one in (self._voters, self._once, self.room):
            expected = {
                voting.ballot_id(SECRET.encode(), one.session_id, user_id): [option]
                for user_id, option in one.choices.items()
            }
            ballots = raw.ballots.find({"session_id": one.session_id})
            assert {ballot["_id"]: ballot["choices"] for ballot in ballots} == expected
            session = raw.sessions.find_one({"_id": one.session_id})
            assert session is not None
            counted = Counter(one.choices.values())
            assert session["results"] == {option: counted[option] for option in OPTIONS}
            assert session["participants"] == len(expected)
        everybody = sum(len(one.choices) for one in (self._voters, self._once, self.room))
        assert raw.ballots.count_documents({}) == everybody


async def make_traffic(fleet: Fleet, raw: Raw) -> Traffic:
    """Makes the polls that it is about; nobody calls yet."""
    callers = Callers(fleet)
    # With names, a vote that is sent again under its key is answered with its option.
    revotes = await callers.make_poll(ISSUE, allowRevote=True, saveParticipantNames=True)
    once = await callers.make_poll(ISSUE)
    body = {"poll_sessions": {"course_id": 1}}
    made = await callers.insist("POST", revotes.sessions(), json=body, headers=callers.new_key())
    room = Room(callers, revotes, made.json()["poll_sessions"][0]["id"], raw)
    await callers.insist("PUT", revotes.sessions(room.session_id, "open"))
    return Traffic(
        callers,
        Voters(callers, revotes, _standing_session(raw, revotes)),
        Voters(callers, once, _standing_session(raw, once)),
        room,
    )


def _standing_session(raw: Raw, poll: Poll) -> int:
    session = raw.sessions.find_one({"poll_id": poll.id, "course_id": None})
    assert session is not None
    return int(session["_id"])


@asynccontextmanager
async def traffic_on(fleet: Fleet, raw: Raw) -> AsyncIterator[Traffic]:
    """Callers are at it inside; afterwards everything must have been answered, in time."""
    traffic = await make_traffic(fleet, raw)
    # A caller that is answered wrongly ends what goes on inside.
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run())
        yield traffic
        traffic.stop()
    traffic.require_answers_in_time()
