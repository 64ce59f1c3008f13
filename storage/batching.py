"""Batches that wait for nobody: many concurrent callers, one round trip.

If nothing is in flight, a caller's item goes at once. While a batch is in flight, what arrives
waits together and goes as the next one. There is no timer and nothing is stale: a caller only ever
joins a batch that has not started, so a read begins after it was asked for, and an idle service
answers as fast as without batches.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from storage.client import ROUND_TRIP_SECONDS
from storage.errors import StorageError, Unavailable
from storage.meters import BatchMeter

Item = TypeVar("Item")
Result = TypeVar("Result")

Run = Callable[[Sequence[Item]], Awaitable[Sequence[Result | StorageError]]]
"""Does the work of a batch; gives one result, or one refusal, for each item, in their order."""

MAX_WAITING = 10_000
STAGGER_SECONDS = 0.020
SHARED_FATE_SECONDS = 0.5


Waiting = tuple[Item, asyncio.Future[Result], float]
"""An item in the queue, what its caller awaits, and when it is to be given up.

A plain tuple: each caller makes one.
"""


class Batcher(Generic[Item, Result]):
    """Runs items in batches, one batch in flight.

    With ``staggered`` a second may start when the first is older than 20 ms, so that one slow round
    trip does not hold everybody. ``max_size`` bounds a batch, ``max_waiting`` the queue: beyond it,
    and for an item whose batch has not started after 4 s, ``submit`` raises ``Unavailable``.
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
    ) -> None:
        self._loop = asyncio.get_running_loop()  # asked once: asking costs more than all of submit
        self._run = run
        self._max_size = max_size
        self._max_waiting = max_waiting
        self._staggered = staggered
        self._wait_seconds = wait_seconds
        self._meter = meter
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
        self._queue.append((item, outcome, self._loop.time() + self._wait_seconds))
        if not self._in_flight:
            self._start()
        elif self._expiry is None or (self._staggered and self._stagger is None):
            self._arm(self._loop)
        return outcome

    async def drain(self) -> None:
        """Returns when all that was submitted has come to its end."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _start(self) -> None:
        """Sends the next batch; whoever comes before its task runs goes with it."""
        # In an empty context, or it would log and give up as its first caller.
        task = asyncio.create_task(self._send_next(), context=Context())
        self._in_flight[task] = asyncio.get_running_loop().time()
        task.add_done_callback(self._finish)

    async def _send_next(self) -> None:
        batch: list[Waiting[Item, Result]] = []
        while self._queue and len(batch) < self._max_size:
            waiting = self._queue.popleft()
            if not waiting[1].done():  # else its caller has gone
                batch.append(waiting)
        if self._queue:
            self._arm(asyncio.get_running_loop())
        if not batch:
            return
        if self._meter is not None:
            came = batch[0][2] - self._wait_seconds
            self._meter.sizes.observe(len(batch))
            self._meter.waits.observe(max(asyncio.get_running_loop().time() - came, 0.0))
        await self._send(batch)

    def _finish(self, task: "asyncio.Task[None]") -> None:
        """Who is left in the queue waits for a batch that is young now: the timers begin anew."""
        del self._in_flight[task]
        self._disarm()
        if self._queue:
            self._start()

    async def _send(self, batch: list[Waiting[Item, Result]]) -> None:
        try:
            results = await self._run([item for item, _, _ in batch])
        except Unavailable as error:
            for waiting in [*batch, *self._take_patient()]:
                _settle(waiting, error)
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0], error)
            else:
                # One of them is to blame, and the others shall not fail with it.
                for waiting in batch:
                    await self._send([waiting])
        except asyncio.CancelledError:
            # The driver or the loop is being closed: nobody else would wake the callers.
            for waiting in batch:
                _settle(waiting, Unavailable("The service stops; ask whether it was changed."))
            raise
        else:
            for waiting, result in zip(batch, results, strict=True):
                _settle(waiting, result)

    def _take_patient(self) -> list[Waiting[Item, Result]]:
        """Those who have long waited for a batch that now failed for want of the database.

        They share its fate: with a batch of their own they would wait as long again.
        """
        came_before = asyncio.get_running_loop().time() - SHARED_FATE_SECONDS
        patient: list[Waiting[Item, Result]] = []
        while self._queue and self._queue[0][2] - self._wait_seconds <= came_before:
            patient.append(self._queue.popleft())
        return patient

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._expiry is None:
            self._expiry = loop.call_at(self._queue[0][2], self._expire)
        if self._staggered and self._stagger is None and len(self._in_flight) == 1:
            started = next(iter(self._in_flight.values()))
            self._stagger = loop.call_at(started + STAGGER_SECONDS, self._start_second)

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
        """Lets those go who have waited long enough; the queue is in the order of arrival."""
        self._expiry = None
        loop = asyncio.get_running_loop()
        while self._queue and self._queue[0][2] <= loop.time():
            waiting = self._queue.popleft()
            _settle(waiting, Unavailable("The service is too busy; nothing was changed."))
        if self._queue:
            self._arm(loop)


def _settle(waiting: Waiting[Item, Result], result: Result | Exception) -> None:
    _, outcome, _ = waiting
    if outcome.done():
        return
    if isinstance(result, Exception):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)
