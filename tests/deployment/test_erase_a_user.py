"""``examples/erase_a_user.py``, as its users start it: one call, and the wait for its end."""

import asyncio
import io
import json
import os
import sys
from pathlib import Path

from service.telemetry.log import REQUEST_LOG
from storage.documents import UserId
from tests.conftest import ADMIN, Client, Raw, TokenMaker
from tests.support.casting import answered, content_run, enroll, tally, vote
from tests.support.processes import ROOT

SCRIPT = ROOT / "examples" / "erase_a_user.py"
PATIENCE_SECONDS = 30.0
ANN = "ann/557058"


async def run(api: Client, *options: str, token: str = ADMIN) -> tuple[int | None, str, str]:
    """The exit status of the example, what it said, and what it complained of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), str(api.make_url("")).rstrip("/"), *options),
        env={"PATH": os.defpath, "POLLS_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        said, complained = await process.communicate()
    return process.returncode, said.decode(), complained.decode()


async def test_it_erases_a_user_with_one_call_and_keeps_what_was_held_if_it_is_asked_to(
    api: Client, raw: Raw, tmp_path: Path, request_lines: io.BytesIO
) -> None:
    poll = await content_run(api, raw, saveParticipantNames=True)
    users: tuple[UserId, ...] = (ANN, 42)
    for user in users:
        await enroll(api, user)
        await answered(await vote(api, poll, "1", acting=user))
    api.app[REQUEST_LOG].flush()
    request_lines.truncate(0)
    request_lines.seek(0)
    status, said, complained = await run(api, ANN)
    assert (status, complained) == (0, "")
    assert said == "Erased: 1 enrollment, 0 tokens, 0 polls, 1 vote.\n"
    assert tally(raw, poll) == {"1": 2}
    api.app[REQUEST_LOG].flush()
    calls = [json.loads(line) for line in request_lines.getvalue().splitlines()]
    made = [(one["method"], one["route"], one["status"]) for one in calls]
    assert made[0] == ("DELETE", "/users/{id}/data", 202)
    assert set(made[1:]) == {("GET", "/erasures/{erasure_id}", 200)}
    kept = tmp_path / "data.ndjson"
    status, said, _ = await run(api, "42", "--votes", "withdraw", "--data", str(kept))
    assert status == 0
    kinds = [json.loads(line)["kind"] for line in kept.read_text().splitlines()]
    assert kinds == ["user", "enrollment", "vote"]
    assert tally(raw, poll) == {"1": 1}
    assert [one["user_id"] for one in raw.ballots.find()] == [None]


async def test_a_token_that_is_no_admins_is_told_why_it_may_not(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    who = await make_token(user_id=42)
    token = who["Authorization"].removeprefix("Bearer ")
    assert await run(api, "42", token=token) == (
        1,
        "",
        "Only admins may do this, without as_user_id.\n",
    )
    assert raw.erasures.count_documents({}) == 0
