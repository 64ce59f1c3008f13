"""Votes in content polls, ``type=votes`` of ``/rest`` (docs/api.md, sections 3 and 5)."""

from datetime import timedelta
from typing import Any

import pytest
from yarl import URL

from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    Headers,
    Run,
    answered,
    change,
    content_run,
    course_run,
    seed_ballots,
    tally,
    vote,
)
from tests.support.seeds import ISSUE, PAGE, UNKNOWN, refused

NOON = "2126-01-31T12:00:00Z"
DAY = "2126-01-31T00:00:00Z"
RED = {"optionIds": ["1"]}
METHODS = ("GET", "POST", "DELETE")


async def votes_seen(api: Client, run: Run, who: Headers | None = None, **query: str) -> Any:
    return await answered(await api.get("/rest", params={**run.votes, **query}, headers=who))


async def withdraw(api: Client, run: Run, who: Headers | None = None) -> Any:
    return await api.delete("/rest", params=run.votes, headers=who)


@pytest.mark.parametrize("place", [ISSUE, PAGE], ids=["an issue", "a page"])
async def test_a_vote_is_answered_stored_and_shown_to_its_author(
    api: Client, raw: Raw, make_token: TokenMaker, place: dict[str, str]
) -> None:
    run = await content_run(api, raw, place=place)
    who = await make_token(user_id=7, workspaces=[place["workspace"]], actions=["vote"])
    assert await votes_seen(api, run, who) == []
    given = await answered(await vote(api, run, "2", who=who))
    assert given == {
        "pollId": run.poll_id,
        "userId": 7,
        "optionIds": ["2"],
        "comment": None,
        "createdAt": DAY,
        "updatedAt": DAY,
    }
    assert await votes_seen(api, run, who) == [given]
    assert tally(raw, run) == {"2": 1}


