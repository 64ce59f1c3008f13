"""Locks: changes of the same document wait for each other, and no longer than their callers may."""

import asyncio

import pytest

from storage.client import set_time_limit
from storage.errors import Unavailable
from storage.locks import Locks


async def test_one_at_a_time_has_the_turn_of_a_key_in_the_order_of_arrival() -> None:
    turns = Locks()
    seen: list[str] = []

    async def take(name: str) -> None:
        async with turns.take("a"):
            seen.append(f"{name} begins")
            await asyncio.sleep(0)
            seen.append(f"{name} ends")

    await asyncio.gather(take("first"), take("second"))
    assert seen == ["first begins", "first ends", "second begins", "second ends"]
    assert turns._locks == {}
    assert turns._interested == {}


async def test_another_key_is_not_waited_for() -> None:
    turns = Locks()
    async with turns.take("a"), turns.take("b"):
        assert set(turns._locks) == {"a", "b"}
    assert turns._locks == {}


async def test_a_caller_whose_time_is_up_gets_no_turn_and_delays_no_other() -> None:
    turns = Locks()

    async def take_without_time() -> None:
        set_time_limit(0.01)
        async with turns.take("a"):
            raise AssertionError("it had the turn")

    async with turns.take("a"):
        with pytest.raises(Unavailable):
            await asyncio.create_task(take_without_time())
        assert turns._interested == {"a": 1}
    async with turns.take("a"):
        assert turns._interested == {"a": 1}
    assert turns._locks == {}


async def test_a_turn_that_fails_is_given_on() -> None:
    turns = Locks()
    with pytest.raises(ZeroDivisionError):
        async with turns.take("a"):
            raise ZeroDivisionError
    async with turns.take("a"):
        assert turns._interested == {"a": 1}
