"""Batches that wait for nobody: many concurrent callers, one round trip.

If nothing is in flight, a caller's item goes at once. While a batch is in flight, what arrives
waits together and goes as the next one. There is no timer and nothing is stale: a caller only ever
joins a batch that has not started, so a read begins after it was asked for, and an idle service
answers as fast as without batches.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Generic, TypeVar, cast

from storage.client import (
    NOTHING_CHANGED,
    ROUND_TRIP_SECONDS,
    Collection,
    Document,
    answer_by,
    decode,
    find_raw,
    round_trip,
)
from storage.errors import StorageError, Unavailable
from storage.meters import BatchMeter, batch_meter

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)
Shape = TypeVar("Shape")

Run = Callable[[Sequence[Item]], Awaitable[Sequence[Result | StorageError]]]
"""Does the work of a batch; gives one result, or one refusal, for each item, in their order."""

MAX_WAITING = 10_000
STAGGER_SECONDS = 0.020
SHARED_FATE_SECONDS = 0.5
NEVER = float("inf")
MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Of documents as they are stored; decoded they take up to eight times as much."""


Waiting = tuple[Item, asyncio.Future[Result], float, float]
"""An item in the queue, what its caller awaits, when it came, and when it must be answered.

A plain tuple: each caller makes one.
"""


class Batcher(Generic[Item, Result]):
    """Runs items in batches, one batch in flight.

    With ``staggered`` a second may start when the first is older than 20 ms, so that one slow round
    trip does not hold everybody. ``max_size`` bounds a batch, ``max_waiting`` the queue: beyond it,
    and for an item whose batch has not started after 4 s, ``submit`` raises ``Unavailable``. So it
    does with the text ``unanswered`` for an item in flight whose caller can wait no longer.
    """

    def __init__(
        self,
        run: Run[Item, Result],
        *,
        max_size: int = 1000,
        max_waiting: int = MAX_WAITING,
        staggered: bool = False,
        wait_seconds: float = ROUND_TRIP_SECONDS,
        meter: BatchMeter | None = None,
        unanswered: str = NOTHING_CHANGED,
    ) -> None:
        self._loop = asyncio.get_running_loop()  # asked once: asking costs more than all of submit
        self._run = run
        self._max_size = max_size
        self._max_waiting = max_waiting
        self._staggered = staggered
        self._wait_seconds = wait_seconds
        self._meter = meter
        self._unanswered = unanswered
        self._queue: deque[Waiting[Item, Result]] = deque()
        # Strong references: the loop itself keeps only weak ones. The values are starting times.
        self._in_flight: dict[asyncio.Task[None], float] = {}
        self._stagger: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None

    def submit(self, item: Item) -> "asyncio.Future[Result]":
        """To be awaited at once: what comes of ``item``.

        Raises ``Unavailable``, or what the batch raised for this item. A caller who is cancelled
        takes only the own item along, and only while it has not started.
        """
        if len(self._queue) >= self._max_waiting:
            raise Unavailable("The service is too busy; nothing was changed.")
        outcome: asyncio.Future[Result] = self._loop.create_future()
        waiting = (item, outcome, self._loop.time(), answer_by())
        self._queue.append(waiting)
        if not self._in_flight:
            self._start()
        elif (
            self._expiry is None
            or (self._staggered and self._stagger is None)
            or self._expires(waiting) < self._expiry.when()
        ):
            self._arm()
        return outcome

    async def drain(self) -> None:
        """Returns when all that was submitted has come to its end."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _start(self) -> None:
        """Sends the next batch; whoever comes before its task runs goes with it."""
        # In an empty context, or it would log and give up as its first caller.
        task = asyncio.create_task(self._send_next(), context=Context())
        self._in_flight[task] = self._loop.time()

    async def _send_next(self) -> None:
        batch = self._take()
        if self._queue:
            self._arm()
        outcomes: Sequence[Result | Exception] = []
        try:
            if batch:
                with self._answering_late(batch):
                    outcomes = await self._run_all(batch)
        except asyncio.CancelledError:
            # The driver or the loop is being closed: nobody else would wake the callers.
            outcomes = [Unavailable("The service stops; ask whether it was changed.")] * len(batch)
            raise
        finally:
            # The next batch goes before these callers are woken: it is under way while they answer.
            self._end(cast("asyncio.Task[None]", asyncio.current_task()))
            for (_, outcome, _, _), result in zip(batch, outcomes, strict=True):
                _settle(outcome, result)

    @contextmanager
    def _answering_late(self, batch: list[Waiting[Item, Result]]) -> Iterator[None]:
        """Answers those whose batch is still in flight when they can wait no longer."""
        timer: asyncio.TimerHandle | None = None

        def arm() -> None:
            nonlocal timer
            until = min((by for _, outcome, _, by in batch if not outcome.done()), default=NEVER)
            timer = self._loop.call_at(until, answer) if until < NEVER else None

        def answer() -> None:
            for _, outcome, _, by in batch:
                if by <= self._loop.time():
                    _settle(outcome, Unavailable(self._unanswered))
            arm()

        arm()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    def _take(self) -> list[Waiting[Item, Result]]:
        batch: list[Waiting[Item, Result]] = []
        while self._queue and len(batch) < self._max_size:
            waiting = self._queue.popleft()
            if not waiting[1].done():  # else its caller has gone
                batch.append(waiting)
        return batch

    def _end(self, task: "asyncio.Task[None]") -> None:
        """Who is left in the queue waits for a batch that is young now: the timers begin anew."""
        del self._in_flight[task]
        self._disarm()
        if self._queue:
            self._start()

    async def _run_all(self, batch: list[Waiting[Item, Result]]) -> Sequence[Result | Exception]:
        """What comes of each item of ``batch``, which those who share its fate are added to."""
        items = [item for item, _, _, _ in batch]
        if self._meter is not None:
            self._meter.sizes.observe(len(batch))
            self._meter.waits.observe(max(self._loop.time() - batch[0][2], 0.0))
        try:
            return await self._run(items)
        except Unavailable as error:
            batch += self._take_patient()
            return [error] * len(batch)
        except Exception as error:
            if len(items) == 1:
                return [error]
        # One of them is to blame, and the others shall not fail with it.
        return [await self._run_alone(item) for item in items]

    async def _run_alone(self, item: Item) -> Result | Exception:
        try:
            [result] = await self._run([item])
        except Exception as error:
            return error
        return result

    def _take_patient(self) -> list[Waiting[Item, Result]]:
        """Those who have long waited for a batch that now failed for want of the database.

        They share its fate: with a batch of their own they would wait as long again.
        """
        came_before = self._loop.time() - SHARED_FATE_SECONDS
        patient: list[Waiting[Item, Result]] = []
        while self._queue and self._queue[0][2] <= came_before:
            patient.append(self._queue.popleft())
        return patient

    def _expires(self, waiting: Waiting[Item, Result]) -> float:
        """When an item is given up whose batch has not started."""
        _, _, came, by = waiting
        return min(came + self._wait_seconds, by)

    def _arm(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_at(min(map(self._expires, self._queue)), self._expire)
        if self._staggered and self._stagger is None and len(self._in_flight) == 1:
            started = next(iter(self._in_flight.values()))
            self._stagger = self._loop.call_at(started + STAGGER_SECONDS, self._start_second)

    def _disarm(self) -> None:
        for handle in (self._expiry, self._stagger):
            if handle is not None:
                handle.cancel()
        self._expiry = self._stagger = None

    def _start_second(self) -> None:
        self._stagger = None
        if self._queue:
            self._start()

    def _expire(self) -> None:
        """Lets those go who have waited long enough."""
        self._expiry = None
        now = self._loop.time()
        for waiting in self._queue:
            if self._expires(waiting) <= now:
                _settle(waiting[1], Unavailable("The service is too busy; nothing was changed."))
        self._queue = deque(waiting for waiting in self._queue if not waiting[1].done())
        if self._queue:
            self._arm()


def _settle(outcome: asyncio.Future[Result], result: Result | Exception) -> None:
    if outcome.done():
        return
    if isinstance(result, Exception):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)


class Reader(Generic[Key, Shape]):
    """The documents of one collection; what it gives is shared, and nobody changes it."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._batcher: Batcher[Key, Shape | None] = Batcher(
            self._find_in_order, staggered=True, meter=batch_meter(collection.name)
        )

    def get(self, key: Key) -> Awaitable[Shape | None]:
        """The document with this ``_id``, as it is after this was called."""
        return self._batcher.submit(key)

    async def get_all(self, keys: Iterable[Key]) -> dict[Key, Shape]:
        """Those that are there, by ``_id``; a round trip of its own, since it is one batch."""
        wanted = list(set(keys))
        if not wanted:
            return {}
        with round_trip():
            # One more than there can be: a full batch leaves the cursor open, to be asked again.
            cursor = self._collection.find({"_id": {"$in": wanted}}, batch_size=len(wanted) + 1)
            return {one["_id"]: cast(Shape, one) for one in await cursor.to_list(None)}

    async def _find_in_order(self, keys: Sequence[Key]) -> Sequence[Shape | None]:
        found = await self.get_all(keys)
        return [found.get(key) for key in keys]


