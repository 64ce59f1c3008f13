"""Where a store is, as the settings say; loads no driver."""

from dataclasses import dataclass
from pathlib import Path

ENGINE_NAMES = ("mongod", "secantus")
"""The names of ``storage.embedded.engines.ENGINES``, in their order."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The operator's choice of an engine; for what is None, the first that runs is taken.

    ``name`` is the engine for new directories, ``mongod`` the path of a ``mongod``.
    """

    name: str | None = None
    mongod: Path | None = None


ANY_ENGINE = EngineChoice()


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is: at ``uri``, or embedded in ``data_dir`` if ``uri`` is None.

    ``secret`` keys the hashes of voters. None, which only an embedded store allows, stands for the
    one that is kept in the data directory and created at its first start. ``engine`` is for the
    embedded server.
    """

    uri: str | None
    data_dir: Path
    secret: str | None
    engine: EngineChoice = ANY_ENGINE
