"""Turns: the processes of one machine cast their votes one after another.

Two transactions that write one session conflict: the later one fails at once, and runs again after
a pause. A process that waits for its turn casts all votes that have come meanwhile, in one batch.
"""

import asyncio
import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from structlog import get_logger

WAIT_SECONDS = 1.0
"""How long a turn is waited for. A process that is stopped while it has the turn delays each batch
of the others by no more; then they conflict with it, as they would without turns."""

log = get_logger(__name__)


class Turn:
    """That of a process that casts alone: it never waits."""

    async def take(self) -> None:
        """Returns when nobody else has the turn, or after ``WAIT_SECONDS``."""

    def end(self) -> None:
        """For any thread, and as often as one likes."""

    def close(self) -> None:
        """To be called when all batches have ended."""


ALONE = Turn()


class SharedTurn(Turn):
    """That of one process among those that lock the same ``file``; belongs to its event loop.

    Only an optimisation: correctness comes from the transactions. The kernel ends the turn of a
    process that was killed.
    """

    def __init__(self, file: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._is_wanted = False
        self._wanted: SimpleQueue[asyncio.Future[None] | None] = SimpleQueue()
        # A call that waits for a lock has no time limit, so nothing may wait for this thread.
        threading.Thread(target=self._wait_for_turns, name="turns", daemon=True).start()

    async def take(self) -> None:
        self._is_wanted = True
        if not self._lock_now():
            granted = self._loop.create_future()
            self._wanted.put(granted)
            await asyncio.wait([granted], timeout=WAIT_SECONDS)

    def end(self) -> None:
        self._is_wanted = False
        self._unlock()

    def close(self) -> None:
        self.end()
        self._wanted.put(None)

    def _lock_now(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks
        return True

    def _unlock(self) -> None:
        with suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _wait_for_turns(self) -> None:
        while (granted := self._wanted.get()) is not None:
            with suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            with suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._grant, granted)
        # After the last ``_grant``: the number of what is closed may be that of another file then.
        try:
            self._loop.call_soon_threadsafe(os.close, self._lock)
        except RuntimeError:
            os.close(self._lock)

    def _grant(self, granted: asyncio.Future[None]) -> None:
        if not granted.done():
            granted.set_result(None)
        if not self._is_wanted:
            self._unlock()  # it came too late


def open_turn(directory: Path | None) -> Turn:
    """That of a process among those that share ``directory``, if any.

    Where the lock file cannot be opened there, the log says so, and the process casts as if alone.
    """
    if directory is None:
        return ALONE
    try:
        return SharedTurn(directory / "turn.lock")
    except OSError as error:
        log.warning("workers do not cast in turns", reason=str(error))
        return ALONE
