"""``expand=vote``: the caller's own vote, and what the caller may do (docs/api.md, section 3)."""

from typing import Any

import pytest

from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import OPTIONS, Headers, Run, answered, change, content_run, vote
from tests.support.polling import make_poll
from tests.support.seeds import ISSUE, Json, a_poll

READER: Json = {"actions": ["read"]}
VOTER: Json = {"actions": ["read", "vote"]}
MEMBERS = ("vote", "hasVoted", "canVote", "canChange", "canWrite")


async def seen(
    api: Client, run: Run, who: Headers | None = None, path: str = "/rest", **query: str
) -> Json:
    """The members that ``expand=vote`` adds."""
    params = {**run.query, "expand": "vote", **query}
    [poll] = await answered(await api.get(path, params=params, headers=who))
    assert "results" not in poll
    return {name: poll[name] for name in MEMBERS}


async def own_vote(api: Client, run: Run, who: Headers | None, **query: str) -> Json | None:
    """What ``type=votes`` shows a caller that is no manager."""
    votes = await answered(await api.get("/rest", params={**run.votes, **query}, headers=who))
    assert len(votes) <= 1
    return dict(votes[0]) if votes else None


def can(found: Json) -> tuple[bool, bool, bool, bool]:
    return found["hasVoted"], found["canVote"], found["canChange"], found["canWrite"]


@pytest.mark.parametrize("path", ["/rest", "/rest/polls", "/x1/any"])
async def test_a_vote_is_shown_to_its_voter_and_to_nobody_else(
    api: Client, raw: Raw, make_token: TokenMaker, path: str
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True, allowComment=True)
    voter, other = await make_token(user_id=7, **VOTER), await make_token(user_id=8, **VOTER)
    assert await seen(api, run, voter, path) == {
        "vote": None,
        "hasVoted": False,
        "canVote": True,
        "canChange": False,
        "canWrite": False,
    }
    cast = await answered(await vote(api, run, "2", who=voter, comment="Milk, please."))
    mine = await seen(api, run, voter, path)
    assert mine["vote"] == cast == await own_vote(api, run, voter)
    assert can(mine) == (True, False, False, False)
    others = await seen(api, run, other, path)
    assert (others["vote"], can(others)) == (None, (False, True, False, False))


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "unnamed"])
async def test_a_caller_that_acts_for_the_voter_is_told_what_the_votes_tell(
    api: Client, raw: Raw, make_token: TokenMaker, is_named: bool
) -> None:
    run = await content_run(api, raw, saveParticipantNames=is_named)
    voter = await make_token(user_id=7, **VOTER)
    await answered(await vote(api, run, "2", who=voter))
    for who, query in ((voter, {}), (None, {"as_user_id": "7"})):
        found = await seen(api, run, who, **query)
        assert found["vote"] == await own_vote(api, run, who, **query)
        assert found["vote"]["userId"] == 7
        is_known = is_named or who is not None
        assert found["vote"]["optionIds"] == (["2"] if is_known else None)
        assert (found["vote"]["createdAt"] is None) != is_known
        assert can(found) == (True, False, False, False)


async def test_a_token_without_the_action_vote_is_shown_no_vote(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "2", who=await make_token(user_id=7)))
    found = await seen(api, run, await make_token(user_id=7, **READER))
    assert (found["vote"], can(found)) == (None, (True, False, False, False))


