"""``POST /rest/query``: the polls of a whole screen in one call (docs/api.md, section 3)."""

import asyncio
import time
from typing import Any

import pytest
from aiohttp import ClientResponse

from service.content import queries
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import Headers, answered, content_run, vote
from tests.support.heard import Heard
from tests.support.polling import make_poll
from tests.support.seeds import ISSUE, PAGE, UNKNOWN, Json, clear, document, refused, seed

READER: Json = {"actions": ["read", "vote"]}
THIRD = {"type": "polls", "workspace": "PLAT", "content": "PLAT-3"}


def place_of(query: dict[str, str]) -> dict[str, str]:
    return {name: query[name] for name in ("workspace", "content", "container") if name in query}


async def post(
    api: Client, *polls: Any, who: Headers | None = None, query: Json | None = None, **body: Any
) -> ClientResponse:
    return await api.post(
        "/rest/query", json={"polls": polls, **body}, headers=who, params=query or {}
    )


async def test_the_answer_has_what_each_get_would_have_in_the_order_of_the_request(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    runs = [await content_run(api, raw, place=place) for place in (ISSUE, PAGE, ISSUE)]
    reader = await make_token(user_id=7, **READER)
    await answered(await vote(api, runs[0], "2", who=reader))
    for expand in (["results", "vote"], ["vote"], ["results"], []):
        asked = [
            place_of(PAGE),
            {"pollId": runs[2].poll_id.upper()},
            place_of(ISSUE),
            place_of(THIRD),
            {"pollId": runs[0].poll_id, "workspace": None},
            {**place_of(ISSUE), "container": ""},
        ]
        found = await answered(await post(api, *asked, who=reader, expand=expand))
        params = {"expand": ",".join(expand)} if expand else {}

        async def get(query: dict[str, str], params: Json = params) -> Any:
            return await answered(
                await api.get("/rest", params={**query, **params}, headers=reader)
            )

        issue = await get(ISSUE)
        expected = [await get(PAGE), await get(runs[2].query), issue, [], await get(runs[0].query)]
        assert found == [*expected, issue]


async def test_each_reference_is_refused_as_its_get_would_be(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    issue, page = await content_run(api, raw), await content_run(api, raw, place=PAGE)
    own = await make_poll(api)
    users = {"workspace": "users", "content": "0", "container": str(own["id"])}
    [address] = raw.addresses.find({"number": own["id"]})
    reader = await make_token(user_id=7, workspaces=["PLAT"], **READER)
    asked = [
        {"pollId": page.poll_id},
        place_of(PAGE),
        place_of(ISSUE),
        {"pollId": UNKNOWN},
        users,
        {"pollId": address["_id"]},
        {"pollId": issue.poll_id},
    ]
    found = await answered(await post(api, *asked, who=reader))
    assert [one["status"] if isinstance(one, dict) else len(one) for one in found] == [
        *(403, 403, 1, 404, 403, 403, 1)
    ]
    get = await refused(await api.get("/rest", params=PAGE, headers=reader), 403)
    assert found[0] == found[1] == get
    missing = await api.get("/rest", params={**ISSUE, "pollId": UNKNOWN})
    assert found[3] == await refused(missing, 404)
    # Admins reach all of them.
    found = await answered(await post(api, *asked))
    assert [one["status"] if isinstance(one, dict) else len(one) for one in found] == [
        *(1, 1, 1, 404, 1, 1, 1)
    ]


async def test_a_caller_that_acts_for_a_user_is_shown_what_the_user_may_see(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, resultsVisibility="afterVote")
    await answered(await vote(api, run, "2", acting=7))
    for user, sees in (("7", True), ("8", False)):
        [[poll]] = await answered(
            await post(
                api,
                {"pollId": run.poll_id},
                expand=["results", "vote"],
                query={"as_user_id": user},
            )
        )
        assert ("results" in poll, poll["hasVoted"], poll["canVote"]) == (sees, sees, not sees)
        assert (poll["vote"] or {}).get("optionIds") is None


async def test_a_token_that_is_bound_to_polls_gets_these_alone(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    runs = [await content_run(api, raw) for _ in range(2)]
    bound = await make_token(user_id=7, polls=[runs[0].poll_id], **READER)
    asked = [*({"pollId": run.poll_id} for run in runs), place_of(ISSUE)]
    [[poll], *others] = await answered(await post(api, *asked, who=bound, expand=["vote"]))
    assert (poll["id"], poll["canVote"]) == (runs[0].poll_id, True)
    assert [one["status"] for one in others] == [403, 403]
    listing = await api.get("/rest/polls", params={"workspace": "PLAT"}, headers=bound)
    await refused(listing, 403)


async def test_a_token_without_the_action_read_is_refused_before_the_body(
    api: Client, make_token: TokenMaker
) -> None:
    headers = await make_token(actions=["write", "vote"])
    await refused(await api.post("/rest/query", data=b"no json", headers=headers), 403)


FAULTS: list[tuple[Json, list[str | None]]] = [
    ({}, ["polls"]),
    ({"polls": {}}, ["polls"]),
    ({"polls": [{"pollId": UNKNOWN}] * 201}, ["polls"]),
    ({"polls": [{}]}, ["polls[0].workspace", "polls[0].content"]),
    ({"polls": [place_of(ISSUE), {"workspace": "PLAT"}]}, ["polls[1].content"]),
    ({"polls": [{**place_of(ISSUE), "container": "c"}]}, ["polls[0].container"]),
    ({"polls": [{"workspace": "W", "content": "1"}]}, ["polls[0].container"]),
    ({"polls": [{"workspace": "W", "content": "1", "container": ""}]}, ["polls[0].container"]),
    ({"polls": [{"workspace": "W", "content": "1\n", "container": "1"}]}, ["polls[0].content"]),
    ({"polls": [{"workspace": "W" * 256, "content": "W-1"}]}, ["polls[0].workspace"]),
    ({"polls": [{"pollId": "1"}]}, ["polls[0].pollId"]),
    ({"polls": [{"pollId": UNKNOWN, **place_of(ISSUE)}]}, ["polls[0].workspace"]),
    ({"polls": [{"pollId": UNKNOWN, "id": 1}]}, ["polls[0].id"]),
    ({"polls": [], "expand": ["votes"]}, ["expand[0]"]),
    ({"polls": [], "expand": "vote"}, ["expand"]),
]


@pytest.mark.parametrize(("body", "fields"), FAULTS)
async def test_a_bad_reference_is_named(api: Client, body: Json, fields: list[str | None]) -> None:
    answer = await api.post("/rest/query", json=body)
    if fields == ["polls[0].workspace"] and "pollId" in body["polls"][0]:
        fields = [*fields, "polls[0].content"]
    await refused(answer, 400, fields)


async def test_what_is_too_much_for_one_answer_is_refused(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(raw)
    seed(raw, ISSUE, *(document(number) for number in range(1, 11)))
    asked = [place_of(ISSUE)] * 3
    assert len(await answered(await post(api, *asked))) == 3
    monkeypatch.setattr(queries, "MAX_ANSWERED", 29)
    problem = await refused(await post(api, *asked), 409)
    assert problem["code"] == "limit_reached"


async def test_contents_that_are_too_large_together_are_refused_and_read_one_by_one(
    api: Client, raw: Raw
) -> None:
    clear(raw)
    places = [{**PAGE, "container": f"macro-{number}"} for number in range(5)]
    for number, place in enumerate(places, 1):
        seed(raw, place, document(number, description="x" * 3_000_000))
    problem = await refused(await post(api, *map(place_of, places)), 409)
    assert problem["code"] == "limit_reached"
    for place in places:
        [[poll]] = await answered(await post(api, place_of(place)))
        assert len(poll["description"]) == 3_000_000


@pytest.mark.usefixtures("gc_is_off")
async def test_others_have_their_turn_while_a_large_answer_is_made(api: Client, raw: Raw) -> None:
    """Of 2,000 polls with 100 options: to encode and to forget all at once took 80 ms."""
    clear(raw)
    options = [
        {"id": f"{n}", "title": "?" * 20, "order": n, "is_correct": False} for n in range(100)
    ]
    seed(raw, ISSUE, *(document(number, options=options) for number in range(1, 11)))
    longest = 0.0

    async def take_turns() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    asked = [place_of(ISSUE)] * 200
    await (await post(api, *asked[:2])).read()
    others = asyncio.create_task(take_turns())
    answer = await post(api, *asked)
    others.cancel()
    assert len(await answer.read()) > 8_000_000
    assert longest < 0.04


async def test_however_many_are_asked_for_the_database_is_asked_three_times(
    heard: Heard, api: Client, raw: Raw
) -> None:
    places = [{**PAGE, "container": f"macro-{number}"} for number in range(100)]
    one = await content_run(api, raw, place=places[0])
    session = raw.sessions.find_one({"_id": one.session})
    [container] = raw.containers.find()
    assert session is not None
    polls = [
        {**container["polls"][0], "id": f"{UNKNOWN[:-3]}{n:03}", "number": n, "standing_session": n}
        for n in range(100, 300)
    ]
    raw.sessions.insert_many(
        {**session, "_id": poll["number"], "poll_id": poll["id"]} for poll in polls
    )
    for number, place in enumerate(places[1:]):
        seed(raw, place, *polls[number * 2 : number * 2 + 2])
    asked = [*map(place_of, places), *({"pollId": poll["id"]} for poll in polls[:100])]
    for few in (asked[:1], asked[-1:], [asked[0], asked[-1]], asked):
        heard.commands.clear()
        found = await answered(await post(api, *few, expand=["results", "vote"]))
        assert len(heard.commands) <= 3
        assert all(isinstance(one, list) for one in found)
    assert sum(map(len, found)) == 1 + 99 * 2 + 100
    assert all("results" in poll for one in found for poll in one)
