"""Tokens over HTTP: made, listed and revoked (docs/api.md, section 8)."""

import json
from datetime import timedelta
from typing import Any

import pytest
from yarl import URL

from service.web.store_key import STORE
from storage.tokens import token_id
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import answered, content_run
from tests.support.seeds import Json, refused

POLL = "ee9107b5-5041-4c15-8c76-f14404fa1fad"
BOT: Json = {"name": "bot", "userId": 42}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def make(api: Client, *, status: int = 200, key: str | None = None, **token: Any) -> Json:
    headers = {"Idempotency-Key": key} if key else {}
    made: Json = await answered(
        await api.post("/tokens", json={**BOT, **token}, headers=headers), status
    )
    return made


async def test_a_token_that_is_made_works_and_only_its_hash_is_stored(
    api: Client, raw: Raw
) -> None:
    made = await make(api, workspaces=["PLAT", "PLAT"])
    secret = made.pop("secret")
    assert made == {
        "name": "bot",
        "userId": 42,
        "admin": False,
        "actions": ["read", "write", "vote"],
        "workspaces": ["PLAT"],
        "courses": [],
        "polls": [],
        "createdAt": "2126-01-31T12:00:00Z",
        "expiresAt": None,
    }
    [stored] = raw.tokens.find()
    assert stored["_id"] == token_id(secret)
    assert secret not in str([list(raw[name].find()) for name in raw.list_collection_names()])
    shown = await answered(await api.get("/api/v1/users/self", headers=bearer(secret)))
    assert shown["id"] == 42


async def test_what_is_asked_for_is_what_the_token_has(api: Client) -> None:
    wanted: Json = {
        "actions": ["vote", "read", "act"],
        "workspaces": ["*"],
        "courses": [5, 6],
        "polls": [POLL],
        "expiresAt": "2126-02-01T13:00:00+01:00",
    }
    made = await make(api, **{**wanted, "polls": [POLL.upper()]})
    assert made == {**made, **wanted, "expiresAt": "2126-02-01T12:00:00Z"}
    everywhere = await make(api, name="all", actions=["read", "act"], courses=["*"], polls=None)
    assert (everywhere["courses"], everywhere["polls"]) == (["*"], [])
    admin = await make(api, name="admin", admin=True)
    assert (admin["admin"], admin["workspaces"]) == (True, ["*"])


async def test_a_short_token_ends_after_its_seconds(api: Client, clock: Clock) -> None:
    made = await make(api, expiresIn=900)
    assert made["expiresAt"] == "2126-01-31T12:15:00Z"
    clock.advance(seconds=899)
    headers = bearer(made["secret"])
    await answered(await api.get("/api/v1/users/self", headers=headers))
    clock.advance(seconds=1)
    await refused(await api.get("/api/v1/users/self", headers=headers), 403)
    await make(api)  # the name is free again


async def test_the_secret_is_shown_once_however_often_the_request_is_repeated(
    api: Client, raw: Raw
) -> None:
    first = await make(api, key="1")
    assert first["secret"].startswith("polls_")
    assert await make(api, key="1") == {**first, "secret": None}
    await refused(
        await api.post("/tokens", json={**BOT, "userId": 43}, headers={"Idempotency-Key": "1"}), 409
    )
    assert raw.tokens.count_documents({}) == 1
    assert first["secret"] not in json.dumps(list(raw.idempotency.find()), default=str)
    problem = await refused(await api.post("/tokens", json=BOT), 409)
    assert problem["detail"] == (
        "A token named 'bot' already exists. Choose another name, or revoke it."
    )


BAD: dict[str, tuple[Json, str, str]] = {
    "no name": ({"name": None}, "name", "must not be null"),
    "an empty name": ({"name": ""}, "name", "must have 1 to 100 characters"),
    "a long name": ({"name": "n" * 101}, "name", "must have 1 to 100 characters"),
    "a name of two lines": ({"name": "a\nb"}, "name", "must not have control characters"),
    "no user": ({"userId": None}, "userId", "must not be null"),
    "user 0": ({"userId": 0}, "userId", "must be a whole number from 1 to 2^53-1"),
    "a number in quotes": ({"userId": "7"}, "userId", "must be sent as a number, without quotes"),
    "a large user": ({"userId": 2**53}, "userId", "must be a whole number from 1 to 2^53-1"),
    "an unknown action": ({"actions": ["admin"]}, "actions[0]", "must be one of read, write"),
    "no actions": ({"actions": []}, "actions", "must have 1 to 4 items"),
    "the workspace users": ({"workspaces": ["users"]}, "workspaces[0]", "must not be users"),
    "an empty workspace": ({"workspaces": [""]}, "workspaces[0]", "must have 1 to 255"),
    "no course": ({"courses": ["5"]}, "courses[0]", "2^53-1, or *"),
    "no poll": ({"polls": ["x"]}, "polls[0]", "must be the UUID of a poll"),
    "bound to nothing": ({"polls": []}, "polls", "must have 1 to 1000 items"),
    "an unknown member": ({"user": 7}, "user", "is not a known member"),
    "no time": ({"expiresIn": 0}, "expiresIn", "must be 1 to 31,622,400 seconds"),
    "the past": ({"expiresAt": "2126-01-31T12:00:00Z"}, "expiresAt", "must be in the future"),
    "two ends": (
        {"expiresIn": 1, "expiresAt": "2127-01-31T12:00:00Z"},
        "expiresAt",
        "must not be given beside expiresIn",
    ),
    "a limited admin": (
        {"admin": True, "workspaces": ["PLAT"]},
        "workspaces",
        "would not limit an admin token",
    ),
    "an admin with actions": ({"admin": True, "actions": ["read"]}, "actions", "would not limit"),
    "an admin of a course": ({"admin": True, "courses": [5]}, "courses", "would not limit"),
    "an admin of a poll": ({"admin": True, "polls": [POLL]}, "polls", "would not limit"),
    "courses without act": ({"courses": [5]}, "courses", "would limit nothing without"),
    "act alone": (
        {"actions": ["act"], "workspaces": ["PLAT"]},
        "actions",
        "must have read, write or vote beside act",
    ),
    "act nowhere": (
        {"actions": ["read", "act"]},
        "actions",
        "must not have act without a workspace or a course",
    ),
}


