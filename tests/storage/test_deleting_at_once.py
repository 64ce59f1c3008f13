"""Polls deleted and changed while sessions of them are made: the store stays consistent."""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest

from tests.conftest import ADMIN, Client, Raw
from tests.support import engine
from tests.support.polling import API, call, make_poll
from tests.support.processes import address_in

pytestmark = pytest.mark.faults


ROOT = Path(__file__).resolve().parents[2]
USERS_PLACE = {"type": "polls", "workspace": "users", "content": "0"}
CONTENT_PLACE = {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"}
CONTENT_POLL = {"title": "Tea?", "options": [{"title": "yes"}]}


async def new_session(api: Client, number: int) -> int:
    path = f"{API}/polls/{number}/poll_sessions"
    async with api.post(path, json={"poll_sessions": {"course_id": 1}}) as answer:
        await answer.read()
        return answer.status


async def test_no_session_outlives_a_poll_that_is_deleted_while_sessions_are_made(
    api: Client, raw: Raw
) -> None:
    for turn in range(20):
        if turn % 2:
            content = await call(api, "POST", "/rest", params=CONTENT_PLACE, json=CONTENT_POLL)
            path, query = "/rest", {**CONTENT_PLACE, "pollId": content["id"]}
            (container,) = raw.containers.find({"polls.id": content["id"]})
            number = container["polls"][-1]["number"]
        else:
            number = (await make_poll(api))["id"]
            path, query = f"{API}/polls/{number}", {}

        async def delete(path: str = path, query: dict[str, str] = query) -> int:
            async with api.delete(path, params=query) as answer:
                await answer.read()
                return answer.status

        made = [new_session(api, number) for _ in range(4)]
        deleted, *statuses = await asyncio.gather(delete(), *made)
        assert deleted in (200, 204)
        assert set(statuses) <= {200, 404}
        assert raw.sessions.count_documents({"poll_number": number}) == 0
        assert raw.containers.count_documents({"polls.number": number}) == 0


async def test_no_session_keeps_old_rules_of_a_poll_that_is_changed_while_sessions_are_made(
    api: Client, raw: Raw
) -> None:
    for _ in range(20):
        number = (await make_poll(api, "yes"))["id"]
        place = {**USERS_PLACE, "container": str(number)}
        (poll,) = await call(api, "GET", "/rest", params=place)
        body = {
            **poll,
            "options": [*poll["options"], {"title": "no"}],
            "settings": {"allowRevote": True},
        }
        change = call(api, "PUT", "/rest", params={**place, "pollId": poll["id"]}, json=body)
        made = [new_session(api, number) for _ in range(2)]
        more = [new_session(api, number) for _ in range(2)]
        first, second, _, *rest = await asyncio.gather(*made, change, *more)
        assert {first, second, *rest} == {200}
        sessions = list(raw.sessions.find({"poll_number": number}))
        assert len(sessions) == 4
        for session in sessions:
            assert session["rules"]["options"] == ["1", "2"]
            assert session["rules"]["settings"]["allowRevote"] is True
            assert session["results"] == {"1": 0, "2": 0}


# The service as a process, killed ---------------------------------------------------------------


@contextmanager
def service(data_dir: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A service of its own on its own embedded store, and where it listens; killed at the end."""
    environment = {name: value for name, value in os.environ.items() if name != "MONGODB_URI"}
    own = {"POLLS_PORT": "0", "POLLS_DATA_DIR": str(data_dir), "POLLS_ADMIN_TOKEN": ADMIN}
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env={**environment, **engine.environment(), **own},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = itertools.takewhile(bool, iter(process.stdout.readline, ""))
        url = next(line for line in said if line.startswith("Serving on "))
        yield url.removeprefix("Serving on ").strip(), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def sessions_by_poll(data_dir: Path) -> dict[str, tuple[bool, int]]:
    """Of each poll id in the store: whether the poll is there, and how many sessions are."""
    with pymongo.MongoClient[dict[str, Any]](address_in(data_dir)) as client:
        polls = {poll["id"] for one in client.polls.containers.find() for poll in one["polls"]}
        sessions = [one["poll_id"] for one in client.polls.sessions.find()]
    return {poll: (poll in polls, sessions.count(poll)) for poll in polls | set(sessions)}


async def make_polls(http: aiohttp.ClientSession, turn: int) -> dict[str, tuple[str, int]]:
    """By poll id, the path that deletes it and how many sessions it has."""
    made: dict[str, tuple[str, int]] = {}
    place = f"type=polls&workspace=PLAT&content=PLAT-{turn}"
    for _ in range(6):
        async with http.post(f"/rest?{place}", json=CONTENT_POLL) as answer:
            poll_id = (await answer.json())["id"]
        made[poll_id] = (f"/rest?{place}&pollId={poll_id}", 3)
        async with http.post(f"{API}/polls", json={"polls": {"question": "Tea?"}}) as answer:
            number = (await answer.json())["polls"][0]["id"]
        own = f"type=polls&workspace=users&content=0&container={number}"
        async with http.get(f"/rest?{own}") as answer:
            own_id = (await answer.json())[0]["id"]
        made[own_id] = (f"{API}/polls/{number}", 2)
        for reference in (poll_id, poll_id, number, number):
            path = f"{API}/polls/{reference}/poll_sessions"
            async with http.post(path, json={"poll_sessions": {"course_id": 1}}) as answer:
                assert answer.status == 200
    return made


@pytest.mark.timeout(90)
async def test_a_kill_in_the_middle_of_deletes_leaves_each_poll_whole_or_gone(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    headers = {"Authorization": f"Bearer {ADMIN}"}
    expected: dict[str, tuple[str, int]] = {}
    gone: set[str] = set()
    for turn in range(5):
        with service(data_dir) as (url, process):
            require_whole(sessions_by_poll(data_dir), expected, gone)
            async with aiohttp.ClientSession(url, headers=headers) as http:
                made = await make_polls(http, turn)
                expected |= made
                left = turn + 1

                async def delete(poll_id: str, path: str) -> None:
                    """Kills the service as soon as some deletes, more each turn, are answered."""
                    nonlocal left
                    async with http.delete(path) as answer:
                        assert answer.status in (200, 204)
                    gone.add(poll_id)
                    left -= 1
                    if left == 0:
                        process.kill()

                deletes = [delete(poll_id, path) for poll_id, (path, _) in made.items()]
                ends = await asyncio.gather(*deletes, return_exceptions=True)
            assert process.wait() == -9
            assert any(isinstance(end, aiohttp.ClientError) for end in ends)
            assert all(end is None or isinstance(end, aiohttp.ClientError) for end in ends)
    with service(data_dir):
        require_whole(sessions_by_poll(data_dir), expected, gone)
    assert len(gone) >= 15


def require_whole(
    stored: dict[str, tuple[bool, int]], expected: dict[str, tuple[str, int]], gone: set[str]
) -> None:
    """Each poll with all its sessions or with none; none of those whose delete was answered."""
    assert set(stored) <= set(expected)
    for poll_id, is_with_sessions in stored.items():
        assert is_with_sessions == (True, expected[poll_id][1])
    assert not gone & set(stored)
