"""``Idempotency-Key``: a POST that is sent again makes nothing new."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from service.web.store_key import STORE
from storage.embedded.server import EmbeddedServer
from tests.conftest import ADMIN, Client, Clock, Raw, TokenMaker
from tests.support.seeds import ISSUE, PAGE, Json, a_poll, everything, refused, stored_polls

KEY = {"Idempotency-Key": "key-1"}


async def post(
    client: Client,
    place: dict[str, str] = ISSUE,
    *,
    path: str = "/rest",
    body: Json | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    return await client.post(path, params=place, json=body or a_poll(), headers=headers or KEY)


class Failures:
    """Lets the server refuse commands, as a disk that is full would."""

    def __init__(self, client: "pymongo.MongoClient[dict[str, Any]]") -> None:
        self._client = client

    def next(self, command: str) -> None:
        data = {"failCommands": [command], "errorCode": 2}
        self._set({"times": 1}, data)

    def stop(self) -> None:
        self._set("off", {})

    def _set(self, mode: Any, data: Json) -> None:
        command = {"configureFailPoint": "failCommand", "mode": mode, "data": data}
        self._client.admin.command(command)


@pytest.fixture
def failures(server: EmbeddedServer) -> Iterator[Failures]:
    with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
        failures = Failures(client)
        yield failures
        failures.stop()


async def test_the_same_request_under_the_same_key_gets_the_first_answer_again(
    api: Client, raw: Raw
) -> None:
    first = await post(api)
    before = everything(raw)
    again = await post(api)
    assert (first.status, again.status) == (200, 200)
    assert await again.json() == await first.json()
    assert again.headers["ETag"] == first.headers["ETag"]
    assert everything(raw) == before
    assert len(stored_polls(raw)) == 1
    assert raw.idempotency.count_documents({}) == 1


async def test_without_a_key_the_same_request_makes_another_poll(api: Client, raw: Raw) -> None:
    for _ in range(2):
        assert (await api.post("/rest", params=ISSUE, json=a_poll())).status == 200
    assert len(stored_polls(raw)) == 2
    assert raw.idempotency.count_documents({}) == 0


async def test_the_first_answer_stays_after_the_poll_was_replaced_and_deleted(
    api: Client, raw: Raw
) -> None:
    first = await (await post(api)).json()
    query = {**ISSUE, "pollId": first["id"]}
    await api.put("/rest", params=query, json=a_poll(title="New"))
    assert await (await post(api)).json() == first
    assert stored_polls(raw)[0]["title"] == "New"
    await api.delete("/rest", params=query)
    assert await (await post(api)).json() == first
    assert stored_polls(raw) == []


OTHER_REQUESTS = [
    pytest.param({"path": "/x1/rest"}, id="another path"),
    pytest.param({"place": {**ISSUE, "content": "PLAT-2"}}, id="another content"),
    pytest.param({"place": {**ISSUE, "workspace": "W"}}, id="another workspace"),
    pytest.param({"place": PAGE}, id="a container"),
    pytest.param({"place": {**ISSUE, "container": ""}}, id="an empty parameter"),
    pytest.param({"place": {**ISSUE, "more": "x"}}, id="one more parameter"),
    pytest.param({"place": {**ISSUE, "as_user_id": "8"}}, id="another acting user"),
    pytest.param({"body": a_poll(title="Coffee?")}, id="another title"),
    pytest.param({"body": a_poll(description="")}, id="one more member"),
    pytest.param(
        {"body": {"title": "Tea?", "options": [{"title": "no"}, {"title": "yes"}]}},
        id="another order of the options",
    ),
]


@pytest.mark.parametrize("other", OTHER_REQUESTS)
async def test_another_request_under_the_same_key_is_a_conflict(
    api: Client, raw: Raw, other: dict[str, Any]
) -> None:
    assert (await post(api)).status == 200
    before = everything(raw)
    await refused(await post(api, **other), 409)
    assert everything(raw) == before


async def test_the_same_key_as_one_user_and_as_another_is_a_conflict(api: Client, raw: Raw) -> None:
    assert (await post(api, {**ISSUE, "as_user_id": "7"})).status == 200
    before = everything(raw)
    for query in ({**ISSUE, "as_user_id": "8"}, ISSUE):
        await refused(await post(api, query), 409)
    assert everything(raw) == before


async def test_a_token_whose_user_changed_is_another_acting_user(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    headers = {**await make_token(name="shared"), **KEY}
    assert (await post(api, headers=headers)).status == 200
    raw.tokens.update_one({"name": "shared"}, {"$set": {"user_id": 8}})
    api.app[STORE].tokens.forget()
    await refused(await post(api, headers=headers), 409)
    assert len(stored_polls(raw)) == 1


async def test_the_place_of_the_token_does_not_matter(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    first = await (await post(api)).json()
    for place in ("token", "access_token"):
        assert await (await post(anonymous, {**ISSUE, place: ADMIN})).json() == first
    assert len(stored_polls(raw)) == 1


async def test_the_order_of_parameters_and_members_does_not_matter(api: Client, raw: Raw) -> None:
    first = await (await post(api, body=a_poll(settings={"allowRevote": True}))).json()
    body = a_poll(settings={"allowRevote": True})
    turned = dict(reversed(body.items()))
    turned["options"] = [dict(reversed(option.items())) for option in body["options"]]
    place = dict(reversed(ISSUE.items()))
    assert await (await post(api, place, body=turned)).json() == first
    assert len(stored_polls(raw)) == 1


async def test_the_same_key_of_another_token_is_another_key(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    first = await (await post(api)).json()
    other = await (await post(api, headers={**await make_token(user_id=7), **KEY})).json()
    third = await (await post(api, headers={**await make_token(user_id=7), **KEY})).json()
    assert len({first["id"], other["id"], third["id"]}) == 3
    assert len(stored_polls(raw)) == 3


@pytest.mark.parametrize("key", ["a key", "k" * 255, "~!@#$%^&*()", "$set.a"])
async def test_every_printable_key_of_255_characters_is_one(
    api: Client, raw: Raw, key: str
) -> None:
    headers = {"Idempotency-Key": key}
    first = await (await post(api, headers=headers)).json()
    assert await (await post(api, headers=headers)).json() == first
    # What is kept is a hash.
    assert key not in str(list(raw.idempotency.find()))
    assert len(stored_polls(raw)) == 1


async def test_a_refusal_is_not_remembered(api: Client, raw: Raw) -> None:
    for body in (
        a_poll(title=""),
        a_poll(options=[{"id": "9" * 18, "title": "a"}, {"title": "b"}]),
    ):
        assert (await post(api, body=body)).status in (400, 409)
    assert everything(raw) == []
    assert (await post(api)).status == 200
    assert len(stored_polls(raw)) == 1


async def test_rights_are_checked_each_time(api: Client, raw: Raw, make_token: TokenMaker) -> None:
    headers = {**await make_token(name="scribe", workspaces=["PLAT"]), **KEY}
    first = await (await post(api, headers=headers)).json()
    before = everything(raw)
    for workspaces, actions in ((["DOCS"], ["write"]), (["PLAT"], ["read"])):
        change = {"workspaces": workspaces, "actions": actions}
        raw.tokens.update_one({"name": "scribe"}, {"$set": change})
        api.app[STORE].tokens.forget()
        await refused(await post(api, headers=headers), 403)
    raw.tokens.update_one({"name": "scribe"}, {"$set": {"actions": ["write"]}})
    api.app[STORE].tokens.forget()
    assert await (await post(api, headers=headers)).json() == first
    assert everything(raw) == before


async def test_a_key_is_free_again_after_24_hours(api: Client, raw: Raw, clock: Clock) -> None:
    first = await (await post(api)).json()
    clock.advance(hours=23, minutes=59, seconds=59)
    assert await (await post(api)).json() == first
    clock.advance(seconds=1)
    second = await (await post(api, body=a_poll(title="Coffee?"))).json()
    assert second["id"] != first["id"]
    assert len(stored_polls(raw)) == 2
    # From here on it is the second request that is remembered.
    clock.advance(hours=23)
    await refused(await post(api), 409)
    assert await (await post(api, body=a_poll(title="Coffee?"))).json() == second
    assert len(stored_polls(raw)) == 2


@pytest.mark.parametrize("has_container", [False, True], ids=["a new content", "one with polls"])
async def test_twenty_requests_at_once_under_one_key_make_one_poll(
    api: Client, raw: Raw, has_container: bool
) -> None:
    if has_container:
        await api.post("/rest", params=ISSUE, json=a_poll())
    responses = await asyncio.gather(*(post(api) for _ in range(20)))
    assert [response.status for response in responses] == [200] * 20
    answers = [await response.json() for response in responses]
    assert answers == [answers[0]] * 20
    assert len({response.headers["ETag"] for response in responses}) == 1
    assert [poll["id"] for poll in stored_polls(raw)][has_container:] == [answers[0]["id"]]


async def test_of_different_requests_at_once_under_one_key_one_wins(api: Client, raw: Raw) -> None:
    places = [{**ISSUE, "content": f"PLAT-{number}"} for number in range(8)]
    responses = await asyncio.gather(*(post(api, place) for place in places))
    assert sorted(response.status for response in responses) == [200] + [409] * 7
    assert len(stored_polls(raw)) == 1
    assert raw.idempotency.count_documents({}) == 1


async def test_there_is_no_poll_without_its_record(
    api: Client, raw: Raw, failures: Failures
) -> None:
    # A new content is inserted, so the first update is that of the record.
    failures.next("update")
    await refused(await post(api), 500)
    assert everything(raw) == []
    assert (await post(api)).status == 200
    assert len(stored_polls(raw)) == raw.idempotency.count_documents({}) == 1


async def test_there_is_no_record_without_its_poll(
    api: Client, raw: Raw, failures: Failures
) -> None:
    # Poll and record are updates here; the insert comes after both and ends the transaction.
    await api.post("/rest", params=ISSUE, json=a_poll())
    before = everything(raw)
    failures.next("insert")
    await refused(await post(api), 500)
    assert everything(raw) == before
    assert (await post(api)).status == 200
    assert len(stored_polls(raw)) == 2
    assert raw.idempotency.count_documents({}) == 1