@pytest.mark.parametrize(("wrong", "field", "message"), BAD.values(), ids=BAD)
async def test_a_token_that_cannot_be_meant_is_refused(
    api: Client, raw: Raw, wrong: Json, field: str, message: str
) -> None:
    problem = await refused(await api.post("/tokens", json={**BOT, **wrong}), 400, [field])
    assert message in problem["detail"]
    assert raw.tokens.count_documents({}) == 0


async def test_the_live_tokens_are_listed_by_name_in_pages(
    api: Client, clock: Clock, make_token: TokenMaker
) -> None:
    for name in ("delta", "bravo", "ünï", "alpha/1", "charlie"):
        await make(api, name=name)
    await make_token(name="expired", expires_at=clock.now + timedelta(seconds=1))
    await make(api, name="revoked")
    await answered(await api.delete("/tokens/revoked"))
    clock.advance(seconds=1)
    url, names = "/tokens?per_page=2", []
    while url:
        async with api.get(url) as response:
            page = await response.json()
            assert all("secret" not in token for token in page)
            names.append([token["name"] for token in page])
            found = response.links.get("next")
        url = str(URL(found["url"]).relative()) if found else ""
    assert names == [["alpha/1", "bravo"], ["charlie", "delta"], ["ünï"]]
    for name in ("alpha%2F1", "%C3%BCn%C3%AF"):
        await answered(await api.delete(f"/tokens/{name}"))
    await refused(await api.get("/tokens", params={"page": "bookmark:1"}), 400, ["page"])


async def test_tokens_of_version_0_1_are_listed(api: Client, raw: Raw) -> None:
    await make(api)
    raw.tokens.update_one({}, {"$unset": {"courses": "", "polls": ""}})
    [shown] = await answered(await api.get("/tokens"))
    assert (shown["courses"], shown["polls"]) == ([], [])
    rest = {"userId": 42, "name": "bot", "admin": False, "workspaces": []}
    assert shown == {**shown, **rest}


async def test_a_token_that_is_revoked_ends_at_once_and_its_name_is_free(
    api: Client, raw: Raw
) -> None:
    made = await make(api)
    headers = bearer(made.pop("secret"))
    await answered(await api.get("/api/v1/users/self", headers=headers))
    assert await answered(await api.delete("/tokens/bot")) == made
    await refused(await api.get("/api/v1/users/self", headers=headers), 403)
    await refused(await api.delete("/tokens/bot"), 404)
    await make(api)
    assert raw.tokens.count_documents({}) == 2


async def test_a_token_that_is_read_while_it_is_revoked_is_not_kept(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = bearer((await make(api))["secret"])
    reader = api.app[STORE].tokens._reader
    get = reader.get

    async def get_then_revoke(identifier: str) -> Any:
        found = await get(identifier)
        assert found is not None
        monkeypatch.undo()
        await api.app[STORE].tokens.revoke("bot", found["created_at"])
        return found

    monkeypatch.setattr(reader, "get", get_then_revoke)
    await answered(await api.get("/api/v1/users/self", headers=headers))
    await refused(await api.get("/api/v1/users/self", headers=headers), 403)


async def test_a_browser_holds_a_token_for_one_user_one_poll_and_a_quarter_of_an_hour(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    other = await content_run(api, raw)
    made = await make(
        api, actions=["read", "vote"], workspaces=["PLAT"], polls=[run.poll_id], expiresIn=900
    )
    headers = bearer(made["secret"])
    vote: Json = {"json": {"optionIds": ["1"]}, "headers": headers}
    given = await answered(await api.post("/rest", params=run.votes, **vote))
    assert given["userId"] == 42
    await refused(await api.post("/rest", params=other.votes, **vote), 403)
    acting = {**run.votes, "as_user_id": "43"}
    await refused(await api.post("/rest", params=acting, **vote), 403)
    clock.advance(minutes=15)
    await refused(await api.get("/rest", params=run.query, headers=headers), 403)
