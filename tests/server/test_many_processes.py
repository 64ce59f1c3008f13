"""Several processes on one store, and everybody votes at once."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.location import Location
from storage.startup import open_store
from tests.conftest import SECRET, Raw, Scale
from tests.support.fleet import Answer, Fleet, Poll, fleet_of, in_lanes, recount
from tests.support.seeds import ISSUE, Json

pytestmark = pytest.mark.faults


OPTIONS = ("1", "2", "3")
LANES = 40


async def make_poll(fleet: Fleet, **settings: Any) -> Poll:
    body = {
        "title": "Tea?",
        "options": [{"id": option, "title": f"number {option}"} for option in OPTIONS],
        "settings": settings,
    }
    made = await fleet.made(0, "POST", "/rest", params=ISSUE, json=body)
    return Poll(ISSUE, made["id"])


async def make_session(fleet: Fleet, place: int, poll: Poll) -> int:
    """A course's session of the poll, open."""
    body = {"poll_sessions": {"course_id": 1}}
    made = await fleet.made(place, "POST", poll.sessions(), json=body)
    session_id: int = made["poll_sessions"][0]["id"]
    await fleet.made(place, "PUT", poll.sessions(session_id, "open"))
    return session_id


async def enroll(fleet: Fleet, users: int) -> None:
    """The users from 1 to this one, in the course of the sessions; up to a hundred at once."""
    for first in range(1, users + 1, 100):
        some = range(first, min(first + 100, users + 1))
        body = {"enrollments": [{"user_id": user_id} for user_id in some]}
        await fleet.made(0, "POST", "/api/v1/courses/1/enrollments", json=body)


async def vote(fleet: Fleet, place: int, poll: Poll, user_id: int, option: str) -> Answer:
    """In the standing session."""
    body = {"optionIds": [option]}
    return await fleet.call(place, "POST", "/rest", params=poll.votes(user_id), json=body)


async def submit(
    fleet: Fleet, place: int, poll: Poll, session_id: int, user_id: int, option: str
) -> Answer:
    """In a course's session."""
    return await fleet.call(
        place,
        "POST",
        poll.sessions(session_id, "poll_submissions"),
        params={"as_user_id": str(user_id)},
        json={"poll_submissions": {"poll_choice_id": int(option)}},
    )


def ballots_of(raw: Raw, session_id: int) -> Json:
    """What is stored for each voter of a session: which choices, and since when."""
    return {
        one["_id"]: (one["choices"], one["updated_at"])
        for one in raw.ballots.find({"session_id": session_id})
    }


def require_exact(raw: Raw, session_id: int, users: int) -> None:
    ballots = ballots_of(raw, session_id)
    session = raw.sessions.find_one({"_id": session_id})
    assert session is not None
    counted = Counter(choices[0] for choices, _ in ballots.values())
    assert len(ballots) == session["participants"] == users
    assert session["results"] == {option: counted[option] for option in OPTIONS}


def standing_session(raw: Raw) -> int:
    session = raw.sessions.find_one({"course_id": None})
    assert session is not None
    return int(session["_id"])


@asynccontextmanager
async def watched(fleet: Fleet, poll: Poll, uri: str, directory: Path) -> AsyncIterator[None]:
    """Looks all the time, over HTTP and at the ballots, whether the results are exact."""
    done = asyncio.Event()
    looks = Counter[str]()

    async def look_at_results() -> None:
        query = {**poll.query, "expand": "results"}
        while not done.is_set():
            [shown] = await fleet.made(looks["results"], "GET", "/rest", params=query)
            results = shown["results"]
            counts = [option["votes"] for option in results["options"].values()]
            assert sum(counts) == results["votes"] == results["participants"]
            looks["results"] += 1
            await asyncio.sleep(0.02)

    async def look_at_ballots() -> None:
        async with open_store(Location(uri, directory, SECRET)) as store:
            while not done.is_set():
                async for one in store.recounts.run(fix=False):
                    assert one.agrees, one
                    looks["ballots"] += 1
                await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        group.create_task(look_at_results())
        group.create_task(look_at_ballots())
        yield
        done.set()
    assert min(looks["results"], looks["ballots"]) > 0


async def test_of_three_votes_at_once_through_several_processes_one_counts(
    mongodb_uri: str, raw: Raw, tmp_path: Path, scale: Scale
) -> None:
    async with fleet_of(scale.processes, mongodb_uri, tmp_path) as fleet:
        poll = await make_poll(fleet)

        async def vote_thrice(user_id: int) -> None:
            votes = [vote(fleet, user_id + n, poll, user_id, OPTIONS[n]) for n in range(3)]
            answers = await asyncio.gather(*votes)
            assert sorted(answer.status for answer in answers) == [200, 409, 409], answers

        async with watched(fleet, poll, mongodb_uri, tmp_path):
            users = range(1, scale.users + 1)
            await in_lanes([partial(vote_thrice, user_id) for user_id in users], LANES)
        require_exact(raw, standing_session(raw), scale.users)
        await recount(fleet.services[0])


