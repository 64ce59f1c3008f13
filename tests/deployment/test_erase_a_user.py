"""``examples/erase_a_user.py``, as its users start it: one call, and the wait for its end."""

import io
import json
from pathlib import Path

from storage.documents import UserId
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import answered, content_run, enroll, tally, vote
from tests.support.examples import calls, run

SCRIPT = "erase_a_user.py"
ANN = "ann/557058"


async def test_it_erases_a_user_with_one_call_and_keeps_what_was_held_if_it_is_asked_to(
    api: Client, raw: Raw, tmp_path: Path, request_lines: io.BytesIO
) -> None:
    poll = await content_run(api, raw, saveParticipantNames=True)
    users: tuple[UserId, ...] = (ANN, 42)
    for user in users:
        await enroll(api, user)
        await answered(await vote(api, poll, "1", acting=user))
    calls(api, request_lines)
    status, said, complained = await run(api, SCRIPT, ANN)
    assert (status, complained) == (0, "")
    assert said == "Erased: 1 enrollment, 0 tokens, 0 polls, 1 vote.\n"
    assert tally(raw, poll) == {"1": 2}
    lines = calls(api, request_lines)
    made = [(one["method"], one["route"], one["status"]) for one in lines]
    assert made[0] == ("DELETE", "/users/{id}/data", 202)
    assert set(made[1:]) == {("GET", "/erasures/{erasure_id}", 200)}
    kept = tmp_path / "data.ndjson"
    status, said, _ = await run(api, SCRIPT, "42", "--votes", "withdraw", "--data", str(kept))
    assert status == 0
    kinds = [json.loads(line)["kind"] for line in kept.read_text().splitlines()]
    assert kinds == ["user", "enrollment", "vote"]
    assert tally(raw, poll) == {"1": 1}
    assert [one["user_id"] for one in raw.ballots.find()] == [None]


async def test_a_token_that_is_no_admins_is_told_why_it_may_not(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    who = await make_token(user_id=42)
    assert await run(api, SCRIPT, "42", who=who) == (
        1,
        "",
        "Only admins may do this, without as_user_id.\n",
    )
    assert raw.erasures.count_documents({}) == 0