async def test_a_vote_can_be_changed_while_the_poll_is_open_and_allows_it(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    voter = await make_token(user_id=7, **VOTER)
    assert can(await seen(api, run, voter)) == (False, True, False, False)
    await answered(await vote(api, run, "2", who=voter))
    assert can(await seen(api, run, voter)) == (True, False, True, False)
    await answered(await api.get(f"{run.url}/close"))
    assert can(await seen(api, run, voter)) == (True, False, False, False)
    await answered(await api.get(f"{run.url}/open"))
    await change(api, run, allowRevote=False)
    assert can(await seen(api, run, voter)) == (True, False, False, False)
    await change(api, run, allowRevote=True)
    await answered(await api.delete("/rest", params=run.votes, headers=voter))
    assert can(await seen(api, run, voter)) == (False, True, False, False)


async def test_who_can_write_is_told(api: Client, raw: Raw, make_token: TokenMaker) -> None:
    made_by_7 = await content_run(api, raw, who=await make_token(user_id=7))
    run = await content_run(api, raw)
    callers: list[tuple[Headers | None, Json, Run, bool]] = [
        (None, {}, run, True),
        (await make_token(), {}, run, True),
        (await make_token(actions=["read", "write"]), {}, run, True),
        (await make_token(**VOTER), {}, run, False),
        (None, {"as_user_id": "7"}, run, False),
        (None, {"as_user_id": "7"}, made_by_7, True),
        (await make_token(user_id=7, **VOTER), {}, made_by_7, False),
    ]
    for who, query, of, expected in callers:
        assert (await seen(api, of, who, **query))["canWrite"] == expected
        body = a_poll(options=OPTIONS)
        params = {**of.query, **query}
        put = await api.put("/rest", params=params, json=body, headers=who)
        assert (put.status == 200) == expected


async def test_a_poll_of_a_user_takes_no_vote_here_and_its_owner_can_write_it(
    api: Client,
) -> None:
    poll = await make_poll(api)
    place = {"workspace": "users", "content": "0", "container": str(poll["id"])}
    params = {**place, "expand": "results,vote"}
    [found] = await answered(await api.get("/rest/polls", params=params))
    assert "results" not in found
    assert (found["vote"], can(found)) == (None, (False, False, False, True))


async def test_results_and_votes_are_expanded_together(api: Client, raw: Raw) -> None:
    first, second = await content_run(api, raw), await content_run(api, raw)
    await answered(await vote(api, second, "3", acting=7))
    for both in ("results,vote", "vote,results"):
        params = {**ISSUE, "expand": both, "as_user_id": "7"}
        polls = await answered(await api.get("/rest", params=params))
        assert [poll["id"] for poll in polls] == [first.poll_id, second.poll_id]
        assert [poll["results"]["options"]["3"]["votes"] for poll in polls] == [0, 1]
        assert [poll["hasVoted"] for poll in polls] == [False, True]


async def test_the_tag_changes_with_ones_own_vote_and_not_with_that_of_others(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    voter, other = await make_token(user_id=7, **VOTER), await make_token(user_id=8, **VOTER)
    params = {**run.query, "expand": "vote"}
    tags: list[str] = []

    async def is_new() -> bool:
        headers = {**voter, "If-None-Match": tags[-1]} if tags else voter
        async with api.get("/rest", params=params, headers=headers) as answer:
            assert answer.status in (200, 304)
            tags.append(answer.headers["ETag"])
            return answer.status == 200

    assert await is_new()
    assert not await is_new()
    await answered(await vote(api, run, "1", who=other))
    assert not await is_new()
    await answered(await vote(api, run, "1", who=voter))
    assert await is_new()
    await answered(await vote(api, run, "1", who=voter))
    assert not await is_new()
    await answered(await vote(api, run, "2", who=voter))
    assert await is_new()
    await answered(await api.get(f"{run.url}/close"))
    assert await is_new()


async def test_what_was_expanded_can_be_sent_back(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "2"))
    params = {**run.query, "expand": "results,vote"}
    [before] = await answered(await api.get("/rest", params=params))
    changed: dict[str, Any] = {**before, "title": "Milk?"}
    stored = await answered(await api.put("/rest", params=run.query, json=changed))
    assert stored["title"] == "Milk?"
    assert stored.keys().isdisjoint(MEMBERS)
    [after] = await answered(await api.get("/rest", params=params))
    assert after == changed
