"""Random bytes for each request."""

import os
from collections.abc import Iterator

AT_ONCE = 512


def draws(size: int) -> Iterator[bytes]:
    """So many unpredictable bytes at a time, without end.

    They are taken from the system for many requests at once: a system call for each is slow, and
    lets other threads run before it returns. To be begun in the process that uses them.
    """
    while True:
        drawn = os.urandom(size * AT_ONCE)
        for start in range(0, len(drawn), size):
            yield drawn[start : start + size]
