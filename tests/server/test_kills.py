"""kill -9, of the service and of its database, at random moments under load."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest

from storage import voting
from tests.conftest import SECRET, Raw, Scale
from tests.support.fleet import Answer, Poll, Service, eventually, recount, service_in
from tests.support.seeds import ISSUE, Json, a_poll

pytestmark = pytest.mark.faults


VOTERS = 24
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@contextmanager
def reaching_store(service: Service) -> Iterator[Raw]:
    """The documents in the embedded store of a service; for as long as its server lives."""
    with pymongo.MongoClient[dict[str, Any]](service.database_uri(), tz_aware=True) as client:
        yield client.get_default_database()


async def make_poll(service: Service, **settings: Any) -> Poll:
    body = a_poll(settings=settings)
    made = await service.call("POST", "/rest", params=ISSUE, json=body)
    assert made.status == 200, made
    return Poll(ISSUE, made.json()["id"])


@dataclass
class Load:
    """First votes of new users, some at a time, each with an Idempotency-Key of its own.

    The poll saves names, so that a vote that is sent again is answered with its option.
    """

    service: Service
    poll: Poll
    session_id: int = 1
    sent: dict[int, str] = field(default_factory=dict)
    answered: dict[int, Answer] = field(default_factory=dict)
    is_over: bool = False

    async def vote(self, user_id: int) -> Answer:
        return await self.service.call(
            "POST",
            "/rest",
            params=self.poll.votes(user_id),
            json={"optionIds": [self.sent[user_id]]},
            headers={"Idempotency-Key": f"vote of {user_id}"},
        )

    async def run(self) -> None:
        """Until ``is_over``, or the service is gone."""
        async with asyncio.TaskGroup() as group:
            for _ in range(VOTERS):
                group.create_task(self._votes())

    async def _votes(self) -> None:
        while not self.is_over:
            user_id = len(self.sent) + 1
            self.sent[user_id] = random.choice(["1", "2"])
            try:
                self.answered[user_id] = await self.vote(user_id)
            except aiohttp.ClientError:
                return

    async def insist(self) -> None:
        """As ``run``, but who loses the connection, or hears 503, votes again until it is taken."""
        async with asyncio.TaskGroup() as group:
            for _ in range(VOTERS):
                group.create_task(self._votes_for_sure())

    async def _votes_for_sure(self) -> None:
        while not self.is_over:
            user_id = len(self.sent) + 1
            self.sent[user_id] = random.choice(["1", "2"])
            self.answered[user_id] = answer = await self._insist(user_id)
            assert (answer.status, answer.json()["optionIds"]) == (200, [self.sent[user_id]])

    async def require_all(self) -> None:
        """Everybody's vote is there, or is taken now; nobody is told of a second one."""
        for user_id, option in self.sent.items():
            answer = self.answered.get(user_id)
            if answer is None or answer.status != 200:
                # Nothing but the loss of the database stands between a first vote and its 200.
                assert answer is None or answer.status == 503, answer
                answer = await self._insist(user_id)
            assert (answer.status, answer.json()["optionIds"]) == (200, [option]), answer
            self.answered[user_id] = answer

    async def _insist(self, user_id: int) -> Answer:
        async with asyncio.timeout(60):
            while True:
                with suppress(aiohttp.ClientError):
                    answer = await self.vote(user_id)
                    if answer.status != 503:
                        return answer
                await asyncio.sleep(0.2)

    def ballot_id(self, user_id: int) -> str:
        return voting.ballot_id(SECRET.encode(), self.session_id, user_id)

    def stored_choices(self) -> dict[str, list[str]]:
        with reaching_store(self.service) as raw:
            return {one["_id"]: one["choices"] for one in raw.ballots.find()}

    def require_exact(self) -> None:
        """Every vote that was sent is one ballot by now, and the results are those votes."""
        expected = {self.ballot_id(user_id): [option] for user_id, option in self.sent.items()}
        assert self.stored_choices() == expected
        with reaching_store(self.service) as raw:
            [session] = raw.sessions.find()
        cast = list(self.sent.values())
        assert session["results"] == {option: cast.count(option) for option in ("1", "2")}
        assert session["participants"] == len(cast)


async def test_a_killed_service_has_lost_no_vote_and_mistakes_no_first_one(
    tmp_path: Path, scale: Scale
) -> None:
    async with service_in(tmp_path) as service:
        load = Load(service, await make_poll(service, saveParticipantNames=True))
        for _ in range(scale.kills):
            before = len(load.sent)
            running = asyncio.create_task(load.run())
            await eventually(lambda: len(load.answered) > before + VOTERS)  # noqa: B023 - awaited
            await asyncio.sleep(random.uniform(0, 0.3))
            acknowledged = dict(load.answered)
            await service.kill()
            await running
            await service.start()
            acknowledged |= {n: one for n, one in load.answered.items() if n > before}
            assert {one.status for one in acknowledged.values()} == {200}
            # Before anything is sent again.
            stored = load.stored_choices()
            for user_id in acknowledged:
                assert stored[load.ballot_id(user_id)] == [load.sent[user_id]]
            await load.require_all()
            load.require_exact()
        await recount(service)


