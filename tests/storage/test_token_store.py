"""Tokens as they are stored, and as far as it goes over a stand-in for the database."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient

from storage.client import Database
from storage.errors import Conflict, NotFound
from storage.idempotency import IdempotencyKey
from storage.pagination import Window
from storage.store import Store
from storage.tokens import Tokens, token_id
from tests.conftest import Clock, Raw


async def test_a_name_is_free_again_once_its_token_has_expired(store: Store, clock: Clock) -> None:
    expires_at = clock() + timedelta(seconds=10)
    await store.tokens.create("1", name="bot", user_id=7, now=clock(), expires_at=expires_at)
    clock.advance(seconds=9)
    with pytest.raises(Conflict, match="A token named 'bot' already exists"):
        await store.tokens.create("2", name="bot", user_id=7, now=clock())
    clock.advance(seconds=1)
    await store.tokens.create("2", name="bot", user_id=7, now=clock())
    with pytest.raises(Conflict):
        await store.tokens.create("3", name="bot", user_id=7, now=clock())
    assert [token["name"] for token in await store.tokens.all()] == ["bot", "bot"]


@pytest.mark.usefixtures("store")
def test_the_database_removes_tokens_and_their_names_a_day_after_they_expired(raw: Raw) -> None:
    """It does so once a minute, which no test waits for."""
    for name in ("tokens", "live_names"):
        [index] = [one for one in raw[name].list_indexes() if "expireAfterSeconds" in one]
        assert (dict(index["key"]), index["expireAfterSeconds"]) == ({"expires_at": 1}, 86_400)


async def test_live_tokens_are_listed_by_name_without_those_that_ended(
    store: Store, clock: Clock, raw: Raw
) -> None:
    soon = clock() + timedelta(seconds=1)
    for name in "edcba":
        await store.tokens.create(name, name=name, user_id=7, now=clock())
    await store.tokens.create("f", name="bb", user_id=7, now=clock(), expires_at=soon)
    await store.tokens.revoke("c", clock())
    raw.tokens.update_many({}, {"$unset": {"courses": "", "polls": ""}})  # as version 0.1 wrote
    page = await store.tokens.live(Window(limit=3), clock())
    assert ([token["name"] for token in page.rows], page.next_after) == (["a", "b", "bb"], "bb")
    clock.advance(seconds=1)
    page = await store.tokens.live(Window(limit=3), clock())
    assert ([token["name"] for token in page.rows], page.next_after) == (["a", "b", "d"], "d")
    page = await store.tokens.live(Window(after="d", limit=3), clock())
    assert ([token["name"] for token in page.rows], page.next_after) == (["e"], None)


async def test_under_one_idempotency_key_one_token_is_made(
    store: Store, clock: Clock, raw: Raw
) -> None:
    key = IdempotencyKey("token 1", "the request", sent_at=clock())
    made = await asyncio.gather(
        *(
            store.tokens.create(str(n), name="bot", user_id=7, now=clock(), idempotency_key=key)
            for n in range(10)
        )
    )
    assert len({token["_id"] for token in made}) == 1
    assert raw.tokens.count_documents({}) == 1


async def test_a_name_is_free_again_once_its_token_is_revoked(
    store: Store, clock: Clock, raw: Raw
) -> None:
    for secret in ("1", "2", "3"):
        await store.tokens.create(secret, name="bot", user_id=7, now=clock())
        clock.advance(seconds=1)
        await store.tokens.revoke("bot", clock())
        with pytest.raises(NotFound, match="There is no live token named 'bot'"):
            await store.tokens.revoke("bot", clock())
        assert await store.tokens.find(token_id(secret), clock()) is None
    assert raw.tokens.count_documents({"revoked_at": None}) == 0


async def test_of_many_creations_of_one_name_at_once_one_succeeds(
    store: Store, clock: Clock, raw: Raw
) -> None:
    created = await asyncio.gather(
        *(
            store.tokens.create(f"{number}", name="bot", user_id=number, now=clock())
            for number in range(1, 21)
        ),
        return_exceptions=True,
    )
    assert [type(result) for result in created if isinstance(result, Exception)] == [Conflict] * 19
    assert raw.tokens.count_documents({}) == 1
    await store.tokens.revoke("bot", clock())
    assert raw.tokens.count_documents({"revoked_at": None}) == 0


async def test_a_revocation_ends_the_token_that_holds_the_name_and_no_earlier_one(
    store: Store, clock: Clock, raw: Raw
) -> None:
    expires_at = clock() + timedelta(seconds=10)
    await store.tokens.create("1", name="bot", user_id=7, now=clock(), expires_at=expires_at)
    clock.advance(seconds=10)
    await store.tokens.create("2", name="bot", user_id=7, now=clock())
    await store.tokens.revoke("bot", clock())
    revoked = [token["_id"] for token in raw.tokens.find({"revoked_at": {"$ne": None}})]
    assert revoked == [token_id("2")]


async def test_tokens_are_found_in_a_stand_in_for_the_database(clock: Clock) -> None:
    """mongomock has no transactions: what reads and writes one document at a time."""
    client: Any = AsyncMongoMockClient(tz_aware=True)
    store = Store(Database(client, "polls"), b"secret")
    tokens = store.tokens
    assert await store.is_empty()
    token = {"name": "bot", "user_id": 7, "admin": False, "workspaces": [], "actions": ["read"]}
    lives = {"created_at": clock(), "expires_at": None, "revoked_at": None}
    soon = clock() + timedelta(seconds=1)
    await client.polls.tokens.insert_many(
        [
            {**token, **lives, "_id": token_id("live")},
            {**token, **lives, "_id": token_id("expiring"), "expires_at": soon},
            {**token, **lives, "_id": token_id("revoked"), "revoked_at": clock()},
        ]
    )
    assert not await store.is_empty()
    found = await tokens.find(token_id("live"), clock())
    assert found == {**token, **lives, "_id": token_id("live")}
    assert await tokens.find(token_id("expiring"), clock()) is not None
    clock.advance(seconds=1)
    assert await tokens.find(token_id("expiring"), clock()) is None
    assert await tokens.find(token_id("revoked"), clock()) is None
    assert await tokens.find("live", clock()) is None
    assert len(await tokens.all()) == 3


async def test_of_many_tokens_those_that_have_ended_are_found(store: Store, clock: Clock) -> None:
    """What is known of a token is 4 s old at most: a revoked one stops working within 5 s."""
    now = [100.0]
    tokens = Tokens(store.database, monotonic=lambda: now[0])
    end = clock() + timedelta(seconds=10)
    for name, expires_at in {"lives": None, "expires": end, "revoked": None}.items():
        await store.tokens.create(name, name=name, user_id=7, now=clock(), expires_at=expires_at)
    ids = {name: token_id(name) for name in ("lives", "expires", "revoked", "unknown")}
    assert await tokens.find_ended(ids.values(), clock()) == {ids["unknown"]}
    await store.tokens.revoke("revoked", clock())
    now[0] += 3.9
    assert await tokens.find_ended(ids.values(), clock()) == {ids["unknown"]}
    now[0] += 0.1
    assert await tokens.find_ended(ids.values(), clock()) == {ids["unknown"], ids["revoked"]}
    assert await tokens.find_ended(ids.values(), end) == {*ids.values()} - {ids["lives"]}
    assert await tokens.find(ids["lives"], clock()) is not None
