"""``kill -9`` of the service under load: what was answered is there, what it started is gone."""

import asyncio
from collections.abc import Iterator
from itertools import count

import aiohttp
import pytest

from tests.conftest import ADMIN, Scale
from tests.support.processes import Service, Services, eventually, is_running, until

pytestmark = pytest.mark.faults


HEADERS = {"Authorization": f"Bearer {ADMIN}"}
WRITERS = 16
CONTENTS = 8
"""Fewer than writers: some of them race for one container."""


def place(content: int) -> dict[str, str]:
    return {"type": "polls", "workspace": "PLAT", "content": f"PLAT-{content}"}


class Creations:
    """What was asked for, and what was answered with 200: ids of polls, each by its content."""

    def __init__(self) -> None:
        self.answered: dict[int, list[str]] = {content: [] for content in range(CONTENTS)}
        self.unanswered = 0
        self._titles = count()

    @property
    def number(self) -> int:
        return sum(map(len, self.answered.values()))

    async def reached(self, number: int) -> bool:
        return self.number >= number

    async def write(self, session: aiohttp.ClientSession, url: str, content: int) -> None:
        """Creates one poll after the other until the service is gone."""
        while True:
            poll = {"title": f"poll {next(self._titles)}", "options": [{"title": "yes"}]}
            try:
                async with session.post(f"{url}/rest", params=place(content), json=poll) as answer:
                    created = await answer.json()
            except (aiohttp.ClientError, ConnectionError):
                self.unanswered += 1
                return
            assert answer.status == 200, created
            self.answered[content].append(created["id"])


async def stored_ids(session: aiohttp.ClientSession, url: str, content: int) -> list[str]:
    async with session.get(f"{url}/rest", params=place(content)) as answer:
        assert answer.status == 200
        return [poll["id"] for poll in await answer.json()]


async def kill_amid(creations: Creations, service: Service, moment: int) -> None:
    """Kills the service once ``moment`` more polls were answered, with more of them under way."""
    wanted = creations.number + moment
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        writers = [
            asyncio.create_task(creations.write(session, service.url, writer % CONTENTS))
            for writer in range(WRITERS)
        ]
        await eventually(lambda: creations.reached(wanted), f"{wanted} polls")
        service.kill()
        await asyncio.gather(*writers)


def moments(kills: int) -> Iterator[int]:
    """After so many answers the service is killed: early, late, in between."""
    return (3 + (7 * n) % 31 for n in range(kills))


async def test_polls_that_were_answered_survive_kills(services: Services, scale: Scale) -> None:
    creations = Creations()
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    for moment in moments(scale.kills):
        brought_along = service.guard_pid, service.server_pid
        unanswered = creations.unanswered
        await kill_amid(creations, service, moment)
        assert creations.unanswered == unanswered + WRITERS  # it was in the middle of them all

        service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
        assert not any(map(is_running, brought_along))
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            for content, answered in creations.answered.items():
                stored = await stored_ids(session, service.url, content)
                assert set(answered) <= set(stored)
                assert len(stored) == len(set(stored))
    assert creations.number >= sum(moments(scale.kills))
    assert service.stop() == 0


async def test_what_a_killed_service_started_is_gone_within_seconds(services: Services) -> None:
    service = services.start()
    guard, server = service.guard_pid, service.server_pid
    service.kill()
    until(lambda: not is_running(guard), "the end of the guard", within=5)
    until(lambda: not is_running(server), "the end of the server", within=5)
