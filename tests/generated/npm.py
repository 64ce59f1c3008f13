"""npm, and commands that must succeed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.version import Version


def has_npm() -> bool:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return False
    asked = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return Version(asked.stdout) >= Version("20.19")


needs_npm = pytest.mark.skipif(not has_npm(), reason="This needs npm with Node.js 20.19 or newer.")


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
