"""What every contender holds and is asked for: the same polls under the same URLs and tokens."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

from schemas.content import NEW_POLL
from service.rules.principal import ACTIONS, READ
from storage.documents import ContainerKey, PollDefinition
from storage.location import Location
from storage.startup import open_store

WORKSPACE = "BENCH"
CONTENTS = 1000
READ_CONTENT = 0
CROWDED_CONTENT = 1
"""The content whose session takes all votes of the workload of one session."""
SPREAD_CONTENTS = range(2, 102)
LONG_CONTENT = 102
"""Takes 100,000 votes; the empty ones after it are for sessions that nobody has voted in."""
EMPTY_CONTENTS = range(103, 113)
LIVE_CONTENT = 123
"""Its session is watched while votes come in."""
CRASH_CONTENTS = range(113, 123)
"""Each takes the votes of one trial in which their contender is killed."""

READER = "bench_reader_0123456789abcdef0123456789abcdef"
ADMIN = "bench_admin_0123456789abcdef0123456789abcdef"
"""Secrets of tokens that live as long as the run, in a store that nobody else reaches."""
SERVICE_USER = 1
VOTE = b'{"optionIds": ["3"]}'

POLL = {
    "title": "How many stars does this page deserve?",
    "description": "One is poor, five is excellent. Thank you for taking the time.",
    "options": [
        {"title": "one star"},
        {"title": "two stars"},
        {"title": "three stars"},
        {"title": "four stars"},
        {"title": "five stars"},
    ],
}


def content_name(number: int) -> str:
    return f"{WORKSPACE}-{number}"


def poll_id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, content_name(number)))


def read_path(number: int) -> str:
    return f"/rest?type=polls&workspace={WORKSPACE}&content={content_name(number)}"


def vote_path(number: int) -> str:
    """Whose vote it is, ``as_user_id``, is put behind it for each request."""
    place = f"workspace={WORKSPACE}&content={content_name(number)}"
    return f"/rest?type=votes&{place}&pollId={poll_id(number)}"


def results_path(number: int) -> str:
    place = f"workspace={WORKSPACE}&content={content_name(number)}"
    return f"/rest/results?{place}&pollId={poll_id(number)}"


def definitions() -> Iterator[tuple[ContainerKey, PollDefinition]]:
    """One poll for each content."""
    for number in range(CONTENTS):
        definition = cast(PollDefinition, NEW_POLL.load({**POLL, "id": poll_id(number)}))
        yield ContainerKey(WORKSPACE, content_name(number), ""), definition


async def fill(location: Location) -> None:
    """Puts tokens and polls into a store of the service's own shape."""
    now = datetime.now(UTC)
    async with open_store(location, holder="command") as store:
        await store.tokens.create(
            READER, name="reader", user_id=2, workspaces=[WORKSPACE], actions=[READ], now=now
        )
        await store.tokens.create(
            ADMIN, name="admin-bench", user_id=SERVICE_USER, admin=True, actions=ACTIONS, now=now
        )
        room = asyncio.Semaphore(20)

        async def add(key: ContainerKey, definition: PollDefinition) -> None:
            async with room:
                await store.polls.add(key, definition, owner_id=SERVICE_USER, now=now)

        await asyncio.gather(*(add(key, definition) for key, definition in definitions()))
