"""A MongoDB for the image: a replica set of one node on this machine."""

import random
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymongo

from tests.processes import until

MONGOD = Path(sysconfig.get_path("purelib")) / "fiftyone/db/bin/mongod"


@contextmanager
def a_mongod(directory: Path) -> Iterator[str]:
    """The URI of a database ``polls`` on a ``mongod`` of its own."""
    port = a_free_port()
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            *(MONGOD, "--replSet", "rs0", "--bind_ip", "127.0.0.1", "--port", str(port)),
            *("--dbpath", directory, "--logpath", directory / "mongod.log"),
            *("--networkMessageCompressors", "disabled"),
            *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        _begin_replica_set(address)
        yield f"mongodb://{address}/polls?replicaSet=rs0"
    finally:
        process.terminate()
        process.wait(30)


def a_free_port() -> int:
    """One below those that the kernel gives out, so that nobody else gets it meanwhile."""
    while True:
        with closing(socket.socket()) as probe, suppress(OSError):
            port = random.randrange(20_000, 32_000)
            probe.bind(("127.0.0.1", port))
            return port


def _begin_replica_set(address: str) -> None:
    members = [{"_id": 0, "host": address}]
    with pymongo.MongoClient[dict[str, Any]](address, directConnection=True) as client:
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        until(lambda: client.admin.command("hello")["isWritablePrimary"], "a primary")