async def test_each_of_many_sessions_takes_one_of_three_votes_at_once(
    mongodb_uri: str, raw: Raw, tmp_path: Path, scale: Scale
) -> None:
    async with fleet_of(scale.processes, mongodb_uri, tmp_path) as fleet:
        poll = await make_poll(fleet)
        session_ids = [await make_session(fleet, n, poll) for n in range(scale.sessions)]
        await enroll(fleet, scale.session_users)

        async def submit_thrice(user_id: int, session_id: int) -> None:
            votes = [
                submit(fleet, user_id + n, poll, session_id, user_id, OPTIONS[n]) for n in range(3)
            ]
            answers = await asyncio.gather(*votes)
            assert sorted(answer.status for answer in answers) == [200, 400, 400], answers

        jobs = [
            partial(submit_thrice, user_id, session_id)
            for user_id in range(1, scale.session_users + 1)
            for session_id in session_ids
        ]
        await in_lanes(jobs, LANES)
        for session_id in session_ids:
            require_exact(raw, session_id, scale.session_users)
        await recount(fleet.services[-1])


async def test_revotes_at_once_through_several_processes_leave_one_ballot_each(
    mongodb_uri: str, raw: Raw, tmp_path: Path, scale: Scale
) -> None:
    async with fleet_of(scale.processes, mongodb_uri, tmp_path) as fleet:
        poll = await make_poll(fleet, allowRevote=True)

        async def vote_thrice(user_id: int) -> None:
            votes = [vote(fleet, user_id + n, poll, user_id, OPTIONS[n]) for n in range(3)]
            answers = await asyncio.gather(*votes)
            assert [answer.status for answer in answers] == [200] * 3, answers

        async with watched(fleet, poll, mongodb_uri, tmp_path):
            users = range(1, scale.users + 1)
            await in_lanes([partial(vote_thrice, user_id) for user_id in users], LANES)
        require_exact(raw, standing_session(raw), scale.users)
        await recount(fleet.services[0])


async def test_no_vote_is_taken_after_a_close_was_answered(
    mongodb_uri: str, raw: Raw, tmp_path: Path, scale: Scale
) -> None:
    """The voters change their votes in pairs that cross, so that the counts cancel out."""
    pairs = 10
    async with fleet_of(scale.processes, mongodb_uri, tmp_path) as fleet:
        poll = await make_poll(fleet, allowRevote=True)
        session_id = await make_session(fleet, 0, poll)
        await enroll(fleet, 2 * pairs)

        async def cross(pair: int, closed: asyncio.Event, enough: asyncio.Event) -> int:
            taken = refused_after = 0
            while refused_after < 3:
                options = ("1", "2") if taken % 2 else ("2", "1")
                is_late = closed.is_set()
                answers = await asyncio.gather(
                    *(
                        submit(fleet, pair + n, poll, session_id, 2 * pair + n + 1, option)
                        for n, option in enumerate(options)
                    )
                )
                assert {answer.status for answer in answers} <= {200, 403}, answers
                if is_late:
                    assert [answer.status for answer in answers] == [403, 403]
                    refused_after += 1
                taken += 1
                if taken == 3:
                    enough.set()
            return taken

        for number in range(scale.rounds):
            closed, enough = asyncio.Event(), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                voters = [group.create_task(cross(n, closed, enough)) for n in range(pairs)]
                await enough.wait()
                await asyncio.sleep(random.uniform(0, 0.05))
                await fleet.made(number, "PUT", poll.sessions(session_id, "close"))
                # Marked as closed only when what is stored was looked at.
                at_the_close = ballots_of(raw, session_id)
                closed.set()
            assert ballots_of(raw, session_id) == at_the_close
            assert sum(voter.result() for voter in voters) > 3 * pairs
            require_exact(raw, session_id, len(at_the_close))
            await fleet.made(number + 1, "PUT", poll.sessions(session_id, "open"))
        await recount(fleet.services[0])


async def test_no_session_keeps_the_old_rules_of_a_poll_that_changes_meanwhile(
    mongodb_uri: str, raw: Raw, tmp_path: Path, scale: Scale
) -> None:
    async with fleet_of(scale.processes, mongodb_uri, tmp_path) as fleet:
        poll = await make_poll(fleet)
        await enroll(fleet, 2)
        [body] = await fleet.made(0, "GET", "/rest", params=poll.query)
        for number in range(scale.rounds):
            settings = {**body["settings"], "allowRevote": number % 2 == 0}
            options = [*body["options"], {"id": f"new-{number}", "title": "new"}]
            changed = {**body, "settings": settings, "options": options}

            async def create_and_vote(place: int) -> None:
                session_id = await make_session(fleet, place, poll)
                for user_id in (1, 2):
                    answer = await submit(fleet, place + user_id, poll, session_id, user_id, "1")
                    assert answer.status == 200

            async with asyncio.TaskGroup() as group:
                for place in range(4):
                    group.create_task(create_and_vote(place))
                await asyncio.sleep(random.uniform(0, 0.03))
                await fleet.made(number, "PUT", "/rest", params=poll.query, json=changed)
            [container] = raw.containers.find()
            [stored] = container["polls"]
            assert len(stored["options"]) == len(options)
            for session in raw.sessions.find():
                assert session["rules"]["settings"] == stored["settings"]
                assert session["rules"]["options"] == [one["id"] for one in stored["options"]]
                assert session["results"].keys() == {one["id"] for one in stored["options"]}
        assert raw.sessions.count_documents({}) == 1 + 4 * scale.rounds
        await recount(fleet.services[0])
