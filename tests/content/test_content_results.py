"""``expand=results``, and what depends on votes on ``/rest`` (docs/api.md, sections 3 and 5)."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from service.rules import policy, views
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    OPTIONS,
    Headers,
    answered,
    change,
    content_run,
    results,
    tally,
    vote,
)
from tests.support.seeds import ISSUE, Json, a_poll, refused

READER = {"actions": ["read", "vote"]}


def shares(found: Json | None) -> dict[str, float]:
    assert found is not None
    return {option: shown["percentage"] for option, shown in found["options"].items()}


async def test_a_poll_without_votes_has_every_option_with_0(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    nothing = {"votes": 0, "percentage": 0}
    assert await results(api, run) == {
        "options": {"1": nothing, "2": nothing, "3": nothing},
        "votes": 0,
        "participants": 0,
        "closed": False,
    }


async def test_percentages_are_of_participants_with_one_decimal(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowSelectionOfMultipleOptions=True)
    for user, options in {7: "1", 8: "13", 9: "13"}.items():
        await answered(await vote(api, run, *options, who=await make_token(user_id=user)))
    assert await results(api, run) == {
        "options": {
            "1": {"votes": 3, "percentage": 100.0},
            "2": {"votes": 0, "percentage": 0.0},
            "3": {"votes": 2, "percentage": 66.7},
        },
        "votes": 5,
        "participants": 3,
        "closed": False,
    }
    assert tally(raw, run) == {"1": 3, "3": 2}


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
@pytest.mark.parametrize(
    ("visibility", "voter", "other", "other_when_closed"),
    [
        ("alwaysPublic", True, True, True),
        ("afterVote", True, False, False),
        ("afterClose", False, False, True),
        ("private", False, False, False),
    ],
)
async def test_results_are_seen_as_the_visibility_says(
    api: Client,
    raw: Raw,
    clock: Clock,
    make_token: TokenMaker,
    visibility: str,
    voter: bool,
    other: bool,
    other_when_closed: bool,
    is_open: bool,
) -> None:
    run = await content_run(
        api,
        raw,
        resultsVisibility=visibility,
        closePollOnEndDate=True,
        endDate="2126-01-31T13:00:00Z",
    )
    voted, reader = await make_token(user_id=7, **READER), await make_token(user_id=8, **READER)
    writer = await make_token(user_id=9)
    await answered(await vote(api, run, "1", who=voted))
    if not is_open:
        clock.advance(hours=1)
    after_close = visibility == "afterClose" and not is_open
    expected: list[tuple[Headers | None, bool]] = [
        (voted, voter or after_close),
        (reader, other if is_open else other_when_closed),
        (writer, True),
        (None, True),
    ]
    for who, sees in expected:
        seen = await results(api, run, who)
        assert (seen is not None) == sees
        if seen is not None:
            assert (seen["participants"], seen["closed"]) == (1, not is_open)
    # An acting caller sees what the user sees.
    assert (await results(api, run, as_user_id="7") is not None) == (voter or after_close)


@pytest.mark.parametrize("is_closed_by_hand", [True, False])
async def test_results_after_close_are_seen_while_it_is_closed_by_hand(
    api: Client, raw: Raw, make_token: TokenMaker, is_closed_by_hand: bool
) -> None:
    run = await content_run(api, raw, resultsVisibility="afterClose")
    reader = await make_token(user_id=8, **READER)
    await api.get(f"{run.url}/close")
    if not is_closed_by_hand:
        await api.get(f"{run.url}/open")
    assert (await results(api, run, reader) is not None) == is_closed_by_hand


async def test_hidden_numbers_are_whole_percents_and_no_counts_but_for_writers(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, hideAbsoluteNumbers=True)
    reader = await make_token(user_id=8, **READER)
    for user, option in {7: "1", 8: "1", 9: "2"}.items():
        await answered(await vote(api, run, option, who=await make_token(user_id=user)))
    seen = await results(api, run, reader)
    assert seen == {
        "options": {
            "1": {"votes": None, "percentage": 67},
            "2": {"votes": None, "percentage": 33},
            "3": {"votes": None, "percentage": 0},
        },
        "votes": None,
        "participants": None,
        "closed": False,
    }
    assert all(type(share) is int for share in shares(seen).values())
    assert await results(api, run, as_user_id="7") == seen
    for writer in (None, await make_token(user_id=10)):
        counted = await results(api, run, writer)
        assert counted is not None
        assert (counted["votes"], counted["participants"]) == (3, 3)
        assert shares(counted) == {"1": 66.7, "2": 33.3, "3": 0.0}


async def test_the_list_of_a_content_has_the_results_of_each_poll(api: Client, raw: Raw) -> None:
    first, second = await content_run(api, raw), await content_run(api, raw)
    await answered(await vote(api, second, "3"))
    listed = await answered(await api.get("/rest", params={**ISSUE, "expand": "results"}))
    assert [poll["id"] for poll in listed] == [first.poll_id, second.poll_id]
    assert [poll["results"]["options"]["3"]["votes"] for poll in listed] == [0, 1]
    plain = await answered(await api.get("/rest", params=ISSUE))
    assert all("results" not in poll for poll in plain)


async def test_others_have_their_turn_while_results_of_many_polls_are_rendered(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await content_run(api, raw)
    [container] = raw.containers.find()
    [poll] = container["polls"]
    many = [{**poll, "id": str(uuid.UUID(int=number + 1))} for number in range(100)]
    raw.containers.update_one({"_id": container["_id"]}, {"$set": {"polls": many}})
    turns, seen = 0, Counter[int]()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def count(render: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            seen[turns] += 1
            return render(*arguments, **options)

        return counted

    monkeypatch.setattr(views, "content_results", count(views.content_results))
    monkeypatch.setattr(policy, "view_of", count(policy.view_of))
    others = asyncio.create_task(take_turns())
    listed = await answered(await api.get("/rest", params={**run.place, "expand": "results"}))
    others.cancel()
    assert len(listed) == 100
    assert sum(seen.values()) == 200
    assert max(seen.values()) <= 40


async def test_another_expand_is_refused(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    for expand in ("votes", "Results", "results,votes", ""):
        params = {**run.query, "expand": expand}
        await refused(await api.get("/rest", params=params), 400, ["expand"])


async def test_votes_do_not_move_the_revision_and_a_put_after_them_keeps_the_count(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    query = {**run.query, "expand": "results"}
    before = await api.get("/rest", params=query)
    revision = (await api.get("/rest", params=run.query)).headers["ETag"]
    await answered(await vote(api, run, "1"))
    after = await api.get("/rest", params=query)
    assert (await api.get("/rest", params=run.query)).headers["ETag"] == revision
    assert before.headers["ETag"] != after.headers["ETag"]
    [poll] = await after.json()
    headers = {"If-Match": before.headers["ETag"]}
    await answered(await api.put("/rest", params=run.query, json=poll, headers=headers))
    assert await results(api, run) == poll["results"]
    assert tally(raw, run) == {"1": 1}


async def test_an_option_with_votes_cannot_be_dropped_until_they_are_gone(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "1"))
    settings = {"allowRevote": True}
    without_1 = a_poll(options=OPTIONS[1:], settings=settings)
    before = list(raw.containers.find())
    await refused(await api.put("/rest", params=run.query, json=without_1), 409)
    await refused(await api.delete(f"{run.poll_url}/poll_choices/1"), 409)
    assert list(raw.containers.find()) == before
    assert tally(raw, run) == {"1": 1}
    await answered(await vote(api, run, "2"))
    await answered(await api.put("/rest", params=run.query, json=without_1))
    await refused(await vote(api, run, "1"), 400, ["optionIds"])
    seen = await results(api, run)
    assert seen is not None
    assert {option: one["votes"] for option, one in seen["options"].items()} == {"2": 1, "3": 0}


async def test_an_option_that_is_new_counts_from_0_and_takes_votes(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "1"))
    body = a_poll(options=[*OPTIONS, {"id": "new", "title": "gold"}])
    await answered(await api.put("/rest", params=run.query, json=body))
    seen = await results(api, run)
    assert seen is not None
    assert seen["options"]["new"] == {"votes": 0, "percentage": 0}
    await answered(await vote(api, run, "new", acting=8))
    assert (await results(api, run) or {})["participants"] == 2


async def test_settings_that_change_count_from_the_next_vote_on(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1"))
    await refused(await vote(api, run, "2"), 409)
    await change(api, run, allowRevote=True, allowSelectionOfMultipleOptions=True)
    await answered(await vote(api, run, "2", "3"))
    await change(api, run)
    await refused(await vote(api, run, "1"), 409)
    assert tally(raw, run) == {"2": 1, "3": 1}
