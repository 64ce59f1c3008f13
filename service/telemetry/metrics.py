"""Prometheus metrics: plain counters, and one collector that renders them.

No label holds a path, a token or an id. Routes are those of the routing table, methods those it
names; everything else is counted together.

prometheus_client's multiprocess mode was measured and is not used. It costs 5.5 µs a request more
than these counters (0.6 µs). It counts per process and not per application, because it is switched
on by an environment variable that must be set before the library is imported. Under gunicorn it
would also need a hook in the configuration to forget the requests in flight of a dead worker.
"""

import asyncio
import os
import platform
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import accumulate
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.telemetry.log import NO_ROUTE, RequestLine
from service.telemetry.output import lost_lines
from storage import metrics
from storage.embedded.directory import is_alive
from storage.metrics import SECONDS, SIZES, Histogram

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
MAX_SHARED_BYTES = 16 << 20
SHARE_SECONDS = 1.0
"""Maximum age of the numbers of another worker."""

Rows = list[tuple[Sequence[Any], Sequence[float]]]
"""Label values, and the number of a counter or the counts and the sum of a histogram."""

REQUESTS, DURATIONS = "polls_http_requests", "polls_http_request_duration_seconds"
VOTES, ERRORS = "polls_votes", "polls_database_errors"
LOST_LINES = "polls_log_lines_lost"
STREAMS, EVENTS, OVERWRITTEN = "polls_streams", "polls_stream_events", "polls_stream_overwritten"
BATCH_SIZES, BATCH_WAITS = "polls_batch_size", "polls_batch_wait_seconds"
COUNTERS = {
    REQUESTS: ("Requests; 499 means that the client disconnected.", ("route", "method", "status")),
    VOTES: ("Casts by outcome.", ("outcome",)),
    EVENTS: ("Events sent to event streams, without heartbeats.", ("event",)),
    OVERWRITTEN: ("Events replaced by newer ones before their readers took them.", ()),
    LOST_LINES: ("Lines of the log that could not be written.", ()),
    ERRORS: ("Failed round trips, including those retried with success.", ("kind",)),
}
HISTOGRAMS = {
    DURATIONS: (
        "Time to answer a request; event streams are left out.",
        ("route", "method"),
        SECONDS,
    ),
    BATCH_SIZES: ("Items that went to the database together.", ("kind",), SIZES),
    BATCH_WAITS: ("Time until the first item of a batch started.", ("kind",), SECONDS),
}
ROW_SIZES = {
    STREAMS: (0, 1),
    **{name: (len(labels), 1) for name, (_, labels) in COUNTERS.items()},
    **{name: (len(labels), len(bounds) + 2) for name, (_, labels, bounds) in HISTOGRAMS.items()},
}
"""The number of labels and of numbers of a row, by the name of the metric."""

log = structlog.get_logger(__name__)


class Metrics:
    """Counters of one application.

    ``shared`` is a directory in which the workers of one port leave their numbers, so that each of
    them can report for all.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self.in_flight = 0
        self.votes: Counter[str] = Counter()
        self.stream_events: Counter[str] = Counter()
        self.overwritten_events = 0
        self._streams = 0
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._shared = shared
        self._is_share_due = False
        self._unusable: set[Path] = set()

    def count(self, lines: Iterable[RequestLine]) -> None:
        """Counts answered requests."""
        requests, all_durations = self._requests, self._durations
        for _, _, method, route, status, ms, _, _, _, is_stream in lines:
            known = route or NO_ROUTE, method if method in METHODS else "other"
            requests[*known, status] += 1
            if is_stream:
                continue  # it lasts as long as somebody watches
            durations = all_durations.get(known)
            if durations is None:
                durations = all_durations[known] = Histogram(SECONDS)
            durations.observe(ms / 1000)
        self._share_soon()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Counts an event stream inside, in place of a request in flight."""
        self._count_stream(1)
        try:
            yield
        finally:
            self._count_stream(-1)

    def _count_stream(self, number: int) -> None:
        self._streams += number
        self.in_flight -= number
        self._share_soon()

    def _share_soon(self) -> None:
        if self._shared is not None and not self._is_share_due:
            self._is_share_due = True
            asyncio.get_running_loop().call_later(SHARE_SECONDS, self.share)

    def share(self) -> None:
        """Writes the numbers for the other workers. They remain after this worker has died."""
        self._is_share_due = False
        if self._shared is None:
            return
        draft = self._shared / f"{os.getpid()}.new"
        try:
            draft.unlink(missing_ok=True)  # opening what is no file may wait for ever
            draft.write_bytes(orjson.dumps([self.in_flight, self._rows()]))
            draft.replace(self._shared / f"{os.getpid()}.json")
        except OSError as error:
            log.warning("metrics not shared with other workers", reason=str(error))

    def render(self) -> bytes:
        """The text format of Prometheus, 0.0.4, for all workers."""
        in_flight, workers = self.in_flight, [self._rows()]
        for path in self._shared.glob("*.json") if self._shared is not None else ():
            if path.stem != str(os.getpid()) and (shared := self._read(path)) is not None:
                in_flight += shared.in_flight
                workers.append(shared.rows)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Page(in_flight, workers))
        return generate_latest(registry)

    def _read(self, path: Path) -> "_Shared | None":
        """What another worker has shared; None, and a line in the log, if that is unusable.

        The directory may hold files of other programs and other versions.
        """
        try:
            return _shared_by(int(path.stem), orjson.loads(_content(path)))
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            if path not in self._unusable:
                self._unusable.add(path)
                log.warning("metrics of another worker left out", file=path.name, reason=str(error))
            return None

    def _rows(self) -> dict[str, Rows]:
        batches = metrics.batch_meters
        return {
            REQUESTS: [(labels, (count,)) for labels, count in self._requests.items()],
            DURATIONS: [(labels, _numbers(one)) for labels, one in self._durations.items()],
            VOTES: [((outcome,), (count,)) for outcome, count in self.votes.items()],
            STREAMS: [((), (self._streams,))],
            EVENTS: [((event,), (count,)) for event, count in self.stream_events.items()],
            OVERWRITTEN: [((), (self.overwritten_events,))],
            LOST_LINES: [((), (lost_lines(),))],
            ERRORS: [((kind,), (count,)) for kind, count in metrics.database_errors.items()],
            BATCH_SIZES: [((kind,), _numbers(one.sizes)) for kind, one in batches.items()],
            BATCH_WAITS: [((kind,), _numbers(one.waits)) for kind, one in batches.items()],
        }


