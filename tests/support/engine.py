"""The database that the tests run on: the first engine that runs, or that of ``POLLS_ENGINE``."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from storage.embedded.engines import Engine, Mongod, Secantus
from storage.location import EngineChoice


@cache
def chosen() -> EngineChoice:
    """What the embedded servers of all tests are started with.

    A ``mongod`` knows ``configureFailPoint`` only where it was started for tests, so it is a script
    that does so.
    """
    name = os.environ.get("POLLS_ENGINE")
    if name is None and not _mongods():
        return EngineChoice(Secantus.name)
    if name in (None, Mongod.name):
        return EngineChoice(Mongod.name, _with_fail_points(mongod_binary()))
    return EngineChoice(name)


def mongod_binary() -> Path:
    """The ``mongod`` that an embedded store would get here; fails where none runs."""
    mongods = _mongods()
    assert mongods, f"no mongod runs here: {list(Mongod.find(None))}"
    return mongods[0].program


@cache
def _mongods() -> list[Engine]:
    return [found for found in Mongod.find(None) if isinstance(found, Mongod)]


def _with_fail_points(mongod: Path) -> Path:
    home = Path(tempfile.mkdtemp(prefix="polls-mongod-"))
    atexit.register(shutil.rmtree, home)
    script = home / "mongod"
    script.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then exec "{mongod}" --version; fi\n'
        f'exec "{mongod}" "$@" --setParameter enableTestCommands=1\n'
    )
    script.chmod(0o755)
    return script


def environment() -> dict[str, str]:
    """The same for a service that is started as a process."""
    choice = chosen()
    given = {"POLLS_ENGINE": choice.name, "POLLS_MONGOD": choice.mongod}
    return {name: str(value) for name, value in given.items() if value is not None}
