"""Batches and time under a test's control."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

from storage.batching import Batcher, Item, Result
from storage.errors import StorageError

who: ContextVar[str] = ContextVar("who", default="nobody")


class Desk:
    """The work of batches, each of which ends when the test says so; gives ten times each item."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self._ends: list[asyncio.Future[Exception | None]] = []
        self.callers: list[str] = []
        self.errors: dict[int, Exception] = {}
        self.refusals: dict[int, StorageError] = {}

    async def run(self, items: Sequence[int]) -> Sequence[int | StorageError]:
        self.callers.append(who.get())
        self.batches.append(list(items))
        end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        error = await end
        if error is not None:
            raise error
        for item in items:
            if item in self.errors:
                raise self.errors[item]
        return [self.refusals.get(item, item * 10) for item in items]

    async def end(self, batch: int, error: Exception | None = None) -> None:
        """Ends the batch with this index, and lets its callers go on."""
        self._ends[batch].set_result(error)
        await turns()

    async def end_all(self) -> None:
        while any(not end.done() for end in self._ends):
            for end in self._ends:
                if not end.done():
                    end.set_result(None)
            await turns()


class LoopClock:
    """The clock of the running loop, as the test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        await turns()


async def turns() -> None:
    """Lets everything happen that can happen now."""
    for _ in range(10):
        await asyncio.sleep(0)


async def ask(batcher: Batcher[Item, Result], item: Item) -> Result:
    """What one caller does."""
    return await batcher.submit(item)


async def submit(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Callers who ask at once; on return all that can start has started."""
    callers = [asyncio.create_task(ask(batcher, item)) for item in items]
    await turns()
    return callers


def assert_at_rest(batcher: Batcher[int, int]) -> None:
    """No task, no timer, nobody in the queue."""
    assert (list(batcher._queue), batcher._in_flight) == ([], {})
    assert (batcher._stagger, batcher._expiry) == (None, None)
    loop = asyncio.get_running_loop()
    timers = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined] # asyncio's own list
    assert [handle for handle in timers if "Batcher" in repr(handle)] == []
    current = asyncio.current_task()
    assert {task for task in asyncio.all_tasks() if task is not current} == set()
