"""Our service without request log and metrics: what a request costs less is what they cost.

All else is as it serves. ``MONGODB_URI`` and ``POLLS_SECRET`` say on which store.
"""

import asyncio
import os
from pathlib import Path

from service.app import create_app
from service.server.runner import serve
from service.settings import read_settings
from service.telemetry.log import RequestLine, RequestLog


class _NoLog(RequestLog):
    def write(self, line: RequestLine) -> None:
        """Forgets the line; the metrics are made of lines too."""


async def _announce(url: str) -> None:
    print(f"Serving on {url}", flush=True)


if __name__ == "__main__":
    with Path(os.devnull).open("wb") as nowhere:
        app = create_app(read_settings(), request_log=_NoLog(nowhere))
        asyncio.run(serve(app, _announce))
