"""The database servers that can be embedded. To add one, write an ``Engine`` and list it.

An engine says whether it can run here, how it is started and reached, and what it is not for.
"""

import os
import re
import secrets
import shutil
import subprocess
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote_plus

from storage.client import init_replica_set
from storage.embedded.directory import DataDirectory, EngineMark, read_private, write_private
from storage.embedded.guard import Launch
from storage.errors import StartupRefused
from storage.location import EngineChoice

LOOPBACK = "127.0.0.1"
VERSION_SECONDS = 20.0
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""Variables of the surrounding environment would change what a server does."""


class DoesNotRun(Exception):
    """A program cannot be used here; the text says which, and why."""


class Engine(ABC):
    """A server program that runs on this machine."""

    name: ClassVar[str]
    """As in ``engine.json`` and in ``POLLS_ENGINE``."""
    title: ClassVar[str]
    limits: ClassVar[str]
    """One sentence about what it is not for."""
    version_pattern: ClassVar[str]
    catalog: ClassVar[str]
    """A file that its database always has, and that of no other engine."""

    def __init__(self, program: Path, version: str) -> None:
        self.program = program
        self.version = version

    @property
    def mark(self) -> EngineMark:
        return EngineMark(engine=self.name, version=self.version)

    @classmethod
    @abstractmethod
    def programs(cls, mongod: Path | None) -> Iterator[Path]:
        """The places to look, best first; ``mongod`` is what ``POLLS_MONGOD`` names."""

    @classmethod
    def find(cls, mongod: Path | None) -> Iterator["Engine | DoesNotRun"]:
        """Each program of this engine, or why it does not run; tells by running it."""
        for program in cls.programs(mongod):
            try:
                yield cls(program, cls._version_of(program))
            except DoesNotRun as reason:
                yield reason

    @classmethod
    def _version_of(cls, program: Path) -> str:
        try:
            asked = subprocess.run(  # noqa: S603 - the operator's, or that of our own extra
                [program, "--version"],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=VERSION_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DoesNotRun(f"{program} does not run: {reason}") from error
        version = re.search(cls.version_pattern, asked.stdout)
        if asked.returncode != 0 or version is None:
            lines = (asked.stderr or asked.stdout).strip().splitlines()
            said = lines[-1] if lines else f"exit status {asked.returncode}"
            raise DoesNotRun(f"{program} does not run: {said}")
        return version[1]

    @abstractmethod
    def launch(self, directory: DataDirectory, port: int) -> Launch:
        """How to start it on 127.0.0.1; creates the files that it needs beside the database."""

    @abstractmethod
    def prepare(self, directory: DataDirectory, port: int, *, seconds: float) -> None:
        """Makes the server that listens there accept writes; safe to repeat.

        Raises ``StartupRefused`` if it does not within so many seconds.
        """

    @classmethod
    @abstractmethod
    def uri(cls, directory: DataDirectory, port: int) -> str:
        """The address for the driver, password included: only for processes of this user."""


class Mongod(Engine):
    """MongoDB: a replica set of one node, with a password, for the user of the service alone."""

    name = "mongod"
    title = "MongoDB"
    limits = "One node on one machine: back it up, or use a replica set through MONGODB_URI."
    version_pattern = r"db version v([0-9.]+)"
    catalog = "_mdb_catalog.wt"
    lowest = (6, 0)
    user = "polls"

    @classmethod
    def programs(cls, mongod: Path | None) -> Iterator[Path]:
        if mongod is not None:
            yield mongod
            return  # the operator wants that one and no other
        if (on_path := shutil.which("mongod")) is not None:
            yield Path(on_path)
        # Where the extra ``embedded`` puts its mongod.
        bundled = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"
        if bundled.exists():
            # Installers of wheels may drop the permission to run it.
            if not os.access(bundled, os.X_OK):
                with suppress(OSError):
                    bundled.chmod(bundled.stat().st_mode | 0o111)
            yield bundled

    @classmethod
    def _version_of(cls, program: Path) -> str:
        version = super()._version_of(program)
        if tuple(map(int, version.split(".")[:2])) < cls.lowest:
            raise DoesNotRun(f"{program} is MongoDB {version}, and 6.0 or newer is needed")
        return version

    def launch(self, directory: DataDirectory, port: int) -> Launch:
        for name in ("keyfile", "password"):
            if read_private(directory / name) is None:
                write_private(directory / name, secrets.token_hex(32))
        directory.store.mkdir(mode=0o700, exist_ok=True)
        command = [
            str(self.program),
            *("--bind_ip", LOOPBACK, "--port", str(port), "--nounixsocket"),
            *("--replSet", "polls", "--keyFile", str(directory / "keyfile")),
            *("--dbpath", str(directory.store), "--quiet"),
            *("--wiredTigerCacheSizeGB", "0.25"),
            # It holds every vote with its time, and what was deleted: no more than restarts need.
            *("--oplogSize", "4"),
            # Its log would hold slow votes with their times.
            *("--slowms", str(2**31 - 1)),
            # Old versions leak memory to a sender of compressed messages (CVE-2025-14847).
            *("--networkMessageCompressors", "disabled"),
            # Or the first local user to connect could make itself an administrator.
            *("--setParameter", "enableLocalhostAuthBypass=false"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            # The password is random, so nothing is gained by making guesses slow.
            *("--setParameter", "scramSHA256IterationCount=5000"),
            # There is no other node to hand over to at a stop.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
        ]
        return Launch(command=command, environment=ENVIRONMENT, ready="Waiting for connections")

    def prepare(self, directory: DataDirectory, port: int, *, seconds: float) -> None:
        init_replica_set(
            f"{LOOPBACK}:{port}",
            name="polls",
            key=_read(directory / "keyfile"),
            user=self.user,
            password=_read(directory / "password"),
            seconds=seconds,
        )

    @classmethod
    def uri(cls, directory: DataDirectory, port: int) -> str:
        login = f"{cls.user}:{quote_plus(_read(directory / 'password'))}"
        return f"mongodb://{login}@{LOOPBACK}:{port}/?replicaSet=polls&authSource=admin"


class Secantus(Engine):
    """A stand-in that speaks MongoDB's protocol, for trying out where no ``mongod`` runs."""

    name = "secantus"
    title = "SecantusDB (a stand-in for MongoDB)"
    limits = (
        "It is for trying out and for nothing else: it is a beta, loses votes on a full disk, and "
        "every local user of this machine can reach it."
    )
    version_pattern = r"secantusd-rs (\S+)"
    catalog = "secantus_collections.wt"

    @classmethod
    def programs(cls, mongod: Path | None) -> Iterator[Path]:
        del mongod
        scripts = sysconfig.get_path("scripts")
        found = shutil.which("secantusd-rs", path=scripts) or shutil.which("secantusd-rs")
        if found is not None:
            yield Path(found)

    def launch(self, directory: DataDirectory, port: int) -> Launch:
        # An empty file: naming one keeps it from reading a configuration of the machine.
        write_private(directory / "server.toml", "")
        command = [
            str(self.program),
            *("--host", LOOPBACK, "--port", str(port)),
            *("--storage-path", str(directory.store)),
            # Without it acknowledged writes are lost in a crash, journaled or not.
            "--sync-on-commit",
            # Without it: 2 GB of disk, and recovery in 5 to 16 s instead of under 1.
            *("--log-file-max", "64MB"),
            # With 128M a document of 11 MB, or a large index, makes it spin without end.
            *("--cache-size", "512M"),
            *("--config", str(directory / "server.toml")),
            *("--log-level", "WARNING"),
        ]
        return Launch(
            command=command,
            environment={**ENVIRONMENT, "HOME": str(directory.path)},
            ready=f"listening on {LOOPBACK}:{port}",
        )

    def prepare(self, directory: DataDirectory, port: int, *, seconds: float) -> None:
        """It accepts writes as soon as it listens."""

    @classmethod
    def uri(cls, directory: DataDirectory, port: int) -> str:
        del directory
        # By streaming, the driver would not check it again for up to 10 s after an error; by
        # polling it asks at once.
        return f"mongodb://{LOOPBACK}:{port}/?directConnection=true&serverMonitoringMode=poll"


