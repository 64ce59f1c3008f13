"""The polls of a workspace, page by page (docs/api.md, section 3)."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.settings import Settings
from storage import listings
from storage.startup import open_store
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import Headers, Run, answered, change, content_run, vote
from tests.support.heard import Heard
from tests.support.polling import make_poll
from tests.support.seeds import PAGE, Json, document, refused

BEGIN = datetime(2126, 1, 31, 12, 0, tzinfo=UTC)
NEXT = re.compile(r'<(http[^>]+)>; rel="next"')


def place(number: int, workspace: str = "PLAT") -> dict[str, str]:
    return {"type": "polls", "workspace": workspace, "content": f"{workspace}-{number}"}


async def listed(api: Client, who: Headers | None = None, **query: Any) -> Json:
    params = {"workspace": "PLAT", **query}
    page: Json = await answered(await api.get("/rest/polls", params=params, headers=who))
    assert page.keys() == {"polls", "nextCursor"}
    return page


async def ids(api: Client, **query: Any) -> list[str]:
    return [poll["id"] for poll in (await listed(api, **query))["polls"]]


def clock_text(moment: datetime) -> str:
    return f"{moment.isoformat()[:19]}Z"


async def test_a_poll_is_listed_with_its_place_and_its_state(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    issue = await content_run(api, raw, who=await make_token(user_id=7))
    clock.advance(minutes=1)
    page = await content_run(api, raw, place={**PAGE, "workspace": "PLAT"})
    await content_run(api, raw, place=PAGE)
    found = await listed(api)
    assert found["nextCursor"] is None
    [plain] = await answered(await api.get("/rest", params=issue.query))
    assert found["polls"][1] == {
        **plain,
        "workspace": "PLAT",
        "content": "PLAT-254604",
        "container": "",
        "createdBy": 7,
        "createdAt": clock_text(BEGIN),
        "updatedAt": clock_text(BEGIN),
        "state": "open",
    }
    first = found["polls"][0]
    assert (first["id"], first["container"], first["createdBy"]) == (page.poll_id, "macro-1", 0)
    for path in ("/rest?type=polls", "/x1/any?type=polls"):
        again = await answered(await api.get(f"{path}&workspace=PLAT"))
        assert again == found


async def test_pages_are_walked_by_cursor_and_by_link(api: Client, raw: Raw) -> None:
    made = [(await content_run(api, raw, place=place(n))).poll_id for n in range(1, 8)]
    walked: list[str] = []
    cursor: str | None = None
    for size in (3, 3, 1):
        query: Json = {"cursor": cursor} if cursor else {}
        page = await listed(api, limit=3, **query)
        assert len(page["polls"]) == size
        walked += [poll["id"] for poll in page["polls"]]
        cursor = page["nextCursor"]
    assert (walked, cursor) == (made[::-1], None)

    walked = []
    url = "/rest/polls?workspace=PLAT&limit=3&token=secret"
    while True:
        answer = await api.get(url)
        walked += [poll["id"] for poll in (await answered(answer))["polls"]]
        if not (link := NEXT.fullmatch(answer.headers.get("Link", ""))):
            break
        assert "secret" not in link[1]
        url = link[1].removeprefix(str(api.make_url("")).rstrip("/"))
    assert walked == made[::-1]
    assert await ids(api, limit=1000) == made[::-1]


async def test_polls_are_filtered_by_state_creator_and_change(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    creators = [await make_token(user_id=user) for user in (7, 8)]
    runs: list[Run] = []
    for number in range(6):
        who = creators[number % 2]
        runs.append(await content_run(api, raw, place=place(number), who=who))
        clock.advance(minutes=1)
    names = {run.poll_id: number for number, run in enumerate(runs)}

    async def found(**query: Any) -> list[int]:
        return [names[one] for one in await ids(api, **query)]

    for number in (1, 2):
        await answered(await api.get(f"{runs[number].url}/close"))
    assert await found(state="open") == [5, 4, 3, 0]
    assert await found(state="closed") == [2, 1]
    assert await found(createdBy=7) == [4, 2, 0]
    assert await found(createdBy=8, state="closed") == [1]
    assert await found(createdBy=9) == []
    # Opening and closing are changes.
    since = clock_text(BEGIN + timedelta(minutes=3))
    assert await found(updatedSince=since) == [3, 4, 5, 1, 2]
    assert await found(updatedSince=since, state="closed") == [1, 2]
    assert await found(updatedSince=since, createdBy=8, state="open") == [3, 5]
    walked: list[int] = []
    page: Json = {"nextCursor": ""}
    while (cursor := page["nextCursor"]) is not None:
        query: Json = {"cursor": cursor} if cursor else {}
        page = await listed(api, updatedSince=since, limit=2, **query)
        walked += [names[poll["id"]] for poll in page["polls"]]
    assert walked == [3, 4, 5, 1, 2]

    clock.advance(minutes=1)
    await change(api, runs[0], allowRevote=True)
    assert await found(updatedSince=clock_text(clock.now)) == [0]
    await answered(await vote(api, runs[4], "1"))
    assert await found(updatedSince=clock_text(clock.now)) == [0]
    await answered(await api.get(f"{runs[1].url}/open"))
    assert await found(state="closed") == [2]
    await answered(await api.delete("/rest", params=runs[2].query))
    assert await found() == [5, 4, 3, 1, 0]
    assert await found(state="closed") == []


@pytest.mark.parametrize("first", ["list", "vote", "read"])
async def test_a_poll_is_listed_as_closed_once_its_end_has_passed(
    api: Client, raw: Raw, clock: Clock, first: str
) -> None:
    ends: Json = {"closePollOnEndDate": True, "endDate": "2126-01-31T13:00:00Z"}
    run, other = await content_run(api, raw, **ends), await content_run(api, raw)
    assert await ids(api, state="open") == [other.poll_id, run.poll_id]
    clock.advance(hours=1)
    if first == "vote":
        await refused(await vote(api, run, "1"), 409)
    elif first == "read":
        await answered(await api.get(run.url))
    assert await ids(api, state="closed") == [run.poll_id]
    assert await ids(api, state="open") == [other.poll_id]
    [poll] = (await listed(api, state="closed"))["polls"]
    assert (poll["state"], poll["updatedAt"]) == ("closed", clock_text(clock.now))
    [address] = raw.addresses.find({"_id": run.poll_id})
    assert "ends_at" not in address

    await change(api, run, **{**ends, "endDate": "2126-01-31T14:00:00Z"})
    assert await ids(api, state="open") == [other.poll_id, run.poll_id]
    clock.advance(hours=2)
    assert await ids(api, state="closed") == [run.poll_id]
    await change(api, run)
    assert await ids(api, state="closed") == []


async def test_results_and_own_votes_are_expanded_in_the_list(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, resultsVisibility="afterVote")
    voter = await make_token(user_id=7, actions=["read", "vote"])
    await answered(await vote(api, run, "2", who=voter))
    for who, sees in ((voter, True), (await make_token(user_id=8, actions=["read"]), False)):
        [poll] = (await listed(api, who, expand="results,vote"))["polls"]
        [alone] = await answered(
            await api.get("/rest", params={**run.query, "expand": "results,vote"}, headers=who)
        )
        assert poll == {**poll, **alone}
        assert ("results" in poll, poll["hasVoted"]) == (sees, sees)
        stored = await answered(await api.put("/rest", params=run.query, json=poll))
        assert stored.keys() == {"id", "title", "description", "options", "settings"}


async def test_a_list_is_for_tokens_that_may_read_the_workspace(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    await content_run(api, raw)
    own = await make_poll(api)
    params = {"workspace": "PLAT"}
    for grants in ({"workspaces": ["DOCS"]}, {"actions": ["write", "vote"]}):
        headers = await make_token(**grants)
        await refused(await api.get("/rest/polls", params=params, headers=headers), 403)
    for workspaces in (["PLAT"], ["*"]):
        headers = await make_token(workspaces=workspaces, actions=["read"])
        assert len((await listed(api, headers))["polls"]) == 1
        users = {"workspace": "users"}
        await refused(await api.get("/rest/polls", params=users, headers=headers), 403)
    acting = {"workspace": "users", "as_user_id": "7"}
    await refused(await api.get("/rest/polls", params=acting), 403)
    assert len(await ids(api, as_user_id="7")) == 1
    [poll] = (await listed(api, workspace="users"))["polls"]
    assert (poll["state"], poll["container"]) == (None, str(own["id"]))
    assert await ids(api, workspace="users", state="open") == []


FAULTS: list[tuple[str, list[str]]] = [
    ("state=ended", ["state"]),
    ("state=", ["state"]),
    ("state=open&state=open", ["state"]),
    ("updatedSince=yesterday&createdBy=self", ["updatedSince", "createdBy"]),
    ("updatedSince=2026-01-31T18:00:00", ["updatedSince"]),
    ("createdBy=+42", ["createdBy"]),
    ("limit=0", ["limit"]),
    ("limit=x", ["limit"]),
    ("cursor=", ["cursor"]),
    ("cursor=x", ["cursor"]),
    ("cursor=MA", ["cursor"]),
    ("cursor=WzEsMV0", ["cursor"]),
    ("cursor=MQ&updatedSince=2026-01-31T18:00:00Z", ["cursor"]),
    ("content=PLAT-1&state=open&limit=1", ["state", "limit"]),
    ("content=PLAT-1&cursor=MQ&createdBy=7", ["cursor", "createdBy"]),
    ("expand=votes", ["expand"]),
    ("type=votes", ["type"]),
    ("content=", ["content"]),
    ("pollId=1", ["content"]),
    ("container=1", ["content"]),
]


@pytest.mark.parametrize(("query", "fields"), FAULTS)
async def test_a_bad_parameter_is_named(api: Client, query: str, fields: list[str | None]) -> None:
    await refused(await api.get(f"/rest/polls?workspace=PLAT&{query}"), 400, fields)


# What a page costs ------------------------------------------------------------------------------


def fill(raw: Raw, number: int) -> None:
    """So many polls: of three users, every fifth closed, changed in another order than made."""
    containers, addresses = [], []
    for n in range(1, number + 1):
        poll = document(n)
        key = f"PLAT\x1fPLAT-{n}\x1f"
        containers.append({"_id": key, "workspace": "PLAT", "polls": [poll]})
        addresses.append(
            {
                "_id": poll["id"],
                "number": n,
                "container": key,
                "workspace": "PLAT",
                "owner_id": n % 3,
                "is_open": n % 5 != 0,
                "updated_at": BEGIN + timedelta(seconds=n * 7_919 % number),
            }
        )
    raw.containers.insert_many(containers)
    raw.addresses.insert_many(addresses)


def stages(plan: Any) -> set[str]:
    if isinstance(plan, list):
        return {name for one in plan for name in stages(one)}
    if not isinstance(plan, dict):
        return set()
    own = {plan["stage"]} if isinstance(plan.get("stage"), str) else set()
    return own | {name for one in plan.values() for name in stages(one)}


async def test_a_page_examines_about_as_many_keys_as_it_has_polls(
    heard: Heard, api: Client, raw: Raw
) -> None:
    polls, limit = 1_500, 20
    fill(raw, polls)
    is_mongod = "secantusVersion" not in raw.client.server_info()
    since = clock_text(BEGIN + timedelta(seconds=polls // 3))
    filters: list[Json] = [{}, {"state": "open"}, {"state": "closed"}, {"createdBy": "1"}]
    filters += [{"createdBy": "1", "state": "closed"}]
    for query in [*filters, *({**one, "updatedSince": since} for one in filters)]:
        cursor: Json = {}
        for _ in range(3):
            heard.commands.clear()
            page = await listed(api, limit=limit, **query, **cursor)
            assert len(page["polls"]) == limit
            cursor = {"cursor": page["nextCursor"]}
            [asked] = [one for one in heard.commands if "aggregate" in one]
            assert asked["aggregate"] == "addresses"
            if is_mongod:
                of_page = {"pipeline": asked["pipeline"][:3], "hint": asked["hint"], "cursor": {}}
                aggregate = {"aggregate": "addresses", **of_page}
                told = raw.command("explain", aggregate, verbosity="executionStats")
                assert stages(told["queryPlanner"]).isdisjoint({"COLLSCAN", "SORT"}), query
                assert told["executionStats"]["totalKeysExamined"] <= limit + 10, query


# Stores of earlier versions ---------------------------------------------------------------------


def forget(raw: Raw) -> None:
    """Makes all addresses those of version 0.1."""
    added = ("workspace", "owner_id", "is_open", "ends_at", "updated_at")
    raw.addresses.update_many({}, {"$unset": dict.fromkeys(added, "")})


async def test_a_store_of_an_earlier_version_is_completed_at_its_start(
    api: Client, raw: Raw, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: Json = {"closePollOnEndDate": True, "endDate": "2126-01-31T13:00:00Z"}
    runs = [await content_run(api, raw, place=place(n)) for n in range(4)]
    runs.append(await content_run(api, raw, place=place(1), **ends))
    await make_poll(api)
    await answered(await api.get(f"{runs[2].url}/close"))
    before = list(raw.addresses.find().sort("_id"))
    forget(raw)
    # Some at a time: what a killed process has completed stays so.
    monkeypatch.setattr(listings, "AT_A_TIME", 2)
    async with open_store(settings.location, clock=clock) as store:
        assert await store.listings._fill_some() == 2
        assert raw.addresses.count_documents({"workspace": None}) == 4
    async with open_store(settings.location, clock=clock) as store:
        await store.listings.fill()
    assert list(raw.addresses.find().sort("_id")) == before


async def test_a_list_waits_for_what_earlier_versions_left(api: Client, raw: Raw) -> None:
    runs = [await content_run(api, raw, place=place(n)) for n in range(4)]
    await answered(await api.get(f"{runs[2].url}/close"))
    clear_of = raw.addresses.insert_one(
        {"_id": "no poll", "number": 99, "container": "PLAT\x1fPLAT-99\x1f"}
    )
    assert clear_of.inserted_id
    forget(raw)
    assert await ids(api, state="closed") == [runs[2].poll_id]
    assert len(await ids(api)) == 4


async def test_changes_while_a_store_is_completed_are_not_lost(
    api: Client, raw: Raw, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [await content_run(api, raw, place=place(n)) for n in range(12)]
    monkeypatch.setattr(listings, "AT_A_TIME", 3)
    for is_open in (False, True, False):
        forget(raw)
        path = "open" if is_open else "close"
        async with open_store(settings.location, clock=clock) as store:
            await asyncio.gather(
                store.listings.fill(),
                *(api.get(f"{run.url}/{path}") for run in runs[::2]),
            )
        open_now = {one["_id"] for one in raw.addresses.find({"is_open": True})}
        assert open_now == {run.poll_id for run in (runs if is_open else runs[1::2])}
        assert raw.addresses.count_documents({"workspace": "PLAT"}) == 12
