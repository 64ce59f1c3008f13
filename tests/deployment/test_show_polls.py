"""``examples/show_polls.py``, as its users start it: the state of 100 polls in one call."""

import asyncio
import os
import sys
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import Settings
from tests.conftest import ADMIN, AsServed, Clock, TokenMaker
from tests.support.processes import ROOT
from tests.support.seeds import a_poll

SCRIPT = ROOT / "examples" / "show_polls.py"
ISSUES = [f"PLAT-{number}" for number in range(100)]
CALLS: web.AppKey[list[str]] = web.AppKey("calls")


@pytest.fixture
async def counting(aiohttp_client: AiohttpClient, settings: Settings, clock: Clock) -> AsServed:
    """A service that counts the calls it is asked for, with a poll in each issue."""
    app = create_app(settings, clock=clock)
    app[CALLS] = []

    async def count(request: web.Request, _: web.StreamResponse) -> None:
        app[CALLS].append(f"{request.method} {request.path}")

    app.on_response_prepare.append(count)
    server = AsServed(app)
    client: Any = await aiohttp_client(server, headers={"Authorization": f"Bearer {ADMIN}"})
    for number, issue in enumerate(ISSUES):
        place = {"workspace": "PLAT", "content": issue}
        poll = a_poll(title=f"Tea {number}?", settings={"saveParticipantNames": True})
        async with client.post("/rest/polls", params=place, json=poll) as made:
            poll_id = (await made.json())["id"]
        if number % 2:
            query = {**place, "pollId": poll_id, "as_user_id": "7"}
            vote = client.post("/rest/votes", params=query, json={"optionIds": ["2"]})
            assert (await vote).status == 200
    app[CALLS].clear()
    return server


async def show(
    server: AsServed, *issues: str, token: str = ADMIN, user: str = "7"
) -> tuple[int | None, str, str]:
    """Its exit status, and what it said and complained of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), str(server.make_url("/")), "PLAT", user, *issues),
        env={"PATH": os.defpath, "POLLS_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    return process.returncode, said.decode(), complained.decode()


async def test_it_shows_a_hundred_polls_with_one_call(counting: AsServed) -> None:
    status, said, complained = await show(counting, *ISSUES)
    assert (status, complained) == (0, "")
    assert counting.app[CALLS] == ["POST /rest/query"]
    lines = said.splitlines()
    assert lines[:8] == [
        "PLAT-0",
        "  Tea 0? (vote)",
        "      0.0 % yes",
        "      0.0 % no",
        "PLAT-1",
        "  Tea 1? (you have voted)",
        "      0.0 % yes",
        "  * 100.0 % no",
    ]
    assert len(lines) == 400


async def test_it_tells_a_poll_that_the_user_may_not_vote_in_from_none(
    counting: AsServed, make_token: TokenMaker
) -> None:
    """The id of the user is one of another system."""
    who = await make_token(workspaces=["PLAT"], actions=["read", "act"])
    token = who["Authorization"].removeprefix("Bearer ")
    status, said, complained = await show(
        counting, "PLAT-0", "PLAT-100", token=token, user="557058:f58131cb"
    )
    assert (status, complained) == (0, "")
    assert said.splitlines() == [
        "PLAT-0",
        "  Tea 0? (you may not vote)",
        "      0.0 % yes",
        "      0.0 % no",
        "PLAT-100",
        "  no polls",
    ]


async def test_a_refusal_ends_it_with_the_reason(counting: AsServed) -> None:
    status, said, complained = await show(counting, *ISSUES, token="no-token")
    assert (status, said) == (1, "")
    assert complained.startswith("403 {")
