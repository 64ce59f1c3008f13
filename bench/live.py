"""Live results: what watchers of a session cost its votes and memory, and when they hear of a vote.

The same votes with and without them, in turn, in one run.
"""

import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from bench import contents
from bench.arena import Arena
from bench.crowd import Crowd, crowd
from bench.load import Load
from bench.measuring import Course, Measurement, note
from bench.plan import FULL, WATCHERS, Plan
from bench.processes import Contender, running

PROBE_OPTION = "5"
"""Only probes vote for it: all other votes are for another."""
PROBE_SECONDS = 0.4
QUIET_PROBES = 20
AFTER_SECONDS = 2.0
"""By then each watcher has heard of the last probe, or counts as not told."""


@dataclass(frozen=True, slots=True)
class Live:
    """Rates and CPU of votes into one session, without and with ``watchers`` of it: medians.

    ``share`` is the median of what the rate with them is of the one without, in each pair of runs.
    Latencies are from the answer to a vote to its event at each watcher, beside no other votes and
    beside as many as the service takes. ``untold`` are events that did not come.
    """

    watchers: int
    without_rate: float
    with_rate: float
    share: float
    without_cpu_us: float
    with_cpu_us: float
    quiet_p50_ms: float
    quiet_p99_ms: float
    busy_p50_ms: float
    busy_p99_ms: float
    untold: int
    idle_kib: float


@dataclass(slots=True)
class Probes:
    """Votes for the marked option, one at a time; ``answered`` is when each was."""

    url: str
    user_id: int = 0
    answered: list[float] = field(default_factory=list)

    def cast(self) -> None:
        self.user_id += 1
        request = urllib.request.Request(
            f"{self.url}&as_user_id={self.user_id}",
            b'{"optionIds": ["%b"]}' % PROBE_OPTION.encode(),
            {"Authorization": f"Bearer {contents.ADMIN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
        self.answered.append(time.monotonic())

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Casts one after the other inside."""
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(PROBE_SECONDS):
                self.cast()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def latencies(self, watching: Crowd, first: int) -> list[float]:
        """In seconds, of each probe from ``first`` on, at each watcher that heard of it."""
        time.sleep(AFTER_SECONDS)
        arrivals = watching.report().arrivals
        return [
            max(heard - answered, 0.0)
            for number, answered in enumerate(self.answered[first:], first + 1)
            for heard in arrivals.get(number, ())
        ]


def measure_live(course: Course, arena: Arena, plan: Plan) -> Live:
    """Of our service as it serves, in a process of its own that has done nothing else."""
    launch = replace(arena.contenders["ours"].launch, name="watched")
    with running(launch, arena.directory) as watched:
        return _measure(course, watched, plan)


def _measure(course: Course, watched: Contender, plan: Plan) -> Live:
    number = contents.LIVE_CONTENT
    load = Load((contents.vote_path(number),), is_votes=True)
    course.run(watched, load, connections=FULL, seconds=plan.warmup_seconds)
    probes = Probes(watched.url + contents.vote_path(number))
    idle_kib = _idle_memory(watched)

    without: list[Measurement] = []
    beside: list[Measurement] = []
    quiet: list[float] = []
    busy: list[float] = []

    def cast(seen: list[Measurement]) -> None:
        seen.append(course.run(watched, load, connections=FULL, seconds=plan.seconds)[0])

    for round_number in range(1, 2 * plan.rounds + 1):
        note(f"live results, {round_number} of {2 * plan.rounds}")
        if round_number % 2:  # whichever comes first has no advantage
            cast(without)
        with _watchers(watched, number) as watching:
            first = len(probes.answered)
            with probes.going_on():
                cast(beside)
            busy += probes.latencies(watching, first)
            if round_number == 1:
                first = len(probes.answered)
                with probes.going_on():
                    time.sleep(QUIET_PROBES * PROBE_SECONDS)
                quiet += probes.latencies(watching, first)
        if not round_number % 2:
            cast(without)
    return Live(
        watchers=WATCHERS,
        without_rate=statistics.median(one.rate for one in without),
        with_rate=statistics.median(one.rate for one in beside),
        share=statistics.median(
            one.rate / other.rate for one, other in zip(beside, without, strict=True)
        ),
        without_cpu_us=statistics.median(one.cpu_us for one in without),
        with_cpu_us=statistics.median(one.cpu_us for one in beside),
        quiet_p50_ms=_percentile(quiet, 50),
        quiet_p99_ms=_percentile(quiet, 99),
        busy_p50_ms=_percentile(busy, 50),
        busy_p99_ms=_percentile(busy, 99),
        untold=len(probes.answered) * WATCHERS - len(quiet) - len(busy),
        idle_kib=idle_kib,
    )


def _watchers(watched: Contender, number: int) -> AbstractContextManager[Crowd]:
    return crowd(
        WATCHERS,
        contents.results_path(number),
        [watched.url],
        secret=contents.READER,
        marked=PROBE_OPTION,
    )


def _idle_memory(watched: Contender) -> float:
    """Resident memory of a watcher, in KiB: what so many more of them take."""
    number = contents.EMPTY_CONTENTS[-1]
    with _watchers(watched, number):
        before = watched.resident_mb()
        with _watchers(watched, number), _watchers(watched, number):
            return (watched.resident_mb() - before) * 1024 / (2 * WATCHERS)


def _percentile(seconds: list[float], percent: int) -> float:
    """In ms."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1e3
