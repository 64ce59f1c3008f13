"""The data directory of an embedded store: what is in it, and that only its owner can read it.

- ``lock``: a flock that guard and server inherit. The kernel releases it with the last of them, so
  it cannot go stale.
- ``engine.json``: an ``EngineMark``.
- ``endpoint.json``: an ``Endpoint``, a hint for commands, valid only while the lock is held.
- ``secret``: the ``POLLS_SECRET`` of the store, unless the environment gives it.
- ``store/``: the files of the database; ``server.log``: its log.

An engine may add files of its own.
"""

import fcntl
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypedDict

from storage.errors import StartupRefused

Holder = Literal["service", "command"]

OWN_NAMES = frozenset(
    {
        *("lock", "engine.json", "endpoint.json", "secret", "store", "server.log", "server.toml"),
        *("keyfile", "password", "lost+found"),
    }
)
PRIVATE_FILE = 0o600


class Endpoint(TypedDict):
    """The port of the server of a data directory, and the process that it serves."""

    port: int
    pid: int
    holder: Holder


class EngineMark(TypedDict):
    """The name and version of the engine that a store was created with."""

    engine: str
    version: str


class DataDirectory:
    """One data directory; nothing is read or created before it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.store = self.path / "store"
        self.log = self.path / "server.log"
        self._endpoint = self.path / "endpoint.json"
        self._mark = self.path / "engine.json"

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def claim(self) -> int:
        """Takes the lock, makes everything private, and returns the descriptor of the lock.

        Raises ``BlockingIOError`` while another process holds the directory, and ``OSError`` if it
        cannot be used: one that holds other files is not taken over.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._refuse_what_is_not_ours()
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise
        self._make_private()
        return lock

    def _refuse_what_is_not_ours(self) -> None:
        """A directory such as ``/tmp`` would be closed to every other user of the machine.

        And its owner, if that is another user, could replace our files.
        """
        names = {entry.name.removesuffix(".new") for entry in self.path.iterdir()}
        if not (names <= OWN_NAMES or {"lock", "store"} <= names):
            raise OSError("it holds other files; name an empty directory")
        for path in (self.path, *self.path.iterdir()):
            if (owner := path.lstat().st_uid) != os.geteuid():
                raise OSError(
                    f"{path.name} belongs to the user {owner}, and this is the user {os.geteuid()}"
                )
        if self.store.is_symlink():
            raise OSError("its store is a symbolic link")

    def _make_private(self) -> None:
        """Takes all rights from group and others, whatever they were before."""
        for folder, _, files in os.walk(self.path):
            for path in (Path(folder), *(Path(folder) / name for name in files)):
                # A server that is still ending may be removing files of its own.
                with suppress(FileNotFoundError):
                    mode = path.lstat().st_mode
                    if mode & 0o077 and not stat.S_ISLNK(mode):
                        path.chmod(stat.S_IMODE(mode) & ~0o077)

    def read_mark(self) -> EngineMark | None:
        """None if there is none; raises ``StartupRefused`` if it cannot be read."""
        try:
            mark: EngineMark = json.loads(self._mark.read_bytes())
            return EngineMark(engine=str(mark["engine"]), version=str(mark["version"]))
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError) as error:
            raise StartupRefused(
                f"The file {self._mark} is damaged: restore it, or remove it."
            ) from error

    def write_mark(self, mark: EngineMark) -> None:
        """To be called once its server has listened."""
        write_private(self._mark, json.dumps(mark))

    def read_endpoint(self) -> Endpoint | None:
        """None if there is none, or none that is valid."""
        try:
            read = json.loads(self._endpoint.read_bytes())
            holder: Holder = "service" if read["holder"] == "service" else "command"
            port, pid = int(read["port"]), int(read["pid"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        is_possible = 0 < port < 2**16 and 0 < pid < 2**31
        return Endpoint(port=port, pid=pid, holder=holder) if is_possible else None

    def write_endpoint(self, endpoint: Endpoint) -> None:
        write_private(self._endpoint, json.dumps(endpoint))

    def remove_endpoint(self) -> None:
        self._endpoint.unlink(missing_ok=True)


def read_private(path: Path) -> str | None:
    """The one line of a file; None if there is no file, or it is empty.

    Raises ``StartupRefused`` if the file cannot be read.
    """
    try:
        return path.read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        # Not with the error as its cause, which may show the content of the file.
        raise StartupRefused(f"The file {path} is damaged: restore it.") from None


def write_private(path: Path, text: str) -> None:
    """Writes a file for its owner alone: whole or not at all, and synced before it is in place."""
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def is_alive(pid: int) -> bool:
    """Whether there is a process with this id, of whichever user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
