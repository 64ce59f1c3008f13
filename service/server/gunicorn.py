"""The worker class and the application for gunicorn.

    gunicorn --worker-class service.server.gunicorn.Worker service.server.gunicorn:app

gunicorn listens, and starts and watches the workers. A worker takes its settings from the
environment, except for the address, and needs ``MONGODB_URI``: its workers cannot share an embedded
server.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from aiohttp import web
from gunicorn.arbiter import Arbiter
from gunicorn.workers import base

from service.app import create_app
from service.server.runner import Runner, asked_to_stop, calm_collector, run
from service.settings import SETTINGS, InvalidSetting, read_settings
from service.telemetry.log import configure_logging
from service.telemetry.output import protect_outputs
from storage.errors import StartupRefused

NOTIFY_SECONDS = 1.0


def app() -> web.Application:
    """Raises ``InvalidSetting``, also where ``MONGODB_URI`` is missing."""
    settings = read_settings()
    if settings.mongodb_uri is None:
        raise InvalidSetting(
            "MONGODB_URI must be set under gunicorn, whose workers cannot share an embedded store; "
            "those of python -m service serve --workers can."
        )
    protect_outputs()
    configure_logging(settings.log_level)
    return create_app(settings)


class Worker(base.Worker):  # type: ignore[misc] # gunicorn has no types
    """Serves on what gunicorn listens on until gunicorn says stop, or is gone."""

    sockets: list[Any]

    def run(self) -> None:
        signal.set_wakeup_fd(-1)  # the event loop sets its own
        if self.cfg.is_ssl:
            self._refuse("TLS is not supported here; use a proxy.")
        try:
            application = self.wsgi()
            run(self._serve(application), application[SETTINGS].event_loop)
        except (InvalidSetting, StartupRefused) as error:
            self._refuse(error)

    def _refuse(self, reason: object) -> None:
        self.log.critical("polls: %s", reason)
        sys.exit(Arbiter.APP_LOAD_ERROR)

    async def _serve(self, application: web.Application) -> None:
        runner = Runner(application)
        # What gunicorn waits for longer it kills.
        runner.stop_seconds = 0.95 * self.cfg.graceful_timeout
        notifying = asyncio.create_task(self._notify())
        stop = asyncio.create_task(asked_to_stop())
        try:
            await runner.setup()
            calm_collector()
            runner.listen(self._take_sockets(), is_shared=True)
            await asyncio.wait([stop, notifying], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            await runner.cleanup()
            notifying.cancel()
            with suppress(asyncio.CancelledError):
                await notifying

    def _take_sockets(self) -> list[socket.socket]:
        """Those of gunicorn, as sockets that are closed when the runner closes them."""
        taken, self.sockets = self.sockets, []
        sockets = [socket.socket(fileno=os.dup(one.fileno())) for one in taken]
        for one in taken:
            one.close()
        return sockets

    async def _notify(self) -> None:
        """Tells gunicorn that this worker lives.

        Returns where gunicorn is gone, and where it said stop before the event loop could hear it.
        """
        while os.getppid() == self.ppid and self.alive:
            self.notify()
            await asyncio.sleep(NOTIFY_SECONDS)