class RevalidatingReader(Reader[Key, Shape]):
    """A reader for documents that change seldom: it decodes only those that have changed.

    Each read asks the database like any other. What was decoded is kept by the bytes that it was
    decoded from, up to ``max_bytes`` of them, so it is never stale: a document that has changed has
    other bytes. ``shape`` makes what callers share of a decoded document.
    """

    def __init__(
        self,
        collection: Collection,
        shape: Callable[[Document], Shape],
        *,
        max_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        super().__init__(collection)
        self._shape = shape
        self._max_bytes = max_bytes
        # The oldest first.
        self._kept: dict[bytes, tuple[Key, Shape]] = {}
        self._kept_bytes = 0

    async def get_all(self, keys: Iterable[Key]) -> dict[Key, Shape]:
        """Those that are there, by ``_id``."""
        wanted = list(set(keys))
        if not wanted:
            return {}
        with round_trip():
            found = await find_raw(self._collection, wanted)
        return dict(map(self._load, found))

    def _load(self, raw: bytes) -> tuple[Key, Shape]:
        loaded = self._kept.get(raw)
        if loaded is None:
            document = decode(self._collection, raw)
            loaded = cast(Key, document["_id"]), self._shape(document)
            self._keep(raw, loaded)
        return loaded

    def _keep(self, raw: bytes, loaded: tuple[Key, Shape]) -> None:
        self._kept[raw] = loaded
        self._kept_bytes += len(raw)
        while self._kept_bytes > self._max_bytes:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._kept_bytes -= len(oldest)
