"""Discrete events: a clock, what happens when, and what there is only so much of."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

SWITCH_SECONDS = 0.005
"""After so long the interpreter lets another thread in (``sys.getswitchinterval``)."""

Then = Callable[[], None]
Wait = Callable[[Then], None]
"""Starts something, and calls what it is given once that has ended."""
Steps = Generator[Wait, None, Any]
"""A course of events: it yields what it waits for."""


class Clock:
    """The time of the simulation, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, then: Then) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), then))

    def pause(self, seconds: float) -> Wait:
        return partial(self.after, seconds)

    def run(self, until: float) -> None:
        """Returns when nothing is left to happen before ``until``."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, then = heapq.heappop(events)
            then()
        self.now = until


def start(steps: Steps, then: Then | None = None) -> None:
    """Goes through the steps, each once the one before has ended, and then calls ``then``."""

    def go_on() -> None:
        wait = next(steps, None)
        if wait is not None:
            wait(go_on)
        elif then is not None:
            then()

    go_on()


def together(waits: Sequence[Wait]) -> Wait:
    """Ends with the last of them."""
    if len(waits) == 1:
        return waits[0]

    def begin(then: Then) -> None:
        left = len(waits)

        def end() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for wait in waits:
            wait(end)

    return begin


class Host:
    """Cores, each with one job at a time; the others wait in turn."""

    def __init__(self, clock: Clock, cores: int) -> None:
        self._clock = clock
        self._free = self.cores = cores
        self._waiting: deque[tuple[float, Then]] = deque()
        self.busy = 0.0

    def use(self, seconds: float) -> Wait:
        return partial(self.take, seconds)

    def take(self, seconds: float, then: Then) -> None:
        if not self._free:
            self._waiting.append((seconds, then))
            return
        self._free -= 1
        self._begin(seconds, then)

    def _begin(self, seconds: float, then: Then) -> None:
        self.busy += seconds
        self._clock.after(seconds, partial(self._end, then))

    def _end(self, then: Then) -> None:
        if self._waiting:
            self._begin(*self._waiting.popleft())
        else:
            self._free += 1
        then()


class Process:
    """An interpreter: one job at a time, on a core of its host.

    Jobs of the event loop come first; one of another thread waits for them, for 5 ms at most.
    """

    def __init__(self, clock: Clock, host: Host) -> None:
        self._clock = clock
        self._host = host
        self._jobs: deque[tuple[float, Then]] = deque()
        self._threads: deque[tuple[float, float, Then]] = deque()
        self._is_busy = False
        self.busy = 0.0

    def thread(self, seconds: float) -> Wait:
        """A job of another thread."""
        return partial(self._take_thread, seconds)

    def _take_thread(self, seconds: float, then: Then) -> None:
        self._threads.append((self._clock.now + SWITCH_SECONDS, seconds, then))
        self._wake()

    def take(self, seconds: float, then: Then) -> None:
        """A job of the event loop."""
        self._jobs.append((seconds, then))
        self._wake()

    def _wake(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._next()

    def _next(self) -> None:
        if self._threads and (not self._jobs or self._threads[0][0] <= self._clock.now):
            _, seconds, then = self._threads.popleft()
        else:
            seconds, then = self._jobs.popleft()
        self.busy += seconds
        self._host.take(seconds, partial(self._end, then))

    def _end(self, then: Then) -> None:
        then()
        if self._jobs or self._threads:
            self._next()
        else:
            self._is_busy = False


class Journal:
    """Writes to disk, and to a majority: what comes while it writes goes with the next one."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._waiting: list[Then] = []
        self._is_busy = False

    def flush(self, then: Then) -> None:
        self._waiting.append(then)
        if not self._is_busy:
            self._begin()

    def _begin(self) -> None:
        self._is_busy = True
        flushed, self._waiting = self._waiting, []
        self._clock.after(self._seconds, partial(self._end, flushed))

    def _end(self, flushed: list[Then]) -> None:
        self._is_busy = False
        if self._waiting:
            self._begin()
        for then in flushed:
            then()
