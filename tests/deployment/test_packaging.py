"""The wheel is whole, and the declared versions are those that are tried."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement

from tests.support.lowest import EXTRAS, canonical, floors, lowest
from tests.support.processes import ROOT

PACKAGES = ("schemas", "service", "storage")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
]
PINS = (ROOT / "constraints.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel. It is built from a copy, since a build leaves files behind."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package)
    for neighbour in ("bench", "tests", "services"):
        (copy / neighbour).mkdir()
        (copy / neighbour / "__init__.py").touch()
    built = subprocess.run(
        [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('dist')"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_beside_them(
    wheel: set[str],
) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"service/py.typed", "service/openapi/page/index.html"} <= files
    assert "service/live/pages/poll.html" in files
    assert {name for name in wheel if ".dist-info/" not in name} == files


def test_every_requirement_is_pinned_at_a_version_that_is_declared() -> None:
    pins = {canonical(name): version for name, _, version in (pin.partition("==") for pin in PINS)}
    for requirement in DECLARED:
        pinned = pins[canonical(requirement.name)]
        assert requirement.specifier.contains(pinned), (str(requirement), pinned)


def test_pins_are_sorted_and_name_no_place_to_get_them_from() -> None:
    assert sorted(PINS, key=str.upper) == PINS
    assert [pin for pin in PINS if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


def test_the_lowest_versions_are_those_of_the_requirements_and_all_else_is_at_most_at_its_pin() -> (
    None
):
    project = {
        "dependencies": ["one>=1.2,<2", "Two_Words>=3"],
        "optional-dependencies": {
            "embedded": ["three==3.0b1; sys_platform == 'linux'"],
            "speed": [
                "five>=0.5; platform_system != 'Windows' and implementation_name == 'cpython'"
            ],
            "tracing": [],
        },
    }
    pins = iter(["five==0.6", "four==4.5", "one==1.9", "three==3.0b1", "two-words==3.7"])
    assert list(lowest(project, pins)) == [
        "one==1.2",
        "two-words==3",
        "three==3.0b1",
        "five==0.5",
        "four<=4.5",
    ]


@pytest.mark.parametrize(
    "requirement", ["one", "one<2", "one>2", "one~=2.0", "one!=1", "one<2,>=1"]
)
def test_a_requirement_without_a_lowest_version_is_refused(requirement: str) -> None:
    project = {
        "dependencies": [requirement],
        "optional-dependencies": {extra: [] for extra in EXTRAS},
    }
    with pytest.raises(ValueError, match="names no lowest version"):
        floors(project)


def test_every_direct_dependency_has_a_lowest_version() -> None:
    assert floors(PROJECT).keys() >= {
        "aiohttp",
        "pymongo",
        "secantusdb",
        "uvloop",
        "opentelemetry-sdk",
    }
