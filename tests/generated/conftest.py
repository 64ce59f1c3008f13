"""What the tests of generated clients and of accessibility share: a service, and npm.

What comes from npm is pinned by ``package-lock.json``.
"""

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ADMIN
from tests.generated.npm import run
from tests.support.processes import Service, services_in

HERE = Path(__file__).parent


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with services_in(tmp_path_factory.mktemp("generated")) as services:
        yield services.start(POLLS_ADMIN_TOKEN=ADMIN)


@pytest.fixture(scope="package")
def document(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    with urllib.request.urlopen(f"{service.url}/openapi.json") as answer:
        path.write_bytes(answer.read())
    return path


@pytest.fixture(scope="package")
def packages(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages of npm and the sources of the walks."""
    place = tmp_path_factory.mktemp("npm")
    reach = ["npm", "ping", "--fetch-retries=0", "--fetch-timeout=10000"]
    if subprocess.run(reach, cwd=place, capture_output=True, check=False).returncode != 0:
        pytest.skip("npm does not reach its registry.")
    for source in (*HERE.glob("*.json"), *HERE.glob("*.ts")):
        shutil.copy(source, place)
    shutil.copy(document, place)
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=place)
    return place
