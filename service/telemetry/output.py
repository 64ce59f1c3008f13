"""Standard output and standard error of a service, which never hold it up and never fail.

A disk may be full, and the reader of a pipe may have stopped or be gone. That costs what was to be
written, and nothing else.
"""

import atexit
import io
import os
import select
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_WAITING_BYTES = 4 << 20
"""How much waits for a slow reader; what comes on top is lost."""
LAST_SECONDS = 1.0
"""How long the end of the process waits until everything is written."""


class Output(io.FileIO):
    """Writes to a descriptor, from a thread of its own: in order, and what cannot be written not.

    Other processes may write there as well. A pipe that is full takes a long write in parts, with
    those of others between them; writes of up to ``PIPE_BUF`` bytes it takes whole. So lines are
    written in pieces that are no longer than that.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._begin()
        # A fork takes no thread along, and a lock as it is.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self.lost_lines = 0
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_amid_a_line = False
        threading.Thread(target=self._write_waiting, name="output", daemon=True).start()

    def write(self, data: "ReadableBuffer") -> int:
        """Never waits."""
        text = bytes(data)
        with self._changed:
            if self._waiting_bytes + len(text) > MAX_WAITING_BYTES:
                self.lost_lines += text.count(b"\n")
            else:
                self._waiting.append(text)
                self._waiting_bytes += len(text)
                self._changed.notify_all()
        return len(text)

    def drain(self, within: float = LAST_SECONDS) -> bool:
        """Whether everything was written, or given up, within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting_bytes, within)

    def shows(self, line: str) -> bool:
        """Writes a line; whether it has arrived where somebody may read it."""
        before = self.lost_lines
        self.write(f"{line}\n".encode())
        is_written = self.drain() and self.lost_lines == before
        return is_written and not _is_null(self.fileno())

    def _write_waiting(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                text = self._waiting.popleft()
            lost = sum(map(self._write_piece, _pieces(text)))
            with self._changed:
                self._waiting_bytes -= len(text)
                self.lost_lines += lost
                self._changed.notify_all()

    def _write_piece(self, piece: bytes) -> int:
        """How many lines of it were lost."""
        lines = piece.count(b"\n")
        rest = piece = b"\n" * self._is_amid_a_line + piece
        while rest:
            try:
                rest = rest[os.write(self.fileno(), rest) :]
            except BlockingIOError:  # another process has made the descriptor so
                poll = select.poll()
                poll.register(self.fileno(), select.POLLOUT)
                poll.poll()
            except OSError:
                self._is_amid_a_line |= len(rest) < len(piece)
                return min(rest.count(b"\n"), lines)
        self._is_amid_a_line = False
        return 0


def _pieces(text: bytes) -> list[bytes]:
    """Whole lines, as many as fit into ``PIPE_BUF`` bytes; a longer line in parts."""
    pieces = []
    begin = 0
    while begin < len(text):
        end = begin + select.PIPE_BUF
        if end < len(text):
            end = text.rfind(b"\n", begin, end) + 1 or end
        pieces.append(text[begin:end])
        begin += len(pieces[-1])
    return pieces


_outputs: list[Output] = []


def _is_null(descriptor: int) -> bool:
    return os.fstat(descriptor).st_rdev == Path(os.devnull).stat().st_rdev


def open_descriptors() -> None:
    """Opens the null device for what was closed, or the next socket would take its number.

    A ``sys.stdout`` that was closed stays None; ``sys.stderr`` gets the null device: printing
    to None is printing to standard output. Text that the encoding of ``sys.stdout`` does not have
    is escaped.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - to the end of the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def protect_outputs() -> None:
    """Makes ``sys.stdout`` and ``sys.stderr`` an ``Output`` each, also where they were closed.

    To be called before the log is configured.
    """
    open_descriptors()
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        output = Output(descriptor)
        _outputs.append(output)
        atexit.register(output.drain)
        text = io.TextIOWrapper(
            output, encoding="utf-8", errors="backslashreplace", write_through=True
        )
        setattr(sys, name, text)


def show(line: str) -> bool:
    """Writes a line to the standard output of a service; whether somebody may read it there."""
    return _outputs[0].shows(line)


def lost_lines() -> int:
    """How many lines this process could not write."""
    return sum(output.lost_lines for output in _outputs)
