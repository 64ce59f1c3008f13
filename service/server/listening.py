"""Letting connections in: sockets that listen, a limit, and an end that turns nobody away."""

import asyncio
import contextlib
import ctypes
import errno
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable, Sequence

import structlog

BACKLOG = 1024
SPARE_FILES = 256
"""What a process opens beside its connections: the log, the driver's sockets, the libraries."""
FULL_TABLE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
RETRY_SECONDS = 1.0

SO_ATTACH_FILTER = 26
NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (6, 0, 0, 0), (6, 0, 0, 2**31))
"""A packet filter: load the TCP flags, keep SYN and ACK, drop a SYN without ACK, pass the rest."""

log = structlog.get_logger(__name__)


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listens on every address of ``host``, on one port; with port 0 the first one takes a free.

    Raises ``OSError`` whose text names address and port.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            listening = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                listening.bind((address[0], chosen, *address[2:]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    continue  # a name may have an IPv6 address where there is no IPv6
                reason = os.strerror(error.errno or 0).lower()
                raise OSError(
                    f"{address[0]} port {chosen} cannot be listened on: {reason}"
                ) from error
            listening.listen(BACKLOG)
            listening.setblocking(False)
            sockets.append(listening)
        if not sockets:
            raise OSError(f"{host} has no address that can be listened on")
        undo.pop_all()
    return sockets


def turn_away(sockets: Sequence[socket.socket]) -> None:
    """From now on the kernel completes no new connection; those it has can still be accepted.

    Otherwise the one that comes between the last accept and the close would be reset. It works on
    Linux; elsewhere that moment remains. Who knocks now is answered nothing, tries again within a
    second, and is refused.
    """
    program = b"".join(struct.pack("HBBI", *step) for step in NO_SYN)
    steps = ctypes.create_string_buffer(program)
    where = struct.pack("HL", len(NO_SYN), ctypes.addressof(steps))
    if sys.platform == "linux":
        for listening in sockets:
            with contextlib.suppress(OSError):
                listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, where)


def most_connections(wanted: int) -> int:
    """``wanted``, or as many as this process may open files for; raises its soft limit to the hard.

    Beyond that, accepting would fail, and with it whatever else opens a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft == resource.RLIM_INFINITY or wanted + SPARE_FILES <= soft:
        return wanted
    most = max(soft - SPARE_FILES, soft // 2)
    log.warning("fewer connections than set", limit=most, open_files=soft)
    return most


class Door:
    """Accepts connections from sockets, ``limit`` of them inside at once.

    Beyond the limit nobody is refused: the kernel keeps those who knock in its queue, and another
    worker on the same socket may take them. ``at_once`` are taken in one turn of the loop; where
    workers share a socket that is one, so that the idlest of them takes it.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        limit: int,
        at_once: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._make_protocol = make_protocol
        self._limit = limit
        self._at_once = at_once
        self._inside = 0
        self._tasks: set[asyncio.Task[object]] = set()
        self.is_full = False
        """Somebody knocked when there was no room; until there is some again."""
        self._watch()

    @property
    def port(self) -> int:
        return int(self._sockets[0].getsockname()[1])

    def note_end(self) -> None:
        """One of those inside has left."""
        self._inside -= 1
        if self.is_full and self._inside < self._limit:
            self.is_full = False
            self._watch()

    async def close(self, *, turning_away: bool) -> None:
        """Accepts whom the kernel has accepted, beyond the limit too, then listens no more.

        ``turning_away`` is for who owns the sockets: it holds for all processes that share them.
        """
        if turning_away:
            turn_away(self._sockets)
        self._unwatch()
        for listening in self._sockets:
            while self._accept(listening):
                pass
            listening.close()
        self._sockets = ()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _watch(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening, self._knocked, listening)

    def _unwatch(self) -> None:
        for listening in self._sockets:
            self._loop.remove_reader(listening)

    def _knocked(self, listening: socket.socket) -> None:
        for _ in range(self._at_once):
            if self._inside >= self._limit:
                self.is_full = True
                self._unwatch()
                return
            if not self._accept(listening):
                return

    def _accept(self, listening: socket.socket) -> bool:
        """False where nobody waits any more."""
        try:
            accepted, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in FULL_TABLE:
                raise
            log.warning("no connection can be accepted", reason=os.strerror(error.errno or 0))
            self._unwatch()
            self._loop.call_later(RETRY_SECONDS, self._watch)
            return False
        accepted.setblocking(False)
        self._inside += 1
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(self._make_protocol, accepted)
        )
        self._tasks.add(task)
        task.add_done_callback(self._settled)
        return True

    def _settled(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.note_end()  # it has no protocol that would tell
