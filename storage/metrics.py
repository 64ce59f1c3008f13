"""What this process has done in its store, as plain numbers for the metrics of the service.

They are only counted here, and rendered elsewhere, so that counting costs next to nothing.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Histogram:
    """How many values fell below or on each of ``bounds``, and the sum of all values.

    ``counts`` has one more member than ``bounds``: the number of values above them all.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class BatchMeter:
    """The batches of one kind: their sizes, and how long the first item of each waited."""

    def __init__(self) -> None:
        self.sizes = Histogram(SIZES)
        self.waits = Histogram(SECONDS)


batch_meters: defaultdict[str, BatchMeter] = defaultdict(BatchMeter)
"""By the kind of the batches of this process."""

database_errors: Counter[str] = Counter()
"""Failed round trips: ``network``, ``timeout``, ``transient`` (a conflict, an election), ``other``;
a transaction that ran again counts each run that failed."""
