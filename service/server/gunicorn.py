"""The worker class and the application for gunicorn.

    gunicorn --worker-class service.server.gunicorn.Worker service.server.gunicorn:app

gunicorn listens, and starts and watches the workers. A worker takes its settings from the
environment, except for the address, and needs ``MONGODB_URI``: its workers cannot share an embedded
server.
"""

import os
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, cast

from aiohttp.worker import GunicornWebWorker
from gunicorn.arbiter import Arbiter

from service.app import create_app
from service.server.runner import Runner, calm_collector
from service.server.worker import share_standard_error
from service.settings import InvalidSetting, read_settings
from service.telemetry.log import configure_logging
from storage.errors import StartupRefused


class _Runner(Runner):
    """Listens as soon as it is set up, on what gunicorn listens on."""

    sockets: Sequence[socket.socket] = ()

    async def setup(self) -> None:
        await super().setup()
        calm_collector()
        if self.sockets:
            self.listen(self.sockets, is_shared=True)


async def app() -> Runner:
    """Raises ``InvalidSetting``, also where ``MONGODB_URI`` is missing."""
    settings = read_settings()
    if settings.mongodb_uri is None:
        raise InvalidSetting(
            "MONGODB_URI must be set under gunicorn, whose workers cannot share an embedded store; "
            "those of python -m service serve --workers can."
        )
    share_standard_error()
    configure_logging(settings.log_level)
    return _Runner(create_app(settings))


class Worker(GunicornWebWorker):
    """aiohttp's worker, where it would make a handler and listen itself."""

    sockets: list[Any]
    wsgi: Any

    async def _run(self) -> None:
        taken, self.sockets = self.sockets, []
        if self.cfg.is_ssl:
            self.log.critical("polls: TLS is not served here: let a proxy end it.")
            sys.exit(Arbiter.APP_LOAD_ERROR)
        try:
            runner = cast(_Runner, await self.wsgi())
            runner.sockets = [socket.socket(fileno=os.dup(one.fileno())) for one in taken]
            # What gunicorn waits for longer it kills.
            runner.stop_seconds = 0.95 * self.cfg.graceful_timeout

            async def made() -> Runner:
                return runner

            self.wsgi = made
            await super()._run()
        except (InvalidSetting, StartupRefused) as error:
            self.log.critical("polls: %s", error)
            sys.exit(Arbiter.APP_LOAD_ERROR)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins the stop at once, not when the second is over."""
        super().handle_exit(sig, frame)
        self._notify_waiter_done()
