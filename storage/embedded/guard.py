"""The guard: keeps one server running, and ends it when its own parent ends.

``python -m storage.embedded.guard LOCK DIRECTORY PARENT`` speaks JSON lines with its parent:

    parent: a Launch
    guard:  {"listening": true}, or {"listening": false}
    parent: another Launch, if the first did not start; {"restart": true} at any time later

LOCK is the descriptor of the directory's lock, which the server inherits. The guard has one thread
and no driver: the parent finds out whether the server still accepts writes, and asks for a restart
if it does not.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from storage.embedded.directory import DataDirectory

START_SECONDS = 60.0
"""Recovery after a kill takes under a second; this is for a very slow disk."""
STOP_SECONDS = 10.0
RELAUNCH_SECONDS = (0.05, 5.0)
"""The pause before a relaunch, at least and at most; it doubles until a server runs steadily."""
STEADY_SECONDS = 10.0
LOG_BYTES = 4 << 20
PR_SET_PDEATHSIG = 1


class Launch(TypedDict):
    """How to start a server; ``ready`` is what it writes to its log once it listens.

    With ``is_known`` it has listened before, so a start that fails is repeated.
    """

    command: list[str]
    environment: dict[str, str]
    ready: str
    is_known: NotRequired[bool]


class Guard:
    """Owns the server of one directory until its parent ends or asks it to stop."""

    def __init__(self, directory: DataDirectory, lock: int) -> None:
        self._directory = directory
        self._lock = lock
        self._server: subprocess.Popen[bytes] | None = None
        self._heard = b""
        self._woken, waker = os.pipe()
        for end in (self._woken, waker):
            os.set_blocking(end, False)
        os.set_blocking(sys.stdin.fileno(), False)
        self._is_to_stop = False
        # The wake-up descriptor makes poll() return at once; without handlers nothing is written.
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note_stop)

    def run(self) -> None:
        """Launches what the parent says, and again whenever it ended, until the parent is gone."""
        launch: Launch | None = None
        launched_at = 0.0
        pause = RELAUNCH_SECONDS[0]
        while not self._is_to_stop:
            word = self._hear(within=0.2)
            if word is not None and "command" in word:
                is_listening = self._launch(word)
                launch = word if is_listening or word.get("is_known") else None
                launched_at = time.monotonic()
                with suppress(BrokenPipeError):  # a parent that is gone needs no answer
                    print(json.dumps({"listening": is_listening}), flush=True)
            elif launch is None:
                continue
            elif word is None and self._server is not None and self._server.poll() is None:
                self._bound_log()
                if time.monotonic() - launched_at > STEADY_SECONDS:
                    pause = RELAUNCH_SECONDS[0]
            else:
                _log_restart(word)
                self._hear(within=pause)
                pause = min(pause * 2, RELAUNCH_SECONDS[1])
                self._launch(launch)
                launched_at = time.monotonic()

    def _launch(self, launch: Launch) -> bool:
        """Starts the server; false if it has ended, or does not listen in time."""
        self.end_server()
        try:
            with self._directory.log.open("ab") as log:
                said_before = log.tell()
                self._server = subprocess.Popen(  # noqa: S603 - our parent's own engine
                    launch["command"],
                    cwd=self._directory.path,
                    env=launch["environment"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(self._lock,),
                    # Safe here: this process has one thread.
                    preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
                )
        except OSError:
            return False  # the program is missing, or there is no room for its log
        ready = launch["ready"].encode()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self._is_to_stop:
            with self._directory.log.open("rb") as log:
                log.seek(said_before)
                if ready in log.read():
                    return True
            if self._server.poll() is not None:
                return False
            self._hear(within=0.01)
        return False

    def _bound_log(self) -> None:
        """Empties the log when it has grown too long; servers append to it."""
        with suppress(FileNotFoundError):
            if self._directory.log.stat().st_size > LOG_BYTES:
                os.truncate(self._directory.log, 0)

    def end_server(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()

    def _note_stop(self, *_: object) -> None:
        self._is_to_stop = True

    def _hear(self, within: float) -> Any:
        """A message of the parent; None if there is none within so many seconds.

        Returns early for a signal, such as that of a child that ended. If the pipe is closed, the
        parent is gone, and the guard is to stop.
        """
        poll = select.poll()
        poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
        poll.register(self._woken, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(within * 1000)}
        if self._woken in ready:
            os.read(self._woken, 1024)
        if sys.stdin.fileno() in ready:
            heard = os.read(sys.stdin.fileno(), 65536)
            self._is_to_stop |= not heard
            self._heard += heard
        line, end, rest = self._heard.partition(b"\n")
        if not end:
            return None
        self._heard = rest
        return json.loads(line)


def _log_restart(word: object) -> None:
    """A line of the service's log, which this process shares."""
    line = {
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "level": "warning",
        "event": "the embedded server is restarted",
        "reason": "it ended" if word is None else "it does not accept writes",
    }
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    # Where nobody reads the log any more, a write would wait for ever.
    if any(events & select.POLLOUT for _, events in poll.poll(0)):
        with suppress(OSError):
            os.write(2, json.dumps(line).encode() + b"\n")


def _die_with_parent(number: int = signal.SIGKILL) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def main(arguments: list[str]) -> int:
    lock, directory, parent = arguments
    os.umask(0o077)
    data = DataDirectory(Path(directory))
    guard = Guard(data, int(lock))
    if sys.platform == "linux":
        _die_with_parent(signal.SIGTERM)
        if os.getppid() != int(parent):
            return 1  # it died before we asked for the signal
    try:
        guard.run()
    finally:
        # First, or commands would still try to reach what is about to end.
        data.remove_endpoint()
        guard.end_server()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
