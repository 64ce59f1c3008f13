"""The example of a backend that votes for its users: what it needs, and how often it calls."""

import io

from tests.conftest import Client, Raw, TokenMaker
from tests.support.examples import calls, run

SCRIPT = "vote_for_a_user.py"


async def test_a_limited_token_makes_the_poll_of_an_issue_and_votes_for_a_user_in_two_calls(
    api: Client, raw: Raw, make_token: TokenMaker, request_lines: io.BytesIO
) -> None:
    who = await make_token(workspaces=["PLAT"], actions=["act", "write", "vote"])
    status, said, complained = await run(api, SCRIPT, who=who)
    [container] = raw.containers.find()
    [poll] = container["polls"]
    assert (status, complained) == (0, "")
    assert said == f"User 42 voted yes in poll {poll['id']}.\n"
    assert (container["_id"], poll["owner_id"]) == ("PLAT\x1fPLAT-42\x1f", 42)
    [session] = raw.sessions.find()
    assert (session["results"], session["participants"]) == ({"yes": 1, "no": 0}, 1)
    made = calls(api, request_lines)
    assert [(one["method"], one["route"], one["status"]) for one in made] == [
        ("POST", "/rest/polls", 200),
        ("POST", "/rest/votes", 200),
    ]
    again = {"workspace": "PLAT", "content": "PLAT-42", "as_user_id": "42"}
    vote = {"optionIds": ["no"]}
    async with api.post(
        "/rest/votes", params={**again, "pollId": poll["id"]}, json=vote, headers=who
    ) as second:
        assert second.status == 409
    assert raw.ballots.count_documents({}) == 1


async def test_a_token_for_another_workspace_is_told_why_it_may_not(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    who = await make_token(workspaces=["DOCS"], actions=["act", "write", "vote"])
    status, said, complained = await run(api, SCRIPT, who=who)
    assert (status, said) == (1, "")
    assert complained == "This token does not cover the workspace PLAT.\n"
    assert raw.containers.count_documents({}) == 0