ENGINES: tuple[type[Engine], ...] = (Mongod, Secantus)
"""In the order in which a new directory tries them; ``location.ENGINE_NAMES`` names them."""


def choose(directory: DataDirectory, wanted: EngineChoice) -> tuple[Engine, list[str]]:
    """The engine that the store was created with, or for a new directory the first that runs.

    Beside it, why better ones were passed over. The lock of the directory must be held. Raises
    ``StartupRefused`` with what can be done.
    """
    mark = _mark_of(directory)
    asked = wanted.name or (Mongod.name if wanted.mongod else None)
    name = mark["engine"] if mark is not None else asked
    reasons: list[str] = []
    if mark is not None and asked not in (None, name):
        reasons.append(f"The store was created with {name}, and keeps it")
    engines: list[Engine] = []
    for kind in ENGINES:
        if name == kind.name or (name is None and not engines):
            for found in kind.find(wanted.mongod):
                if isinstance(found, Engine):
                    engines.append(found)
                else:
                    reasons.append(str(found))
    if not engines:
        because = f" ({'; '.join(reasons)})" if reasons else ""
        if mark is not None:
            created = f"{mark['engine']} {mark['version']}".strip()
            raise StartupRefused(
                f"The store in {directory.path} was created with {created}, which does not run "
                f"here{because}."
            )
        what = "No database runs here" if name is None else f"The engine {name} does not run here"
        raise StartupRefused(
            f"{what}{because}: set MONGODB_URI to a MongoDB replica set, POLLS_MONGOD to a mongod "
            "of 6.0 or newer, or install the extra embedded: pip install --editable '.[embedded]'."
        )
    # The files of one version can be opened by the next, and seldom by the one after it.
    series = mark["version"].split(".")[:2] if mark is not None else []
    alike = (one for one in engines if one.version.split(".")[:2] == series)
    return next(alike, engines[0]), reasons


def uri_of(directory: DataDirectory, port: int) -> str:
    """The address of a server that runs on the directory, by the engine of its store."""
    mark = _mark_of(directory)
    for kind in ENGINES:
        if mark is not None and kind.name == mark["engine"]:
            return kind.uri(directory, port)
    raise StartupRefused(f"The engine of the store in {directory.path} is not known.")


def holds_store(directory: DataDirectory) -> bool:
    """Whether a server has stored anything here; a folder for it is not enough."""
    return any((directory.store / kind.catalog).exists() for kind in ENGINES)


def _mark_of(directory: DataDirectory) -> EngineMark | None:
    """The mark of the store; without one, as version 0.1 left it, by the files of the database."""
    if (mark := directory.read_mark()) is not None:
        return mark
    for kind in ENGINES:
        if (directory.store / kind.catalog).exists():
            return EngineMark(engine=kind.name, version="")
    return None


def _read(path: Path) -> str:
    content = read_private(path)
    if content is None:
        raise StartupRefused(f"The file {path} is missing: restore it.")
    return content
