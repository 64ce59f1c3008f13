"""Batching: many concurrent callers, one round trip, without waiting for more callers.

If nothing is in flight, an item goes at once. While a batch is in flight, new items wait together
and go as the next one. There is no timer and nothing is stale: a caller only ever joins a batch
that has not started, so a read begins after it was asked for, and an idle service answers as fast
as without batches.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextvars import Context
from typing import Generic, TypeVar, cast

from storage.client import (
    ROUND_TRIP_SECONDS,
    Collection,
    Document,
    answer_by,
    decode,
    find_raw,
    find_raw_within,
    round_trip,
)
from storage.errors import LimitReached, OutcomeUnknown, StorageError, Unavailable
from storage.metrics import BatchMeter, batch_meters

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)
Shape = TypeVar("Shape")

Ready = Callable[[], Awaitable[None]]
Done = Callable[[], None]
Run = Callable[[Sequence[Item]], Awaitable[Sequence[Result | StorageError]]]
"""Does the work of a batch: one result, or one refusal, for each item, in their order."""

MAX_WAITING = 10_000
STAGGER_SECONDS = 0.020
SHARED_FATE_SECONDS = 0.5
NEVER = float("inf")
MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Of documents as they are stored; decoded they take up to eight times as much."""
TOO_BUSY = "The service is too busy; nothing was changed."

Waiting = tuple[Item, asyncio.Future[Result], float, float]
"""An item, the future that its caller awaits, when it came, and when it must be answered.

A plain tuple, since every caller makes one.
"""


class Batcher(Generic[Item, Result]):
    """Runs items in batches, one batch in flight.

    With ``staggered`` a second may start when the first is older than 20 ms, so that one slow round
    trip does not delay everything. ``max_size`` bounds a batch, ``max_waiting`` the queue: beyond
    it, and for an item whose batch has not started after ``wait_seconds``, ``submit`` raises
    ``Unavailable``. For an item in flight whose caller must be answered (``client.answer_by``), it
    raises ``Unavailable`` or the subclass ``unanswered``. A batch takes all that has come by the
    time at which ``ready``, which must not fail, has returned. ``done`` is called at its end, also
    where nothing was left to do.
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
        unanswered: type[Unavailable] = Unavailable,
        ready: Ready | None = None,
        done: Done | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()  # asked once: asking costs more than all of submit
        self._run = run
        self._max_size = max_size
        self._max_waiting = max_waiting
        self._staggered = staggered
        self._wait_seconds = wait_seconds
        self._meter = meter
        self._unanswered = unanswered
        self._ready = ready
        self._done = done
        self._queue: deque[Waiting[Item, Result]] = deque()
        # Strong references, since the loop itself keeps only weak ones; when each batch started,
        # and its items.
        self._in_flight: dict[asyncio.Task[None], tuple[float, list[Waiting[Item, Result]]]] = {}
        self._stagger: asyncio.TimerHandle | None = None
        self._expiry: asyncio.Handle | None = None
        self._expires_at = NEVER

    def submit(self, item: Item) -> "asyncio.Future[Result]":
        """The result for ``item``; to be awaited at once.

        Raises ``Unavailable``, or what the batch raised for this item. A caller that is cancelled
        withdraws its own item only, and only if that has not started.
        """
        if len(self._queue) >= self._max_waiting:
            raise Unavailable(TOO_BUSY)
        outcome: asyncio.Future[Result] = self._loop.create_future()
        waiting = (item, outcome, self._loop.time(), answer_by())
        self._queue.append(waiting)
        if not self._in_flight:
            self._start()
        elif self._staggered:
            self._arm_stagger()
        expires = self._expires(waiting)
        if expires < self._expires_at:
            self._arm_expiry(expires)
        return outcome

    async def drain(self) -> None:
        """Returns when everything that was submitted has its outcome."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _start(self) -> None:
        """Sends the next batch; items that arrive before its task runs go with it."""
        batch: list[Waiting[Item, Result]] = []
        # In an empty context, or it would log, and give up, as its first caller.
        task = asyncio.create_task(self._send_next(batch), context=Context())
        self._in_flight[task] = self._loop.time(), batch

    async def _send_next(self, batch: list[Waiting[Item, Result]]) -> None:
        outcomes: Sequence[Result | Exception] = []
        try:
            try:
                if self._ready is not None:
                    await self._ready()
            finally:
                self._fill(batch)
            if batch:
                outcomes = await self._run_all(batch)
        except asyncio.CancelledError:
            # The driver or the loop is being closed: nothing else would wake the callers.
            stopping = OutcomeUnknown("The service is stopping; it is not known what was changed.")
            outcomes = [stopping] * len(batch)
            raise
        finally:
            if self._done is not None:
                self._done()
            # The next batch goes before these callers are woken: it is under way while they answer.
            self._end(cast("asyncio.Task[None]", asyncio.current_task()))
            for (_, outcome, _, _), result in zip(batch, outcomes, strict=True):
                _settle(outcome, result)

    def _fill(self, batch: list[Waiting[Item, Result]]) -> None:
        while self._queue and len(batch) < self._max_size:
            waiting = self._queue.popleft()
            if not waiting[1].done():  # else its caller was cancelled
                batch.append(waiting)
        if self._queue and self._staggered:
            self._arm_stagger()

    def _end(self, task: "asyncio.Task[None]") -> None:
        del self._in_flight[task]
        if self._stagger is not None:  # the next batch is young
            self._stagger.cancel()
            self._stagger = None
        if self._queue:
            self._start()
        elif not self._in_flight:
            self._arm_expiry(NEVER)

    async def _run_all(self, batch: list[Waiting[Item, Result]]) -> Sequence[Result | Exception]:
        """An outcome for each item of ``batch``, and of those that are added to share its fate."""
        items = [item for item, _, _, _ in batch]
        if self._meter is not None:
            self._meter.sizes.observe(len(batch))
            self._meter.waits.observe(max(self._loop.time() - batch[0][2], 0.0))
        try:
            return await self._run(items)
        except Unavailable as error:
            # So do those that have long waited for it: with a batch of their own they would wait
            # as long again.
            came_before = self._loop.time() - SHARED_FATE_SECONDS
            while self._queue and self._queue[0][2] <= came_before:
                batch.append(self._queue.popleft())
            return [error] * len(batch)
        except Exception as error:
            if len(items) == 1:
                return [error]
        # One of them is to blame, and the others must not fail with it.
        return [await self._run_alone(item) for item in items]

    async def _run_alone(self, item: Item) -> Result | Exception:
        try:
            [result] = await self._run([item])
        except Exception as error:
            return error
        return result

    def _arm_stagger(self) -> None:
        if self._stagger is None and len(self._in_flight) == 1:
            [(started, _)] = self._in_flight.values()
            self._stagger = self._loop.call_at(started + STAGGER_SECONDS, self._start_second)

    def _start_second(self) -> None:
        self._stagger = None
        if self._queue:
            self._start()

    def _expires(self, waiting: Waiting[Item, Result]) -> float:
        """When an item is given up if its batch has not started."""
        _, _, came, by = waiting
        return min(came + self._wait_seconds, by)

    def _arm_expiry(self, until: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        # Its own handle may not tell: uvloop's has no when() if the time has passed.
        self._expires_at = until
        self._expiry = self._loop.call_at(until, self._expire) if until < NEVER else None

    def _expire(self) -> None:
        """Answers the callers that have waited as long as they may, queued or in flight."""
        now = self._loop.time()
        in_flight = [waiting for _, batch in self._in_flight.values() for waiting in batch]
        for waiting in self._queue:
            if self._expires(waiting) <= now:
                _settle(waiting[1], Unavailable(TOO_BUSY))
        for _, outcome, _, by in in_flight:
            if by <= now:
                _settle(outcome, self._unanswered())
        self._queue = deque(waiting for waiting in self._queue if not waiting[1].done())
        ends = [by for _, outcome, _, by in in_flight if not outcome.done()]
        self._arm_expiry(min([*map(self._expires, self._queue), *ends], default=NEVER))


def _settle(outcome: asyncio.Future[Result], result: Result | Exception) -> None:
    if outcome.done():
        return
    if isinstance(result, Exception):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)