async def test_the_path_of_the_source_api_takes_votes_too(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    params = {**run.votes, "pollId": run.poll_id.upper()}
    given = await answered(await api.post("/x1/any", params=params, json={"optionIds": ["1"]}))
    assert given["pollId"] == run.poll_id
    assert tally(raw, run) == {"1": 1}


async def test_a_poll_of_multiple_options_takes_several_as_one_vote(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowSelectionOfMultipleOptions=True, allowRevote=True)
    assert (await answered(await vote(api, run, "3", "1")))["optionIds"] == ["3", "1"]
    assert tally(raw, run) == {"1": 1, "3": 1}
    await answered(await vote(api, run, "1", "2"))
    assert tally(raw, run) == {"1": 1, "2": 1}


async def test_a_revote_moves_the_vote_and_keeps_the_date_of_the_first(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, allowRevote=True, saveParticipantNames=True)
    await answered(await vote(api, run, "1"))
    clock.advance(minutes=5)
    again = await answered(await vote(api, run, "2"))
    assert again["optionIds"] == ["2"]
    assert (again["createdAt"], again["updatedAt"]) == (NOON, "2126-01-31T12:05:00Z")
    assert await votes_seen(api, run) == [again]
    assert tally(raw, run) == {"2": 1}


async def test_without_allow_revote_a_second_vote_and_a_withdrawal_are_conflicts(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    first = await answered(await vote(api, run, "1"))
    for option in ("1", "2"):
        problem = await refused(await vote(api, run, option), 409)
        assert problem["detail"] == (
            "You have already voted, and this poll does not allow changing a vote."
        )
    problem = await refused(await withdraw(api, run), 409)
    assert problem["detail"] == "This poll does not allow withdrawing a vote."
    assert await votes_seen(api, run) == [first]
    assert tally(raw, run) == {"1": 1}


async def test_a_vote_can_be_withdrawn_once_and_cast_anew(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await refused(await withdraw(api, run), 404)
    first = await answered(await vote(api, run, "1"))
    assert await answered(await withdraw(api, run)) == first
    assert tally(raw, run) == {}
    assert await votes_seen(api, run) == []
    await refused(await withdraw(api, run), 404)
    await answered(await vote(api, run, "2"))
    assert tally(raw, run) == {"2": 1}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_poll_closes_on_the_second_of_its_end_date(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker, method: str
) -> None:
    end = "2126-01-31T14:00:00.999+01:00"  # 13:00:00 UTC, to the second
    run = await content_run(api, raw, closePollOnEndDate=True, endDate=end, allowRevote=True)
    late = await make_token(user_id=8)
    clock.now += timedelta(hours=1) - timedelta(milliseconds=1)
    await answered(await vote(api, run, "1"))
    await answered(await vote(api, run, "1", who=late))
    clock.advance(milliseconds=1)
    body = {"optionIds": ["2"]} if method == "POST" else None
    problem = await refused(
        await api.request(method, "/rest", params=run.votes, json=body, headers=late), 409
    )
    assert problem["detail"] == "This poll session is not open for submissions."
    assert tally(raw, run) == {"1": 2}
    # No job has run; the end date alone closes it, and opening it is a conflict.
    [session] = (await answered(await api.get(run.url)))["poll_sessions"]
    assert session["is_published"] is False
    await refused(await api.get(f"{run.url}/open"), 409)
    await change(api, run, endDate=end)
    await answered(await vote(api, run, "3", who=await make_token(user_id=9)))
    assert tally(raw, run) == {"1": 2, "3": 1}


async def test_an_end_date_alone_closes_nothing(api: Client, raw: Raw, clock: Clock) -> None:
    run = await content_run(api, raw, endDate="2126-01-31T11:00:00Z")
    clock.advance(days=1)
    await answered(await vote(api, run, "1"))
    assert tally(raw, run) == {"1": 1}


@pytest.mark.parametrize("comment", ["", "é" * 1000, None])
async def test_a_comment_of_up_to_1000_characters_is_kept(
    api: Client, raw: Raw, comment: str | None
) -> None:
    run = await content_run(api, raw, allowComment=True)
    given = await answered(await vote(api, run, "1", comment=comment))
    assert given["comment"] == comment
    assert await votes_seen(api, run) == [given]
    [ballot] = raw.ballots.find()
    assert ballot["comment"] == comment


MISFITS: list[tuple[Any, str]] = [
    ({"optionIds": ["4"]}, "optionIds"),
    ({"optionIds": ["1", "x"]}, "optionIds"),
    ({"optionIds": ["$x.y"]}, "optionIds"),
    ({"optionIds": []}, "optionIds"),
    ({"optionIds": ["1", "1"]}, "optionIds"),
    ({"optionIds": ["1", "2"]}, "optionIds"),
    ({"optionIds": [str(number) for number in range(101)]}, "optionIds"),
    ({"optionIds": "1"}, "optionIds"),
    ({"optionIds": None}, "optionIds"),
    ({}, "optionIds"),
    ({"optionIds": [1]}, "optionIds[0]"),
    ({"optionIds": ["1"], "comment": "x"}, "comment"),
    ({"optionIds": ["1"], "comment": ""}, "comment"),
    ({"optionIds": ["1"], "comment": 1}, "comment"),
    ({"optionIds": ["1"], "more": 1}, "more"),
]


async def test_a_vote_that_does_not_fit_is_refused_by_name_and_nothing_is_stored(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    for body, field in MISFITS:
        await refused(await api.post("/rest", params=run.votes, json=body), 400, [field])
    assert tally(raw, run) == {}


async def test_a_poll_of_multiple_options_refuses_none_repeated_and_unknown_ones(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowSelectionOfMultipleOptions=True)
    for options in ([], ["1", "2", "1"], ["1", "4"]):
        await refused(await vote(api, run, *options), 400, ["optionIds"])
    assert tally(raw, run) == {}


async def test_a_comment_of_1001_characters_is_refused(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowComment=True)
    await refused(await vote(api, run, "1", comment="é" * 1001), 400, ["comment"])
    assert tally(raw, run) == {}


async def test_a_standing_session_is_closed_and_opened_under_the_polling_api(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "1"))
    listed = await answered(await api.get(f"{run.poll_url}/poll_sessions"))
    [session] = listed["poll_sessions"]
    assert (session["id"], session["course_id"]) == (run.session, None)
    assert session["course_section_id"] is None
    assert (await answered(await api.get(f"{run.url}/close")))["poll_sessions"][0][
        "is_published"
    ] is False
    voter = await make_token(user_id=8)
    for response in (
        await vote(api, run, "2"),
        await vote(api, run, "2", who=voter),
        await withdraw(api, run),
    ):
        await refused(response, 409)
    assert tally(raw, run) == {"1": 1}
    await refused(await api.get(f"{run.url}/open", headers=await make_token(workspaces=[])), 403)
    await answered(await api.put(f"{run.url}/open"))
    await answered(await vote(api, run, "2", who=voter))
    assert tally(raw, run) == {"1": 1, "2": 1}
    changes = {"poll_sessions": [{"course_id": 5}]}
    await refused(await api.put(run.url, json=changes), 409)
    await refused(await api.delete(run.url), 409)
    for state in ("opened", "closed"):
        listed = await answered(await api.get(f"/api/v1/poll_sessions/{state}"))
        assert listed == {"poll_sessions": []}


async def test_votes_of_a_poll_that_is_not_there_are_not_found(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    without = {name: value for name, value in run.votes.items() if name != "pollId"}
    for method in METHODS:
        for params in ({**run.votes, "pollId": UNKNOWN}, {**run.votes, "content": "PLAT-2"}):
            await refused(await api.request(method, "/rest", params=params, json=RED), 404)
        await refused(await api.request(method, "/rest", params=without, json=RED), 400, ["pollId"])


async def test_a_poll_of_the_workspace_of_users_takes_no_votes_here(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    for method in METHODS:
        await refused(await api.request(method, "/rest", params=run.votes, json=RED), 409)
    assert tally(raw, run) == {}


@pytest.mark.parametrize(
    "token",
    [
        {"actions": ["read"]},
        {"actions": ["read", "write"]},
        {"workspaces": ["OTHER"]},
        {"workspaces": []},
    ],
    ids=["read only", "no vote", "another workspace", "none"],
)
async def test_votes_need_the_action_vote_on_the_workspace(
    api: Client, raw: Raw, make_token: TokenMaker, token: dict[str, Any]
) -> None:
    run = await content_run(api, raw)
    who = await make_token(**token)
    for method in METHODS:
        response = await api.request(method, "/rest", params=run.votes, json=RED, headers=who)
        await refused(response, 403)
    assert tally(raw, run) == {}


async def test_writers_get_all_votes_by_pages_where_names_are_saved(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    for user in (7, 8, 9):
        who = await make_token(user_id=user, actions=["read", "vote"])
        await answered(await vote(api, run, str(user - 6), who=who))
        [own] = await votes_seen(api, run, who)
        assert (own["userId"], own["optionIds"]) == (user, [str(user - 6)])
    writer = await make_token(user_id=10)
    seen = await votes_seen(api, run, writer)
    assert {(one["userId"], *one["optionIds"]) for one in seen} == {(7, "1"), (8, "2"), (9, "3")}
    params = {**run.votes, "per_page": "2"}
    first = await api.get("/rest", params=params, headers=writer)
    rest = await api.get(URL(first.links["next"]["url"]).relative(), headers=writer)
    assert await answered(first) + await answered(rest) == seen
    assert "next" not in rest.links
    # Without ``read`` it is the caller's own only.
    blind = await make_token(user_id=7, actions=["vote", "write"])
    assert [one["userId"] for one in await votes_seen(api, run, blind)] == [7]
    await change(api, run, saveParticipantNames=False)
    assert await votes_seen(api, run, writer) == []
    assert await votes_seen(api, run) == []


async def test_writers_get_their_own_vote_only_where_names_are_not_saved(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    seed_ballots(raw, run, 3)
    writer = await make_token(user_id=10)
    assert await votes_seen(api, run, writer) == []
    own = await answered(await vote(api, run, "2", who=writer))
    assert await votes_seen(api, run, writer) == [own]


async def test_an_admin_casts_for_a_user_and_sees_later_only_that_there_is_a_vote(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    given = await answered(await vote(api, run, "1", acting=7))
    assert (given["userId"], given["optionIds"]) == (7, ["1"])
    hidden = dict.fromkeys(given, None) | {"pollId": run.poll_id, "userId": 7}
    assert await votes_seen(api, run, as_user_id="7") == [hidden]
    assert await votes_seen(api, run, as_user_id="8") == []
    assert await votes_seen(api, run) == []
    params = {**run.votes, "as_user_id": "7"}
    assert await answered(await api.delete("/rest", params=params)) == hidden
    assert tally(raw, run) == {}


async def test_an_acting_admin_sees_a_named_vote(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    given = await answered(await vote(api, run, "1", acting=7))
    assert await votes_seen(api, run, as_user_id="7") == [given]
