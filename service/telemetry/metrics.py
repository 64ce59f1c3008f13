"""What Prometheus is told: plain numbers, and the one collector that renders them.

No label holds a path, a token or an id: routes are those of the table, methods those it names, and
all else is counted as one.
"""

import asyncio
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.telemetry.log import NO_ROUTE, RequestLine
from storage import meters
from storage.meters import SECONDS, SIZES, Histogram

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
SHARE_SECONDS = 1.0
"""How old the numbers of another worker may be."""

Figures = dict[str, Any]
"""The numbers of one process, as JSON holds them: rows of labels with what was counted."""


class Metrics:
    """Counts what one application does.

    ``shared`` is a directory where the workers of one port leave their numbers: whichever of them
    is asked answers for all.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self.in_flight = 0
        self.votes: Counter[str] = Counter()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._shared = shared
        self._is_share_due = False

    def count(self, lines: Iterable[RequestLine]) -> None:
        """Counts requests that were answered."""
        requests, all_durations = self._requests, self._durations
        for _, _, method, route, status, ms, _, _, _ in lines:
            known = route or NO_ROUTE, method if method in METHODS else "other"
            requests[*known, status] += 1
            durations = all_durations.get(known)
            if durations is None:
                durations = all_durations[known] = Histogram(SECONDS)
            durations.observe(ms / 1000)
        if self._shared is not None and not self._is_share_due:
            self._is_share_due = True
            asyncio.get_running_loop().call_later(SHARE_SECONDS, self.share)

    def share(self) -> None:
        """Leaves the numbers to the other workers; those of a worker that died stay."""
        self._is_share_due = False
        if self._shared is not None:
            draft = self._shared / f"{os.getpid()}.new"
            draft.write_bytes(orjson.dumps(self._figures()))
            draft.replace(self._shared / f"{os.getpid()}.json")

    def render(self) -> bytes:
        """The text format of Prometheus, 0.0.4."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Page([self._figures(), *self._of_others()]))
        return generate_latest(registry)

    def _of_others(self) -> Iterator[Figures]:
        if self._shared is None:
            return
        for path in self._shared.glob("*.json"):
            if path.stem != str(os.getpid()):
                figures: Figures = orjson.loads(path.read_bytes())
                if not _is_alive(int(path.stem)):
                    figures["in_flight"] = 0
                yield figures

    def _figures(self) -> Figures:
        batches = meters.batch_meters
        return {
            "in_flight": self.in_flight,
            "requests": [[*labels, count] for labels, count in self._requests.items()],
            "durations": [[*labels, *_row(one)] for labels, one in self._durations.items()],
            "votes": list(self.votes.items()),
            "sizes": [[kind, *_row(one.sizes)] for kind, one in batches.items()],
            "waits": [[kind, *_row(one.waits)] for kind, one in batches.items()],
            "errors": list(meters.database_errors.items()),
        }


METRICS = web.AppKey("metrics", Metrics)


class _Page(Collector):
    def __init__(self, figures: list[Figures]) -> None:
        self._all = figures

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "polls_build_info", "What runs here.", labels=["version", "python"]
        )
        build.add_metric([version("polls-service"), platform.python_version()], 1)
        yield build
        yield GaugeMetricFamily(
            "polls_http_requests_in_flight",
            "Requests that are not answered yet.",
            value=sum(figures["in_flight"] for figures in self._all),
        )
        yield self._counter(
            "requests",
            "polls_http_requests",
            "Requests by route, method and status; 499 is a caller who hung up.",
            ["route", "method", "status"],
        )
        yield self._histogram(
            "durations",
            "polls_http_request_duration_seconds",
            "How long requests took.",
            ["route", "method"],
            SECONDS,
        )
        yield self._counter("votes", "polls_votes", "Casts by what came of them.", ["outcome"])
        yield self._histogram(
            "sizes",
            "polls_batch_size",
            "Items that went to the database together.",
            ["kind"],
            SIZES,
        )
        yield self._histogram(
            "waits",
            "polls_batch_wait_seconds",
            "How long the first item of a batch waited for it to start.",
            ["kind"],
            SECONDS,
        )
        yield self._counter(
            "errors",
            "polls_database_errors",
            "Failed round trips, those that were tried again with success included.",
            ["kind"],
        )

    def _counter(self, name: str, shown: str, text: str, labels: list[str]) -> Metric:
        family = CounterMetricFamily(shown, text, labels=labels)
        counts: Counter[tuple[str, ...]] = Counter()
        for figures in self._all:
            for *values, count in figures[name]:
                counts[tuple(map(str, values))] += count
        for values, count in sorted(counts.items()):
            family.add_metric(values, count)
        return family

    def _histogram(
        self, name: str, shown: str, text: str, labels: list[str], bounds: Iterable[float]
    ) -> Metric:
        family = HistogramMetricFamily(shown, text, labels=labels)
        sums: dict[tuple[str, ...], tuple[list[int], float]] = {}
        for figures in self._all:
            for *values, counts, total in figures[name]:
                before = sums.get(tuple(values), ([0] * len(counts), 0.0))
                added = [a + b for a, b in zip(before[0], counts, strict=True)]
                sums[tuple(values)] = added, before[1] + total
        tops = [*map(str, map(float, bounds)), "+Inf"]
        for values, (counts, total) in sorted(sums.items()):
            buckets = list(zip(tops, accumulate(counts), strict=True))
            family.add_metric(values, buckets, total)
        return family


def _row(histogram: Histogram) -> tuple[list[int], float]:
    return histogram.counts, histogram.total


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
