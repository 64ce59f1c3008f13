"""``python -m tests.support.lowest``: the lowest versions that are declared, as constraints.

What ``pyproject.toml`` names is held at the version that its requirement begins with, and all else
at no more than its pin: what an old package needs may be old as well. Needs nothing installed.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("embedded", "speed", "tracing")
"""What users install beside the service; tools of developers stay at their pins."""

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:>=|==)(?P<version>[\w.]+)(?:,<[\w.]+)?(?:;.*)?")


def floors(project: dict[str, Any]) -> dict[str, str]:
    """The lowest version of each direct dependency, by its name as it is compared.

    Raises ``ValueError`` where a requirement has none.
    """
    declared = [*project["dependencies"]]
    for extra in EXTRAS:
        declared += project["optional-dependencies"][extra]
    found = {}
    for requirement in declared:
        match = _REQUIREMENT.fullmatch(requirement.replace(" ", ""))
        if match is None:
            raise ValueError(f"{requirement} names no lowest version")
        found[canonical(match["name"])] = match["version"]
    return found


def lowest(project: dict[str, Any], pins: Iterator[str]) -> Iterator[str]:
    """The lines of a file of constraints, made of the lines of ``constraints.txt``."""
    lowest_versions = floors(project)
    for name, version in lowest_versions.items():
        yield f"{name}=={version}"
    for pin in pins:
        name, _, version = pin.partition("==")
        if canonical(name) not in lowest_versions:
            yield f"{name}<={version}"


def canonical(name: str) -> str:
    """A package's name as the packaging standards compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = iter((ROOT / "constraints.txt").read_text().split())
    sys.stdout.writelines(f"{line}\n" for line in lowest(project, pins))


if __name__ == "__main__":
    main()
