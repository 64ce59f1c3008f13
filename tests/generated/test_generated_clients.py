"""Clients that are generated from the OpenAPI document work, and generating them warns of nothing.

The generators of TypeScript come from npm, as ``package-lock.json`` pins them.
"""

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from tests.conftest import ADMIN
from tests.support.processes import Service, services_in

HERE = Path(__file__).parent
# Generators take long, the compiler of TypeScript most of it.
pytestmark = pytest.mark.timeout(600)


def has_npm() -> bool:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return False
    asked = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return Version(asked.stdout) >= Version("20.19")


needs_npm = pytest.mark.skipif(
    not has_npm(), reason="The generators of TypeScript need npm with Node.js 20.19 or newer."
)
# That every operation has a 4xx: what needs no token is refused by no more than the server.
NEVER_REFUSED = "operation-4xx-response"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with services_in(tmp_path_factory.mktemp("generated")) as services:
        yield services.start(POLLS_ADMIN_TOKEN=ADMIN)


@pytest.fixture(scope="module")
def document(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    with urllib.request.urlopen(f"{service.url}/openapi.json") as answer:
        path.write_bytes(answer.read())
    return path


@pytest.fixture(scope="module")
def packages(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages of npm and the sources of the walks."""
    place = tmp_path_factory.mktemp("npm")
    reach = ["npm", "ping", "--fetch-retries=0", "--fetch-timeout=10000"]
    if subprocess.run(reach, cwd=place, capture_output=True, check=False).returncode != 0:
        pytest.skip("npm does not reach its registry, which has the generators of TypeScript.")
    for source in (*HERE.glob("*.json"), *HERE.glob("*.ts")):
        shutil.copy(source, place)
    shutil.copy(document, place)
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=place)
    return place


def run(*command: str, cwd: Path) -> str:
    """What a command printed; it must succeed."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "REDOCLY_TELEMETRY": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_the_python_client_walks_from_poll_to_export(
    service: Service, document: Path, tmp_path: Path
) -> None:
    (tmp_path / "plain.yaml").write_text("post_hooks: []\n")  # formatting needs ruff on the path
    generate = [
        *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"),
        *("--path", str(document), "--output-path", "made", "--config", "plain.yaml"),
    ]
    printed = run(*generate, cwd=tmp_path)
    assert "warning" not in printed.lower()
    shutil.copy(HERE / "walk.py", tmp_path / "made")  # a program finds what is beside it
    walk = [sys.executable, "-W", "error", "made/walk.py", service.url, ADMIN]
    run(*walk, cwd=tmp_path)


@needs_npm
def test_the_typescript_clients_walk_from_poll_to_export(service: Service, packages: Path) -> None:
    run("npx", "openapi-typescript", "openapi.json", "--output", "api.d.ts", cwd=packages)
    printed = run("npx", "openapi-ts", "--input", "openapi.json", "--output", "hey", cwd=packages)
    assert "warn" not in printed.lower()
    run("npx", "tsc", cwd=packages)
    for walk in ("walk_fetch", "walk_hey"):
        run("node", f"built/{walk}.js", service.url, ADMIN, cwd=packages)


@needs_npm
def test_redocly_finds_nothing_to_warn_of(packages: Path) -> None:
    lint = ["npx", "redocly", "lint", "openapi.json", "--skip-rule", NEVER_REFUSED]
    printed = run(*lint, cwd=packages)
    assert "Your API description is valid" in printed
    assert "warning" not in printed.partition("validating")[2]