def _content(path: Path) -> bytes:
    """Of a file as workers write them; opening something else, such as a pipe, may wait for ever.

    Raises ``OSError``, and ``ValueError`` where it is none.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SHARED_BYTES:
            raise ValueError("it is not a file of a worker")
        return file.read(MAX_SHARED_BYTES)


class _Shared(NamedTuple):
    in_flight: int
    rows: dict[str, Rows]


def _shared_by(pid: int, figures: Any) -> _Shared:
    """The content of the file of a worker; a name that it does not have counts as empty.

    Raises what operations on other content raise.
    """
    in_flight, rows = figures
    checked = {
        name: [_checked(labels, numbers, *size) for labels, numbers in rows.get(name, ())]
        for name, size in ROW_SIZES.items()
    }
    if not (0 < pid < 2**31 and is_alive(pid)):
        return _Shared(0, {**checked, STREAMS: []})
    return _Shared(_number(in_flight), checked)


def _checked(
    labels: Sequence[Any], numbers: Sequence[Any], label_count: int, number_count: int
) -> tuple[Sequence[Any], Sequence[float]]:
    if (len(labels), len(numbers)) != (label_count, number_count):
        raise ValueError("it has rows of another size")
    return list(labels), list(map(_number, numbers))


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError("it has something else than numbers")
    return value


METRICS = web.AppKey("metrics", Metrics)


class _Page(Collector):
    """The sums over the workers of one port."""

    def __init__(self, in_flight: int, workers: Sequence[Mapping[str, Rows]]) -> None:
        self._in_flight = in_flight
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        versions = {"version": version("polls-service"), "python": platform.python_version()}
        yield InfoMetricFamily("polls_build", "Versions of the service and of Python.", versions)
        yield GaugeMetricFamily(
            "polls_http_requests_in_flight", "Requests not yet answered.", self._in_flight
        )
        [(_, (streams,))] = self._sums(STREAMS)
        yield GaugeMetricFamily(STREAMS, "Open event streams.", streams)
        for name, (text, labels) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            for values, (count,) in self._sums(name):
                counter.add_metric(values, count)
            yield counter
        for name, (text, labels, bounds) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(name, text, labels=labels)
            tops = [*map(str, map(float, bounds)), "+Inf"]
            for values, (*counts, total) in self._sums(name):
                buckets = list(zip(tops, accumulate(counts), strict=True))
                histogram.add_metric(values, buckets, total)
            yield histogram

    def _sums(self, name: str) -> list[tuple[tuple[str, ...], Sequence[float]]]:
        sums: dict[tuple[str, ...], Sequence[float]] = {}
        for rows in self._workers:
            for labels, numbers in rows[name]:
                values = tuple(map(str, labels))
                sums[values] = list(map(add, sums.get(values, [0] * len(numbers)), numbers))
        return sorted(sums.items())


def _numbers(histogram: Histogram) -> Sequence[float]:
    return [*histogram.counts, histogram.total]
