"""The example that moves polls: what it says, and how often it calls."""

import io
from pathlib import Path

from tests.conftest import Client, Raw, TokenMaker
from tests.support.examples import calls, run
from tests.support.moving import a_ballot, a_line, body_of, require_counted, vote

SCRIPT = "move_polls.py"
POLLS, VOTES = 100, 5


async def test_polls_with_ids_and_votes_are_moved_in_one_call_and_moving_again_changes_nothing(
    api: Client, raw: Raw, tmp_path: Path, request_lines: io.BytesIO
) -> None:
    path = tmp_path / "polls.ndjson"
    votes = [a_ballot(user, "1") for user in range(1, VOTES + 1)]
    lines = [a_line(which, *votes) for which in range(1, POLLS + 1)]
    path.write_bytes(body_of(lines))
    assert await run(api, SCRIPT, str(path)) == (0, f"{POLLS} created, 0 there already.\n", "")
    made = calls(api, request_lines)
    assert [(one["method"], one["route"], one["status"]) for one in made] == [
        ("POST", "/rest/import", 200)
    ]
    assert require_counted(raw) == POLLS * VOTES
    ids = {one["_id"]: one["number"] for one in raw.addresses.find()}
    assert ids == {one["id"]: one["number"] for one in lines}
    assert [await vote(api, user, lines[-1]) for user in (VOTES, VOTES + 1)] == [409, 200]
    assert await run(api, SCRIPT, str(path)) == (0, f"0 created, {POLLS} there already.\n", "")


async def test_it_says_which_line_was_refused_and_why(
    api: Client, tmp_path: Path, make_token: TokenMaker
) -> None:
    path = tmp_path / "polls.ndjson"
    path.write_bytes(body_of([a_line(1), a_line(2, title="")]))
    status, said, complained = await run(api, SCRIPT, str(path))
    assert (status, said) == (1, "1 created, 0 there already, 1 refused.\n")
    assert complained == "line 2: title must have 1 to 255 characters\n"
    who = await make_token()
    assert await run(api, SCRIPT, str(path), who=who) == (
        1,
        "",
        "Only admins may do this, without as_user_id.\n",
    )
