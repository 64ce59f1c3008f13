"""Reads by key in batches, and what is kept of tokens for a moment."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest

from storage import tokens
from storage.batching import Reader, RevalidatingReader
from storage.store import Store
from storage.tokens import FRESH_SECONDS, Tokens, token_id
from tests.conftest import Clock, Raw

Documents = Reader[str, dict[str, Any]]
NOW = datetime(2126, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
async def reader(store: Store, raw: Raw) -> Documents:
    raw.things.insert_many([{"_id": name, "value": 1} for name in "abc"])
    return Reader(store.database.collection("things"))


class Gate:
    """Holds the answers of a reader's round trips back until it is opened."""

    def __init__(self, reader: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[str]] = []
        self.read, self.opened = asyncio.Event(), asyncio.Event()
        self._find = reader.get_all
        monkeypatch.setattr(reader, "get_all", self._get_all)

    async def _get_all(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        self.asked.append(list(keys))
        found = await self._find(keys)
        self.read.set()
        await self.opened.wait()
        return found


async def test_each_caller_gets_the_document_of_the_own_key(reader: Documents) -> None:
    found = await asyncio.gather(*(reader.get(key) for key in "abcxa"))
    values = [one and one["_id"] for one in found]
    assert values == ["a", "b", "c", None, "a"]
    assert (await reader.get_all("cxa")).keys() == {"a", "c"}
    assert await reader.get_all([]) == {}


async def test_a_read_after_a_write_sees_it_whatever_is_in_flight(
    reader: Documents, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(reader, monkeypatch)
    early = asyncio.ensure_future(reader.get("a"))
    await gate.read.wait()
    raw.things.update_one({"_id": "a"}, {"$set": {"value": 2}})
    late = [asyncio.ensure_future(reader.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    gate.opened.set()
    seen = [await task for task in (early, *late)]
    assert [one and one["value"] for one in seen] == [1, 2, 2, 2]
    assert gate.asked == [["a"], ["a", "a", "a"]]


# What is kept by its bytes --------------------------------------------------------------------


class Shaped:
    """Counts the documents that were decoded, and lets readers share what came of them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, document: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        return document


async def test_a_document_is_decoded_again_only_where_it_has_changed(
    store: Store, raw: Raw
) -> None:
    raw.things.insert_many([{"_id": name, "value": 1, "at": NOW} for name in "ab"])
    shaped = Shaped()
    reader = RevalidatingReader[str, Any](store.database.collection("things"), shaped)
    first = await reader.get_all("abx")
    assert first == {name: {"_id": name, "value": 1, "at": NOW} for name in "ab"}
    again = await reader.get_all("ab")
    assert (again["a"] is first["a"], again["b"] is first["b"], shaped.count) == (True, True, 2)
    raw.things.update_one({"_id": "a"}, {"$set": {"value": 2}})
    assert (await reader.get_all("ab"))["a"]["value"] == 2
    raw.things.delete_one({"_id": "b"})
    assert (await reader.get_all("ab")).keys() == {"a"}
    assert shaped.count == 3
    assert await reader.get_all([]) == {}


async def test_what_is_kept_of_documents_is_bounded_and_the_oldest_goes_first(
    store: Store, raw: Raw
) -> None:
    raw.things.insert_many([{"_id": name} for name in "abc"])
    shaped, size = Shaped(), len(bson.encode({"_id": "a"}))
    reader = RevalidatingReader[str, Any](
        store.database.collection("things"), shaped, max_bytes=2 * size + 1
    )
    for name in "abcbc":
        assert await reader.get(name) == {"_id": name}
    assert (shaped.count, reader._kept_bytes) == (3, 2 * size)
    assert await reader.get("a") == {"_id": "a"}
    assert (shaped.count, reader._kept_bytes, len(reader._kept)) == (4, 2 * size, 2)


async def test_a_document_that_is_larger_than_all_that_may_be_kept_is_read_all_the_same(
    store: Store, raw: Raw
) -> None:
    raw.things.insert_one({"_id": "a", "text": "x" * 99})
    things = store.database.collection("things")
    reader = RevalidatingReader[str, Any](things, Shaped(), max_bytes=50)
    assert (await reader.get_all("a"))["a"]["text"] == "x" * 99
    assert (reader._kept, reader._kept_bytes) == ({}, 0)


# Tokens ----------------------------------------------------------------------------------------


class Seconds:
    """The monotonic clock as a test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def cache(store: Store, seconds: Seconds, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    """Tokens on a clock of their own, with room for three of each kind."""
    monkeypatch.setattr(tokens, "MAX_RECENT", 3)
    return Tokens(store.database, seconds)


async def make(cache: Tokens, clock: Clock, *secrets: str, **token: Any) -> None:
    for secret in secrets:
        await cache.create(secret, name=secret, user_id=7, now=clock(), **token)


async def is_good(cache: Tokens, clock: Clock, secret: str) -> bool:
    return await cache.find(token_id(secret), clock()) is not None


async def test_a_token_counts_for_4_seconds_and_not_longer(
    cache: Tokens, raw: Raw, clock: Clock, seconds: Seconds
) -> None:
    await make(cache, clock, "good")
    assert await is_good(cache, clock, "good")
    raw.tokens.update_one({"name": "good"}, {"$set": {"revoked_at": clock()}})
    seconds.now += FRESH_SECONDS - 0.01
    assert await is_good(cache, clock, "good")
    seconds.now += 0.01
    assert not await is_good(cache, clock, "good")


async def test_the_4_seconds_begin_before_the_read(
    cache: Tokens, raw: Raw, clock: Clock, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(cache, clock, "good")
    read = cache._reader.get

    async def slowly(identifier: str) -> Any:
        found = await read(identifier)
        seconds.now += 3.0
        return found

    monkeypatch.setattr(cache._reader, "get", slowly)
    assert await is_good(cache, clock, "good")
    raw.tokens.update_one({"name": "good"}, {"$set": {"revoked_at": clock()}})
    seconds.now += 1.0
    assert not await is_good(cache, clock, "good")


async def test_an_expiry_is_looked_at_on_each_use(
    cache: Tokens, clock: Clock, seconds: Seconds
) -> None:
    await make(cache, clock, "brief", expires_at=clock() + timedelta(seconds=1))
    assert await is_good(cache, clock, "brief")
    clock.advance(seconds=1)
    assert seconds.now == 1000.0  # what was read is as fresh as before
    assert not await is_good(cache, clock, "brief")


async def test_what_is_kept_is_bounded_and_the_oldest_goes_first(
    cache: Tokens, raw: Raw, clock: Clock
) -> None:
    await make(cache, clock, "a", "b", "c", "d")
    for secret in "abcd":
        assert await is_good(cache, clock, secret)
    assert list(cache._known) == [token_id(secret) for secret in "bcd"]
    raw.tokens.delete_many({})
    assert [await is_good(cache, clock, secret) for secret in "bcda"] == [True, True, True, False]


async def test_unknown_tokens_do_not_push_out_good_ones_and_are_bounded_too(
    cache: Tokens, raw: Raw, clock: Clock
) -> None:
    await make(cache, clock, "good")
    assert await is_good(cache, clock, "good")
    for number in range(10):
        assert not await is_good(cache, clock, f"guess-{number}")
    assert len(cache._unknown) == 3
    raw.tokens.delete_many({})
    assert await is_good(cache, clock, "good")


async def test_an_unknown_token_is_asked_for_again_after_4_seconds(
    cache: Tokens, clock: Clock, seconds: Seconds
) -> None:
    assert not await is_good(cache, clock, "new")
    await make(cache, clock, "new")
    assert not await is_good(cache, clock, "new")
    seconds.now += FRESH_SECONDS
    assert await is_good(cache, clock, "new")
