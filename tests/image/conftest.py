"""The image is built once, and one database serves all; each test has a container of its own."""

import os
from collections.abc import Iterator

import pytest

from tests.image import base
from tests.image.database import a_mongod
from tests.image.engine import Engine
from tests.support.processes import ROOT

IMAGE = "polls-service"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Skips where no image can be built; fails there in CI if it is root on Debian."""
    if missing := base.what_is_missing():
        if os.environ.get("CI") == "true" and base.is_root_on_debian():
            pytest.fail(missing)
        pytest.skip(missing)
    engine = Engine(tmp_path_factory.mktemp("engine"))
    try:
        yield engine
    finally:
        engine.clear_away()


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of the Dockerfile, on the stand-in for its base."""
    engine.import_base(base.base_archive(), f"docker.io/library/{base.NAME}")
    dockerfile = tmp_path_factory.mktemp("build") / "Dockerfile"
    dockerfile.write_text(base.DOCKERFILE)
    built = engine.build(ROOT, "--file", str(dockerfile), "--tag", IMAGE)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    return IMAGE


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with a_mongod(tmp_path_factory.mktemp("mongod")) as uri:
        yield uri
