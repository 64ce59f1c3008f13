"""Restores beside votes, deletions, purges and kills: each poll is whole, in one place."""

import asyncio
import threading
from contextlib import suppress
from http.client import HTTPException

import pytest

from service.web.store_key import STORE
from tests.conftest import ADMIN, Client, Clock, Raw
from tests.support.calls import POLL, call, place
from tests.support.casting import Run, answered, content_run, enroll, submit, tally, vote
from tests.support.casting import course_run as a_course_run
from tests.support.fleet import eventually
from tests.support.processes import Service, Services

pytestmark = pytest.mark.faults

ROUNDS = 8
RESTORE = "/rest/restore"


async def insist(api: Client, method: str, path: str, params: dict[str, str]) -> int:
    """The status, asked again after a 503."""
    while True:
        async with api.request(method, path, params=params) as response:
            await response.read()
            if response.status != 503:
                return response.status
        await asyncio.sleep(0.05)


async def delete(api: Client, run: Run) -> int:
    return await insist(api, "DELETE", "/rest", run.query)


async def restore(api: Client, run: Run) -> int:
    return await insist(api, "POST", RESTORE, {"pollId": run.poll_id})


def places(raw: Raw) -> list[int]:
    """How many polls and sessions there are, and how many of them are deleted."""
    names = ("addresses", "sessions", "deleted_polls", "deleted_sessions")
    return [raw[name].count_documents({}) for name in names]


async def test_votes_beside_a_deletion_and_a_restore_are_counted_if_they_were_answered(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    cast: list[int] = []
    is_over = asyncio.Event()

    async def voter(first: int) -> None:
        for user in range(first, 10_000_000, 4):
            if is_over.is_set():
                return
            response = await vote(api, run, "1", acting=user)
            await response.read()
            assert response.status in (200, 404, 503)
            if response.status == 200:
                cast.append(user)

    async with asyncio.TaskGroup() as group:
        for first in range(1, 5):
            group.create_task(voter(first))
        for _ in range(ROUNDS):
            assert await delete(api, run) == 200
            assert await restore(api, run) == 200
            count = len(cast)
            await eventually(lambda: len(cast) > count, seconds=20)  # noqa: B023
        is_over.set()
    assert tally(raw, run) == {"1": len(cast)}
    ids = {api.app[STORE].ballots.id_of(run.session, user) for user in cast}
    assert {one["_id"] for one in raw.ballots.find()} == ids


async def test_of_restores_at_once_one_does_it(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1"))
    for _ in range(ROUNDS):
        assert await delete(api, run) == 200
        statuses = await asyncio.gather(*(restore(api, run) for _ in range(4)))
        assert sorted(statuses) == [200, 404, 404, 404]
        assert places(raw) == [1, 1, 0, 0]
        assert tally(raw, run) == {"1": 1}


async def test_a_restore_and_a_deletion_at_once_leave_the_poll_in_one_place(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    for _ in range(ROUNDS):
        assert await delete(api, run) == 200
        restored, deleted = await asyncio.gather(restore(api, run), delete(api, run))
        assert restored == 200
        assert places(raw) == ([0, 0, 1, 1] if deleted == 200 else [1, 1, 0, 0])
        if deleted == 200:
            assert await restore(api, run) == 200


async def test_a_restore_and_a_purge_at_once_have_one_winner(
    api: Client, raw: Raw, clock: Clock
) -> None:
    for _ in range(ROUNDS):
        run = await content_run(api, raw)
        await answered(await vote(api, run, "1"))
        assert await delete(api, run) == 200
        clock.advance(hours=24)
        restored, _ = await asyncio.gather(
            restore(api, run), api.app[STORE].deleted_polls.purge_some()
        )
        if restored == 200:
            assert places(raw) == [1, 1, 0, 0]
            assert tally(raw, run) == {"1": 1}
            assert await delete(api, run) == 200
            clock.advance(hours=24)
            await api.app[STORE].deleted_polls.purge_some()
        assert places(raw) == [0, 0, 0, 0]
        await eventually(lambda: raw.ballots.find_one() is None)


async def test_an_enrollment_that_ends_beside_a_restore_takes_the_right_to_vote(
    api: Client, raw: Raw
) -> None:
    """The end changes open sessions alone, and the deleted one is none."""
    run = await a_course_run(api, raw)
    for user in range(1, ROUNDS + 1):
        await enroll(api, user)
        enrollment = raw.enrollments.find_one({"user_id": user})
        assert enrollment is not None
        assert await delete(api, run) == 200
        url = f"/api/v1/courses/{enrollment['course_id']}/enrollments/{enrollment['number']}"
        ended, restored = await asyncio.gather(insist(api, "DELETE", url, {}), restore(api, run))
        assert (ended, restored) == (200, 200)
        response = await submit(api, run, 1, acting=user, enrolls=False)
        assert response.status == 403
    assert tally(raw, run) == {}


class Killer:
    """Deletes and restores polls at once, and kills the service after some answers."""

    def __init__(self, service: Service, polls: dict[int, str], answers: int) -> None:
        self._service = service
        self._polls = polls
        self._left = answers
        self.restored: set[int] = set()

    def run(self) -> None:
        threads = [threading.Thread(target=self._do, args=(one,)) for one in self._polls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _do(self, number: int) -> None:
        where = place(f"PLAT-{number}", pollId=self._polls[number])
        with suppress(OSError, HTTPException):  # what is under way at a kill ends in any way
            call(self._service.url, "DELETE", where, token=ADMIN)
            if restored(self._service, self._polls[number]):
                self.restored.add(number)
            self._left -= 1
            if self._left == 0:
                self._service.kill()


def restored(service: Service, poll_id: str) -> bool:
    answer = call(service.url, "POST", f"{RESTORE}?pollId={poll_id}", token=ADMIN)
    return answer.status == 200


def test_a_kill_in_the_middle_of_restores_leaves_each_poll_whole_in_one_place(
    services: Services,
) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    polls: dict[int, str] = {}
    for number in range(1, 9):
        created = call(service.url, "POST", place(f"PLAT-{number}"), token=ADMIN, body=POLL)
        polls[number] = created.data["id"]
        votes = place(f"PLAT-{number}", pollId=polls[number]).replace("type=polls", "type=votes")
        body = {"optionIds": ["1"]}
        assert call(service.url, "POST", votes, token=ADMIN, body=body).status == 200
    killer = Killer(service, polls, answers=3)
    killer.run()
    service.wait()
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    for number, poll_id in polls.items():
        where = place(f"PLAT-{number}", expand="results")
        shown = call(service.url, "GET", where, token=ADMIN).data
        assert shown or number not in killer.restored
        assert shown or restored(service, poll_id)
        assert not restored(service, poll_id)
        [poll] = call(service.url, "GET", where, token=ADMIN).data
        assert poll["results"]["participants"] == 1
    assert service.stop() == 0
    assert services.run("recount").status == 0
