"""Our service without request log and metrics: what a request costs less is what they cost.

``MONGODB_URI`` and ``POLLS_SECRET`` say on which store.
"""

import os
from pathlib import Path

from bench.contenders.serving import serve
from service.app import create_app
from service.logs import RequestLine, RequestLog
from service.settings import read_settings


class _NoLog(RequestLog):
    def write(self, line: RequestLine) -> None:
        """Forgets the line; the metrics are made of lines too."""


if __name__ == "__main__":
    with Path(os.devnull).open("wb") as nowhere:
        serve(create_app(read_settings(), request_log=_NoLog(nowhere)))
