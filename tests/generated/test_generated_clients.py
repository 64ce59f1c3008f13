"""Clients that are generated from the OpenAPI document work; generating them warns of nothing."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import ADMIN
from tests.generated.npm import needs_npm, run
from tests.support.processes import Service

HERE = Path(__file__).parent
# Generators take long, the compiler of TypeScript most of it.
pytestmark = pytest.mark.timeout(600)


# That every operation has a 4xx: what needs no token is refused by no more than the server.
NEVER_REFUSED = "operation-4xx-response"


def test_the_python_client_walks_from_poll_to_export(
    service: Service, document: Path, tmp_path: Path
) -> None:
    # Formatting needs ruff on the path; of lines of JSON the generator does not know.
    config = (
        'post_hooks: []\ncontent_type_overrides: {"application/x-ndjson": "application/json"}\n'
    )
    (tmp_path / "plain.yaml").write_text(config)
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