async def test_a_killed_database_comes_back_by_itself_with_every_vote(
    tmp_path: Path, scale: Scale
) -> None:
    async with service_in(tmp_path) as service:
        load = Load(service, await make_poll(service, saveParticipantNames=True))
        for _ in range(scale.kills):
            before, load.is_over = len(load.answered), False
            running = asyncio.create_task(load.run())
            await eventually(lambda: len(load.answered) > before + VOTERS)  # noqa: B023 - awaited
            await asyncio.sleep(random.uniform(0, 0.3))
            killed = service.server_pid()
            os.kill(killed, signal.SIGKILL)
            at_the_kill = len(load.answered)
            await eventually(
                lambda: len(load.answered) > at_the_kill + 3 * VOTERS,  # noqa: B023 - awaited
                seconds=60,
            )
            load.is_over = True
            await running
            assert service.server_pid() != killed
            assert {one.status for one in load.answered.values()} <= {200, 503}
            await load.require_all()
            load.require_exact()
        await recount(service)


def seed_ballots(raw: Raw, count: int) -> int:
    """So many ballots in the one session, past the service, and results that agree."""
    [session] = raw.sessions.find()
    session_id = int(session["_id"])
    for first in range(0, count, 5_000):
        raw.ballots.insert_many(
            [
                {
                    "_id": voting.ballot_id(SECRET.encode(), session_id, number),
                    "session_id": session_id,
                    "number": number,
                    "choices": ["1"],
                    "comment": None,
                    "user_id": None,
                    "requests": [],
                    "created_at": LONG_AGO,
                    "updated_at": LONG_AGO,
                }
                for number in range(first + 1, min(first + 5_000, count) + 1)
            ]
        )
    update = {"$set": {"results.1": count, "participants": count}}
    raw.sessions.update_one({"_id": session_id}, update)
    return session_id


async def require_gone(service: Service, poll: Poll, session_id: int) -> None:
    calls: list[tuple[str, str, Json]] = [
        ("GET", "/rest", {"params": poll.query}),
        ("GET", "/rest", {"params": poll.votes(1)}),
        ("DELETE", "/rest", {"params": poll.query}),
        ("DELETE", "/rest", {"params": poll.votes(1)}),
        ("POST", "/rest", {"params": poll.votes(1_000_000), "json": {"optionIds": ["1"]}}),
        ("GET", f"/api/v1/polls/{poll.id}", {}),
        ("GET", poll.sessions(session_id), {}),
        ("GET", poll.sessions(session_id, "poll_submissions"), {}),
        ("GET", poll.sessions(session_id, "poll_submissions", 1), {}),
        ("PUT", poll.sessions(session_id, "open"), {}),
    ]
    for method, path, request in calls:
        answer = await service.call(method, path, **request)
        assert answer.status == 404, (method, path, answer)
    listed = await service.call("GET", "/rest", params=poll.place)
    assert (listed.status, listed.json()) == (200, [])


async def test_a_deleted_poll_is_gone_at_once_and_its_ballots_soon_after_a_kill_too(
    tmp_path: Path, scale: Scale
) -> None:
    async with service_in(tmp_path) as service:
        poll = await make_poll(service)
        with reaching_store(service) as raw:
            session_id = seed_ballots(raw, scale.ballots)
            await recount(service)
            # The sweep takes long enough to be found half-way.
            raw.client.admin.command(
                "configureFailPoint",
                "failCommand",
                mode="alwaysOn",
                data={"failCommands": ["delete"], "blockConnection": True, "blockTimeMS": 150},
            )
            now = {**poll.query, "now": "true"}
            deleted = await service.call("DELETE", "/rest", params=now)
            assert deleted.status == 200
            await require_gone(service, poll, session_id)
            await eventually(lambda: raw.ballots.estimated_document_count() < scale.ballots)
        await service.kill()
        await service.start()
        with reaching_store(service) as raw:
            assert 0 < raw.ballots.count_documents({}) < scale.ballots
            await require_gone(service, poll, session_id)
            await recount(service)
            # The one that was killed holds the lease for half a minute; here that is over.
            raw.purges.update_many({}, {"$set": {"leased_until": LONG_AGO}})
            await eventually(lambda: raw.purges.count_documents({}) == 0, seconds=90)
            assert raw.ballots.count_documents({}) == 0
        await recount(service)
