"""A MongoDB for the image: a replica set of one node on this machine."""

import random
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from storage.embedded.engines import Mongod
from storage.embedded.server import start
from storage.location import EngineChoice


@contextmanager
def a_mongod(directory: Path) -> Iterator[str]:
    """The URI of a database ``polls`` on a ``mongod`` of its own."""
    server = start(directory, EngineChoice(Mongod.name))
    try:
        yield server.uri.replace("/?", "/polls?")
    finally:
        server.stop()


def a_free_port() -> int:
    """One below those that the kernel gives out, so that nobody else gets it meanwhile."""
    while True:
        with closing(socket.socket()) as probe, suppress(OSError):
            port = random.randrange(20_000, 32_000)
            probe.bind(("127.0.0.1", port))
            return port
