"""What the service asks of the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import monitoring

OF_TASKS = ("purges", "deleted_polls", "meta")
"""The collections that background tasks look into, at any time."""


class Heard(monitoring.CommandListener):
    """The commands that requests send to the database."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        is_of_task = event.command.get(event.command_name) in OF_TASKS
        if event.command_name not in ("hello", "ping") and not is_of_task:
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
