"""Rights hold when a body has arrived, not when its request began."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from service.web import bodies
from service.web.store_key import STORE
from storage.client import set_time_limit
from tests.casting.test_casting_guards import once_before
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import COURSE, Headers, Run, course_run, enroll, tally
from tests.support.seeds import refused

BODY = json.dumps({"poll_submissions": [{"poll_choice_id": 1}]}).encode()

Meanwhile = Callable[[], Awaitable[None]]


@pytest.fixture
def submit_late(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Run, Headers, Meanwhile], Awaitable[int]]:
    """Submits a choice; ``meanwhile`` happens when the service has begun to wait for the body."""

    async def submit(run: Run, who: Headers, meanwhile: Meanwhile) -> int:
        has_happened = asyncio.Event()

        async def happen() -> None:
            await meanwhile()
            has_happened.set()

        async def pieces() -> AsyncIterator[bytes]:
            yield BODY[:10]
            await has_happened.wait()
            yield BODY[10:]

        monkeypatch.setattr(bodies, "LATE_SECONDS", 0.0)
        once_before(monkeypatch, bodies, "_read_to_end", happen)
        headers = {**who, "Content-Type": "application/json"}
        answer = await api.post(run.submissions, data=pieces(), headers=headers)
        if answer.status != 200:
            await refused(answer, answer.status)
        return answer.status

    return submit


SubmitLate = Callable[[Run, Headers, Meanwhile], Awaitable[int]]


@pytest.mark.parametrize("what", ["token", "enrollment"])
async def test_a_vote_whose_rights_ended_while_its_body_was_on_the_way_is_refused(
    api: Client,
    raw: Raw,
    clock: Clock,
    make_token: TokenMaker,
    submit_late: SubmitLate,
    what: str,
) -> None:
    run = await course_run(api, raw)
    await enroll(api, 7)
    who = await make_token(user_id=7, workspaces=[], name="student")

    async def end() -> None:
        if what == "token":
            await api.app[STORE].tokens.revoke("student", clock())
        else:
            [enrollment] = raw.enrollments.find()
            await api.app[STORE].enrollments.delete(COURSE, enrollment["number"])

    assert await submit_late(run, who, end) == 403
    assert tally(raw, run) == {}


async def test_a_body_that_came_late_has_the_whole_time_for_the_database_left(
    api: Client, raw: Raw, make_token: TokenMaker, submit_late: SubmitLate
) -> None:
    run = await course_run(api, raw)
    await enroll(api, 7)
    who = await make_token(user_id=7, workspaces=[])

    async def let_time_pass() -> None:
        set_time_limit(-1.0)

    assert await submit_late(run, who, let_time_pass) == 200
    assert tally(raw, run) == {"1": 1}
