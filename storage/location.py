"""Where a store is, as the settings say it; knows no driver."""

from dataclasses import dataclass
from pathlib import Path

ENGINE_NAMES = ("mongod", "secantus")
"""Those of ``storage.embedded.engines``, in the order in which a new directory tries them."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What the operator says about engines; what is None is left to what runs here.

    ``name`` is that of an engine for new directories, ``mongod`` the path of a ``mongod``.
    """

    name: str | None = None
    mongod: Path | None = None


ANY_ENGINE = EngineChoice()


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is: at ``uri``, or embedded in ``data_dir`` where ``uri`` is None.

    ``secret`` keys the hashes of voters. None, which only an embedded store allows, stands for the
    one that is kept in the data directory and made on its first start. ``engine`` is what the
    operator says about the embedded server.
    """

    uri: str | None
    data_dir: Path
    secret: str | None
    engine: EngineChoice = ANY_ENGINE
