"""Containers: their names, their limits, and that each keeps its own polls."""

import bson
import pytest

from tests.conftest import Client, Raw
from tests.support.seeds import (
    ISSUE,
    PAGE,
    a_poll,
    document,
    everything,
    refused,
    seed,
    stored_polls,
)

OTHERS = [
    pytest.param({**PAGE, "workspace": "PLAT"}, id="another workspace"),
    pytest.param({**PAGE, "content": "98766"}, id="another content"),
    pytest.param({**PAGE, "container": "macro-2"}, id="another container"),
    pytest.param({**PAGE, "container": "MACRO-1"}, id="other letters"),
    pytest.param(ISSUE, id="an issue"),
]


@pytest.mark.parametrize("other", OTHERS)
async def test_a_poll_of_another_container_is_not_found(
    api: Client, raw: Raw, other: dict[str, str]
) -> None:
    seed(raw, PAGE, document(1))
    seed(raw, other, document(2))
    before = everything(raw)
    query = {**other, "pollId": document(1)["id"]}
    await refused(await api.get("/rest", params=query), 404)
    await refused(await api.put("/rest", params=query, json=a_poll()), 404)
    await refused(await api.delete("/rest", params=query), 404)
    assert everything(raw) == before
    listed = await (await api.get("/rest", params=other)).json()
    assert [poll["id"] for poll in listed] == [document(2)["id"]]


@pytest.mark.parametrize("content", ["PLAT-254604", "A-0", "A_1-00012345678901234567890"])
async def test_an_issue_needs_no_container(api: Client, raw: Raw, content: str) -> None:
    place = {"type": "polls", "workspace": "PLAT", "content": content}
    assert (await api.post("/rest", params=place, json=a_poll())).status == 200
    assert (await api.post("/rest", params={**place, "container": ""}, json=a_poll())).status == 200
    [container] = raw.containers.find()
    assert container["content"] == content
    assert container["container"] == ""
    assert len(container["polls"]) == 2


@pytest.mark.parametrize("content", ["98765", "joba-1"])
async def test_what_is_no_issue_key_is_told_that_only_issues_have_no_container(
    api: Client, content: str
) -> None:
    place = {"workspace": "PLAT", "content": content}
    message = "container is missing: only an issue key such as PLAT-7 has none"
    problem = await refused(await api.get("/rest/polls", params=place), 400, ["container"])
    assert problem["detail"] == message
    body = {"polls": [place]}
    problem = await refused(await api.post("/rest/query", json=body), 400, ["polls[0].container"])
    assert problem["detail"] == f"polls[0].{message}"


@pytest.mark.parametrize("content", ["PLAT-254604", "A-0"])
async def test_an_issue_takes_no_container(api: Client, raw: Raw, content: str) -> None:
    place = {**PAGE, "content": content}
    response = await api.post("/rest", params=place, json=a_poll())
    await refused(response, 400, ["container"])
    assert everything(raw) == []


@pytest.mark.parametrize(
    "content",
    ["98765", "plat-1", "PLAT-", "-1", "1PLAT-1", "PLAT-1a", "PLAT 1", "PLÄT-1", "PLAT-\uff11"],
)
async def test_content_other_than_an_issue_needs_a_container(
    api: Client, raw: Raw, content: str
) -> None:
    place = {"type": "polls", "workspace": "PLAT", "content": content}
    for unnamed in (place, {**place, "container": ""}):
        response = await api.post("/rest", params=unnamed, json=a_poll())
        await refused(response, 400, ["container"])
    assert everything(raw) == []
    named = {**place, "container": "macro-1"}
    assert (await api.post("/rest", params=named, json=a_poll())).status == 200
    [container] = raw.containers.find()
    assert (container["content"], container["container"]) == (content, "macro-1")


@pytest.mark.parametrize("parameter", ["workspace", "content", "container"])
@pytest.mark.parametrize("value", ["x" * 255, "⭐" * 255, "a b&c=d/é", "$where", "a.b"], ids=ascii)
async def test_every_printable_name_of_255_characters_is_a_place(
    api: Client, raw: Raw, parameter: str, value: str
) -> None:
    place = {**PAGE, parameter: value}
    created = await (await api.post("/rest", params=place, json=a_poll())).json()
    assert await (await api.get("/rest", params=place)).json() == [created]
    [container] = raw.containers.find()
    assert container[parameter] == value


async def test_the_501st_poll_of_a_content_is_a_conflict(api: Client, raw: Raw) -> None:
    seed(raw, PAGE, *(document(number) for number in range(1001, 1500)))
    assert (await api.post("/rest", params=PAGE, json=a_poll())).status == 200
    before = everything(raw)
    problem = await refused(await api.post("/rest", params=PAGE, json=a_poll()), 409)
    assert "500" in problem["detail"]
    assert everything(raw) == before
    assert len(stored_polls(raw)) == 500
    # Another content has room, and so has this one once a poll is gone.
    assert (await api.post("/rest", params=ISSUE, json=a_poll())).status == 200
    query = {**PAGE, "pollId": document(1001)["id"]}
    assert (await api.delete("/rest", params=query)).status == 200
    assert (await api.post("/rest", params=PAGE, json=a_poll())).status == 200


async def test_more_than_four_mebibytes_are_a_conflict(api: Client, raw: Raw) -> None:
    light = {"title": "light", "description": "", "options": [{"title": "yes"}]}
    large = a_poll(description="⭐" * 4000)
    seed(raw, PAGE, document(1001, description="x" * 50_000), document(1002))
    stored = len(bson.encode(raw.containers.find()[0]))
    room = 4 * 1024 * 1024 - stored - 1000
    raw.containers.update_one({}, {"$set": {"polls.1.description": "x" * room}})

    before = everything(raw)
    problem = await refused(await api.post("/rest", params=PAGE, json=large), 409)
    assert "4 MiB" in problem["detail"]
    query = {**PAGE, "pollId": document(1001)["id"]}
    larger = a_poll(options=[{"title": "⭐" * 255} for _ in range(100)])
    problem = await refused(await api.put("/rest", params=query, json=larger), 409)
    assert "4 MiB" in problem["detail"]
    assert everything(raw) == before

    # A poll that still fits is accepted, and a smaller replacement makes room.
    assert (await api.post("/rest", params=PAGE, json=light)).status == 200
    assert (await api.put("/rest", params=query, json=light)).status == 200
    assert (await api.post("/rest", params=PAGE, json=large)).status == 200
    assert len(stored_polls(raw)) == 4
