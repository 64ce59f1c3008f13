"""A replica set of three real ``mongod``s, and what can happen to its nodes.

Nodes know each other by proxies (``tests/support/node_proxies.py``), and so do clients.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import pymongo
from pymongo import WriteConcern
from pymongo.errors import AutoReconnect, PyMongoError

from tests.support.engine import mongod_binary
from tests.support.processes import ROOT, eventually

SIZE = 3
ELECTION_SECONDS = 2.0
HEARTBEAT_MILLISECONDS = 500
"""At the default, which is the time of an election here, a new primary soon misses a heartbeat."""
PR_SET_PDEATHSIG = 1


class Node:
    """One ``mongod`` on a directory and a port of its own; ``address`` is its proxy's."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""
        self.admin: pymongo.AsyncMongoClient[dict[str, Any]] = pymongo.AsyncMongoClient(
            f"mongodb://127.0.0.1:{port}/?directConnection=true",
            serverSelectionTimeoutMS=500,
            connectTimeoutMS=500,
            timeoutMS=1500,
            heartbeatFrequencyMS=500,
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def begin(self) -> None:
        """Starts it, and does not wait for it."""
        self._directory.mkdir(exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            mongod_binary(),
            *("--port", str(self._port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
            *("--dbpath", str(self._directory), "--logpath", f"{self._directory}/log"),
            *("--logappend", "--replSet", "polls", "--oplogSize", "64"),
            *("--wiredTigerCacheSizeGB", "0.25", "--networkMessageCompressors", "disabled"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--setParameter", "oplogNetworkTimeoutBufferSeconds=1"),
            *("--setParameter", "oplogFetcherSteadyStateMaxFetcherRestarts=0"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )

    async def answers(self) -> None:
        """Returns when it does, which may be before it is a primary or a secondary."""
        await eventually(self.hello, f"the start of {self._directory}")

    async def hello(self) -> dict[str, Any] | None:
        with contextlib.suppress(PyMongoError):
            return await self.admin.admin.command("hello")
        return None

    async def is_primary(self) -> bool:
        """Whether it says that it takes writes."""
        hello = await self.hello()
        return hello is not None and hello["isWritablePrimary"] is True

    async def kill(self) -> None:
        """``kill -9``."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def pause(self) -> None:
        """SIGSTOP: its connections stay, and nothing comes over them."""
        os.kill(self.pid, signal.SIGSTOP)

    async def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def step_down(self, seconds: int = 3) -> None:
        """As an operator does before an upgrade; for so long it is not elected again."""
        with contextlib.suppress(AutoReconnect), pymongo.timeout(10):
            await self.admin.admin.command(
                "replSetStepDown", seconds, secondaryCatchUpPeriodSecs=seconds - 1, force=True
            )

    async def close(self) -> None:
        if self._process is not None:
            await self.kill()
        await self.admin.close()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ReplicaSet:
    """Some nodes; ``uri`` names a database ``polls`` on them."""

    def __init__(self, directory: Path, size: int) -> None:
        self.nodes = [Node(directory / f"node-{place}", _free_port()) for place in range(size)]
        self._proxies: asyncio.subprocess.Process | None = None
        self._cut: set[int] = set()
        self._telling = asyncio.Lock()

    @property
    def uri(self) -> str:
        addresses = ",".join(node.address for node in self.nodes)
        return f"mongodb://{addresses}/polls?replicaSet=polls"

    async def start(self) -> None:
        """Returns when there is a primary, and the others have followed it."""
        await asyncio.gather(*(node.begin() for node in self.nodes))
        await self._start_proxies()
        await asyncio.gather(*(node.answers() for node in self.nodes))
        members = [{"_id": n, "host": node.address} for n, node in enumerate(self.nodes)]
        timing = {
            "electionTimeoutMillis": int(ELECTION_SECONDS * 1000),
            "heartbeatIntervalMillis": HEARTBEAT_MILLISECONDS,
        }
        config = {"_id": "polls", "members": members, "settings": timing}
        await self.nodes[0].admin.admin.command("replSetInitiate", config, timeoutMS=20_000)
        await self.caught_up()

    async def _start_proxies(self) -> None:
        self._proxies = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.node_proxies"),
            *(str(node._port) for node in self.nodes),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._proxies.stdout is not None
        ports = json.loads(await self._proxies.stdout.readline())
        for node, port in zip(self.nodes, ports, strict=True):
            node.address = f"127.0.0.1:{port}"
        await self._tell_proxies()

    async def primary(self, besides: Node | None = None) -> Node:
        """The node that takes writes, as soon as there is one; ``besides`` does not count."""

        async def find() -> Node | None:
            found: list[tuple[Any, Node]] = []
            for node in self.nodes:
                hello = None if node is besides else await node.hello()
                if hello is not None and hello["isWritablePrimary"]:
                    found.append((hello["electionId"], node))
            # One that was stopped, or cut off, may not know yet that it was replaced.
            return max(found, key=itemgetter(0))[1] if found else None

        return await eventually(find, "a primary")

    async def able_primary(self, besides: Node | None = None) -> Node:
        """As ``primary``, as soon as a majority follows it: before that it can store nothing."""

        async def find() -> Node | None:
            primary = await self.primary(besides)
            return primary if await self._writes(primary, WriteConcern("majority")) else None

        return await eventually(find, "a primary that a majority follows")

    async def seconds_a_write(self) -> float:
        """How long a majority write takes, by itself.

        Where the node that is left has nobody yet to copy from, it confirms writes only with its
        heartbeats: each then takes one of these, until it has found the new primary.
        """
        primary = await self.primary()
        begun = time.monotonic()
        await self._writes(primary, WriteConcern("majority"))
        return time.monotonic() - begun

    async def caught_up(self) -> None:
        """Returns when all nodes follow one primary.

        What a node wrote that the others have not seen is rolled back by then. For that it needs
        them, and something that all of them have.
        """

        async def write_everywhere() -> bool:
            return await self._writes(await self.primary(), WriteConcern(len(self.nodes)))

        await eventually(write_everywhere, "a write on all nodes")

    async def _writes(self, primary: Node, concern: WriteConcern) -> bool:
        probes = primary.admin.get_database("probes", write_concern=concern)
        with contextlib.suppress(PyMongoError):
            await probes.get_collection("probes").insert_one({})
            return True
        return False

    async def start_again(self, node: Node) -> None:
        """Returns when it answers."""
        await self.begin_again(node)
        await node.answers()

    async def begin_again(self, node: Node) -> None:
        """Starts a node, and does not wait for it."""
        await node.begin()
        await self._tell_proxies()  # before it reaches for the others

    async def cut_off(self, node: Node) -> None:
        """Nothing passes between this node and the others; clients reach them all."""
        self._cut.add(self.nodes.index(node))
        await self._tell_proxies()

    async def mend(self, node: Node) -> None:
        """Takes back ``cut_off``."""
        self._cut.remove(self.nodes.index(node))
        await self._tell_proxies()

    async def _tell_proxies(self) -> None:
        assert self._proxies is not None
        assert self._proxies.stdin is not None
        assert self._proxies.stdout is not None
        state = {"pids": [node.pid for node in self.nodes], "cut": sorted(self._cut)}
        async with self._telling:
            self._proxies.stdin.write(json.dumps(state).encode() + b"\n")
            assert await self._proxies.stdout.readline() == b'"changed"\n'

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self.nodes))
        if self._proxies is not None:
            assert self._proxies.stdin is not None
            self._proxies.stdin.close()
            await self._proxies.wait()


@asynccontextmanager
async def replica_set_in(directory: Path, size: int = SIZE) -> AsyncIterator[ReplicaSet]:
    replicas = ReplicaSet(directory, size)
    try:
        await replicas.start()
        yield replicas
    finally:
        await replicas.close()
