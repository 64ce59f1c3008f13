"""Listening: sockets, a limit of connections, and an end that drops none that was accepted."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Sequence

import structlog

BACKLOG = 1024
SPARE_FILES = 256
"""What a process opens beside its connections: the log, the driver's sockets, the libraries."""
FULL_TABLE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
RETRY_SECONDS = 1.0
AT_ONCE = 256
"""Connections that are accepted in one turn of the loop, which lasts a tenth of a second under
load."""
SHARE = 16
"""A worker beside others accepts one, and one more for so many that it has: an idle one leaves some
to the others, a busy one has long turns."""

log = structlog.get_logger(__name__)


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listens on every address of ``host``, on one port; with port 0 on a free one.

    Raises ``OSError`` whose text names address and port.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(
            f"Cannot listen on {host}: {error.strerror}. Set POLLS_HOST to an address or name of "
            "this machine."
        ) from error
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                listening = socket.create_server(
                    (address[0], chosen, *address[2:]), family=family, backlog=BACKLOG
                )
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    continue  # a name may have an IPv6 address where there is no IPv6
                raise OSError(
                    f"Cannot listen on {address[0]}, port {chosen}: {_reason(error)}."
                ) from error
            undo.enter_context(listening).setblocking(False)
            sockets.append(listening)
        if not sockets:
            raise OSError(f"{host} has no address to listen on")
        undo.pop_all()
    return sockets


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use. Set POLLS_PORT to another port"
    return os.strerror(error.errno or 0).lower()


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


def close_queue(listening: socket.socket) -> None:
    """Lets the kernel complete next to no connection from now on, for whoever shares the socket.

    Each that it completes between the last accept and the close would be reset.
    """
    listening.listen(0)


class Listener:
    """Accepts connections from sockets, at most ``limit`` at a time.

    Beyond the limit connections wait in the queue of the kernel, where another worker on the same
    socket may accept them. ``is_shared``: other processes accept from the sockets, and go on.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        limit: int,
        is_shared: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._make_protocol = make_protocol
        self._limit = limit
        self._is_shared = is_shared
        self._open = 0
        self._connecting: set[asyncio.Task[object]] = set()
        self.is_full = False
        """Connections wait for others to end."""
        self._watch()

    @property
    def port(self) -> int:
        return int(self._sockets[0].getsockname()[1])

    def note_end(self) -> None:
        """One of the accepted connections has ended."""
        self._open -= 1
        if self.is_full and self._open < self._limit:
            self.is_full = False
            self._watch()

    async def close(self) -> None:
        """Accepts what the kernel has accepted, beyond the limit too, then listens no more."""
        self._unwatch()
        for listening in self._sockets:
            if not self._is_shared:
                close_queue(listening)
            while self._accept(listening):
                pass
            listening.close()
        self._sockets = ()
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _watch(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening, self._readable, listening)

    def _unwatch(self) -> None:
        for listening in self._sockets:
            self._loop.remove_reader(listening)

    def _readable(self, listening: socket.socket) -> None:
        for _ in range(1 + self._open // SHARE if self._is_shared else AT_ONCE):
            if self._open >= self._limit:
                self.is_full = True
                self._unwatch()
                return
            if not self._accept(listening):
                return

    def _accept(self, listening: socket.socket) -> bool:
        """False where no connection waits any more."""
        try:
            accepted, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in FULL_TABLE:
                raise
            log.warning("cannot accept connections", reason=os.strerror(error.errno or 0))
            self._unwatch()
            self._loop.call_later(RETRY_SECONDS, self._watch)
            return False
        accepted.setblocking(False)
        self._open += 1
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(self._make_protocol, accepted)
        )
        self._connecting.add(task)
        task.add_done_callback(self._connected)
        return True

    def _connected(self, task: "asyncio.Task[object]") -> None:
        self._connecting.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.note_end()  # it has no protocol that would tell
