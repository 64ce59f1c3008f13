"""The contender in JavaScript: how it is installed, and how it is started."""

import shutil
import subprocess
from pathlib import Path

DIRECTORY = Path(__file__).parent
PACKAGE = DIRECTORY / "package.json"
MODULES = DIRECTORY / "node_modules"
INSTALLED = MODULES / ".installed.json"
"""The ``package.json`` that the modules were installed for."""
INSTALL_SECONDS = 300


class NotInstalled(Exception):
    """It cannot run on this machine; the text is a sentence that says why."""


def install() -> list[str]:
    """The command that serves, after its modules are there. Raises ``NotInstalled``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstalled("It needs Node and npm: apt-get install nodejs npm (Debian, Ubuntu).")
    if not INSTALLED.exists() or INSTALLED.read_bytes() != PACKAGE.read_bytes():
        _install_modules(npm)
    return [node, str(DIRECTORY / "server.js")]


def _install_modules(npm: str) -> None:
    quietly = ("--no-package-lock", "--no-audit", "--no-fund", "--loglevel", "error")
    try:
        finished = subprocess.run(
            [npm, "install", "--ignore-scripts", *quietly],
            cwd=DIRECTORY,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"npm install took more than {INSTALL_SECONDS} s.") from error
    if finished.returncode != 0:
        raise NotInstalled(f"npm install failed: {finished.stderr.strip()[-1000:]}")
    INSTALLED.write_bytes(PACKAGE.read_bytes())
