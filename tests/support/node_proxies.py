"""Proxies between the nodes of a replica set, by which a node is cut off from the others.

    python -m tests.support.node_proxies PORT...

listens on one more port for each of these, prints them as a JSON list, and passes on whatever comes
there. A line of JSON on standard input, answered with one, is the state of the network from then
on: ``pids``, the processes behind the ports, and ``cut``, the places of the nodes that are cut off.
The end of standard input ends it.

A set has one configuration, so nodes and clients come to the same port. Who opened a connection is
told by the process that holds its other end. Clients always pass; between a node that is cut off
and the others nothing does, as in a network that loses every packet: no connection is refused or
closed, and what was sent arrives when the cut is mended.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

PIECE = 1 << 16
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1


class Network:
    """Which process is which node, and which nodes are cut off."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self._cut: set[int] = set()
        self._changed = asyncio.Event()

    def change(self, pids: list[int], cut: list[int]) -> None:
        self.pids, self._cut = pids, set(cut)
        self._changed.set()
        self._changed = asyncio.Event()

    async def let_pass(self, source: int | None, target: int) -> None:
        """Returns when packets pass between two nodes; a client is no node."""
        while source not in (None, target) and {source, target} & self._cut:
            await self._changed.wait()

    def node_of(self, port: int, ours: int) -> int | None:
        """The place of the node that connected from ``port`` to ``ours``; None for a client."""
        inode = _socket_inode(port, ours)
        for place, pid in enumerate(self.pids):
            if inode is not None and _holds_socket(pid, inode):
                return place
        return None


def _socket_inode(port: int, remote_port: int) -> int | None:
    """The inode of a local TCP socket, asked of the kernel as ``ss`` does (sock_diag(7)).

    /proc/net/tcp would tell it too, but has thousands of lines on a busy machine.
    """
    here = socket.inet_aton("127.0.0.1")
    any_state, no_cookie = 0xFFFFFFFF, (0xFFFFFFFF, 0xFFFFFFFF)
    wanted = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, any_state)
    wanted += struct.pack("!HH16s16s", port, remote_port, here, here)
    wanted += struct.pack("=III", 0, *no_cookie)
    head = struct.pack("=IHHII", 16 + len(wanted), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.send(head + wanted)
        answer = netlink.recv(4096)
    (kind,) = struct.unpack_from("=H", answer, 4)
    if kind != SOCK_DIAG_BY_FAMILY:
        return None  # closed in the meantime
    inode: int = struct.unpack_from("=I", answer, 16 + 68)[0]
    return inode


def _holds_socket(pid: int, inode: int) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) == f"socket:[{inode}]":
                    return True
    return False


class Proxy:
    """Passes connections on to one node."""

    def __init__(self, network: Network, place: int, node_port: int) -> None:
        self._network = network
        self._place = place
        self._node_port = node_port

    async def listen(self) -> int:
        """Starts to accept; returns the port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1000)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours: int = writer.get_extra_info("sockname")[1]
        source = self._network.node_of(writer.get_extra_info("peername")[1], ours)
        try:
            await self._network.let_pass(source, self._place)
            there, back = await asyncio.open_connection("127.0.0.1", self._node_port)
        except OSError:  # the node is down: as if nobody listened
            writer.transport.abort()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(reader, back, source))
            group.create_task(self._pump(there, writer, source))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: int | None
    ) -> None:
        """Passes on one direction, its end included."""
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._network.let_pass(source, self._place)
                writer.write(piece)
                await writer.drain()
        await self._network.let_pass(source, self._place)
        writer.close()


async def main(node_ports: list[int]) -> None:
    network = Network()
    proxies = [Proxy(network, place, port) for place, port in enumerate(node_ports)]
    _say([await proxy.listen() for proxy in proxies])
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        state: dict[str, Any] = json.loads(line)
        network.change(**state)
        _say("changed")
    os._exit(0)  # the connections that are open are nobody's any more


def _say(word: Any) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
