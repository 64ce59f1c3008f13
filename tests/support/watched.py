"""Services whose results many watch, in processes of their own that connect again by themselves."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from bench.crowd import Crowd, Report, crowd
from tests.conftest import ADMIN
from tests.support.fleet import Poll, Service, eventually


class Audience:
    """``size`` watchers of one poll, in one or more processes."""

    def __init__(self, crowds: Sequence[Crowd], size: int) -> None:
        self._crowds = crowds
        self.size = size

    def reports(self) -> list[Report]:
        return [one.report() for one in self._crowds]

    @property
    def restarts(self) -> int:
        return sum(report.ends.get("restart", 0) for report in self.reports())

    @property
    def broken(self) -> int:
        """Connections that ended, or could not be made, without a word of the service."""
        return sum(report.broken for report in self.reports())

    async def agree(self, shown: Any, seconds: float = 30.0) -> None:
        """Returns when the newest event of each watcher is what a ``GET`` has shown."""

        def each_has_seen_it() -> bool:
            reports = self.reports()
            newest = [data for report in reports for data in report.newest]
            return (
                sum(report.connected for report in reports) == self.size
                and all(newest)
                and all(json.loads(data) == shown for data in newest)
            )

        try:
            await eventually(each_has_seen_it, seconds=seconds, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{shown} is not what {self.reports()} have seen") from error


def path_of(poll: Poll) -> str:
    """Path and query of the results of a poll."""
    return f"/rest/results?{urlencode({**poll.query, 'type': 'results'})}"


async def results(service: Service, poll: Poll) -> Any:
    """What a ``GET`` shows now."""
    answer = await service.call("GET", "/rest/results", params={**poll.query, "type": "results"})
    assert answer.status == 200, answer
    return answer.json()


@asynccontextmanager
async def watched(
    services: Sequence[Service], poll: Poll, size: int, processes: int = 1
) -> AsyncIterator[Audience]:
    """Inside, all watch; each connects to any of the services."""
    path = path_of(poll)
    urls = [service.url for service in services]
    with ExitStack() as stack:
        crowds = [
            await asyncio.to_thread(
                stack.enter_context, crowd(size // processes, path, urls, secret=ADMIN)
            )
            for _ in range(processes)
        ]
        yield Audience(crowds, size)
