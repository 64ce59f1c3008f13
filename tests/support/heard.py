"""What the service asks of the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import monitoring


class Heard(monitoring.CommandListener):
    """The commands that are sent to the database."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in ("hello", "ping"):
            self.commands.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@contextmanager
def hearing() -> Iterator[Heard]:
    """What all clients send that are made inside."""
    heard = Heard()
    monitoring.register(heard)
    yield heard
    monitoring._LISTENERS.command_listeners.remove(heard)