class Reader(Generic[Key, Shape]):
    """The documents of one collection; results are shared, so callers must not change them."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._batcher: Batcher[Key, Shape | None] = Batcher(
            self._find_in_order, staggered=True, meter=batch_meters[collection.name]
        )

    def get(self, key: Key) -> Awaitable[Shape | None]:
        """The document with this ``_id``, read after this was called; None if there is none."""
        return self._batcher.submit(key)

    async def get_all(self, keys: Iterable[Key]) -> dict[Key, Shape]:
        """The documents that exist, by ``_id``; a round trip of its own, since it is one batch."""
        wanted = list(set(keys))
        if not wanted:
            return {}
        with round_trip():
            return await self._read(wanted)

    async def _read(self, wanted: list[Key]) -> dict[Key, Shape]:
        # One more than there can be: a full batch leaves the cursor open for another request.
        cursor = self._collection.find({"_id": {"$in": wanted}}, batch_size=len(wanted) + 1)
        return {one["_id"]: cast(Shape, one) for one in await cursor.to_list(None)}

    async def _find_in_order(self, keys: Sequence[Key]) -> Sequence[Shape | None]:
        found = await self.get_all(keys)
        return [found.get(key) for key in keys]


class RevalidatingReader(Reader[Key, Shape]):
    """A reader for documents that seldom change: it decodes only those that have changed.

    Each read asks the database, like any other. Decoded documents are kept by the bytes that they
    were decoded from, up to ``max_bytes`` of them, so they are never stale: a document that has
    changed has other bytes. ``shape`` makes what callers share from a decoded document.
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

    async def get_within(self, keys: Iterable[Key], *, max_bytes: int) -> dict[Key, Shape]:
        """Like ``get_all``; raises ``LimitReached`` if the documents are larger, all together."""
        wanted = list(set(keys))
        if not wanted:
            return {}
        with round_trip():
            raw = await find_raw_within(self._collection, wanted, max_bytes)
        if raw is None:
            raise LimitReached("What was asked for is too large for one answer: ask for less.")
        return dict(map(self._load, raw))

    async def _read(self, wanted: list[Key]) -> dict[Key, Shape]:
        return dict(map(self._load, await find_raw(self._collection, wanted)))

    def _load(self, raw: bytes) -> tuple[Key, Shape]:
        loaded = self._kept.get(raw)
        if loaded is None:
            document = decode(self._collection, raw)
            loaded = self._kept[raw] = cast(Key, document["_id"]), self._shape(document)
            self._kept_bytes += len(raw)
            while self._kept_bytes > self._max_bytes:
                oldest = next(iter(self._kept))
                del self._kept[oldest]
                self._kept_bytes -= len(oldest)
        return loaded
