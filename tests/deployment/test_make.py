"""What ``make`` installs and runs, on a Python that only notes what it is asked for."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

from tests.support.processes import ROOT

PYTHON = f"""#!{sys.executable}
import os, pathlib, sys
asked = sys.argv[1:]
with open(os.environ["NOTES"], "a") as notes:
    print(pathlib.Path(sys.argv[0]).name, *asked, file=notes)
    if "pytest" in asked:
        print("POLLS_ENGINE", os.environ.get("POLLS_ENGINE"), file=notes)
if asked[:2] == ["-m", "venv"]:
    environment = pathlib.Path(asked[-1])
    for stamp in environment.glob(".ready*"):
        stamp.unlink()
    (environment / "bin").mkdir(parents=True, exist_ok=True)
    for name in ("python", "ruff", "mypy"):
        copy = environment / "bin" / name
        copy.write_text(pathlib.Path(__file__).read_text())
        copy.chmod(0o700)
if asked == ["-m", "tests.support.lowest"]:
    print("one==1.2")
"""


class Checkout:
    """What ``make`` needs of this repository, in a directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.notes = home / "notes"
        self.programs = home / "programs"
        self.programs.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, home)
        shutil.copytree(ROOT / ".ci", home / ".ci")
        (home / "tests" / "support").mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "support" / "lowest.py", home / "tests" / "support")

    def add_python(self, name: str, text: str = PYTHON) -> Path:
        program = self.programs / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(stat.S_IRWXU)
        return program

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a program here that finds no Python but ours, and knows nothing of us."""
        return subprocess.run(
            command,
            cwd=self.home,
            env={
                "PATH": f"{self.programs}:{os.defpath}",
                "HOME": str(self.home),
                "NOTES": str(self.notes),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def make(self, *arguments: str) -> list[str]:
        """What each Python was asked for."""
        self.notes.write_text("")
        done = self.run("make", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.notes.read_text().splitlines()

    def installs(self, *arguments: str) -> list[str]:
        """The extras that were installed; "new" for a new environment."""
        return [
            "new" if " -m venv " in note else note.partition(".[")[2].removesuffix("]")
            for note in self.make(*arguments)
            if " -m venv " in note or " -m pip install " in note
        ]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    checkout = Checkout(tmp_path)
    checkout.add_python("python3")
    return checkout


def test_each_target_installs_what_it_needs_and_nothing_twice(checkout: Checkout) -> None:
    assert checkout.installs("run") == ["new", "embedded,speed"]
    assert checkout.installs("run") == []
    assert checkout.installs("test") == ["embedded,speed,tracing,dev"]
    assert checkout.installs("lint") == ["embedded,speed,tracing,dev,bench"]
    assert checkout.installs("test-clients") == ["embedded,speed,tracing,dev,clients"]
    for target in ("run", "test", "lint", "test-clients", "run"):
        assert checkout.installs(target) == []


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_what_is_needed_makes_the_environment_anew(
    checkout: Checkout, changed: str
) -> None:
    assert checkout.installs("test") == ["new", "embedded,speed", "embedded,speed,tracing,dev"]
    (checkout.home / changed).touch()
    assert checkout.installs("run") == ["new", "embedded,speed"]
    assert checkout.installs("test") == ["embedded,speed,tracing,dev"]


def test_the_engine_of_the_tests_is_chosen_by_name(checkout: Checkout) -> None:
    for target in ("test", "test-core"):
        assert "POLLS_ENGINE None" in checkout.make(target)
        assert "POLLS_ENGINE secantus" in checkout.make(target, "ENGINE=secantus")


def test_coverage_is_measured_where_it_is_asked_for(checkout: Checkout) -> None:
    def commands(*arguments: str) -> list[str]:
        notes = [note.split() for note in checkout.make(*arguments)]
        return [note[3] for note in notes if note[1:3] == ["-m", "coverage"]]

    assert commands("test") == []
    assert commands("test", "COVERAGE=yes") == ["erase", "run", "combine"]
    assert commands("coverage") == ["report"]


def test_the_lowest_versions_are_installed_apart_from_all_others(checkout: Checkout) -> None:
    notes = checkout.make("test-lowest")
    assert "python3 -m venv --clear .venv-lowest" in notes
    assert (checkout.home / ".venv-lowest.txt").read_text() == "one==1.2\n"
    assert not (checkout.home / ".venv").exists()


def test_the_pythons_that_are_declared_are_those_that_are_tried(checkout: Checkout) -> None:
    for minor in range(9, 20):
        checkout.add_python(f"python3.{minor}")
    tried = {
        note.partition(" ")[0].removeprefix("python")
        for note in checkout.make("test-pythons")
        if " -m venv " in note
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {text.rpartition(" ")[2] for text in project["classifiers"]}
    assert tried == declared
    assert f">={min(declared, key=Version)}" == project["requires-python"]
    for version in declared:
        assert (checkout.home / f".venv-{version}").is_dir()


def test_a_python_that_is_not_there_is_said_and_the_others_are_tried(checkout: Checkout) -> None:
    checkout.add_python("python3.97")
    done = checkout.run("make", "test-pythons", "PYTHONS=3.96 3.97")
    assert done.returncode == 0, done.stderr
    assert "Python 3.96 is not installed here" in done.stderr
    assert (checkout.home / ".venv-3.97").is_dir()


def test_tests_that_fail_on_one_python_fail_the_target(checkout: Checkout) -> None:
    failing = PYTHON + "sys.exit('pytest' in asked)\n"
    checkout.add_python("python3.96", failing)
    checkout.add_python("python3.97")
    done = checkout.run("make", "test-pythons", "PYTHONS=3.96 3.97")
    assert done.returncode != 0
    assert not (checkout.home / ".venv-3.97").exists()


def test_a_python_that_does_not_run_is_passed_over_for_the_newest_of_pyenv(
    checkout: Checkout,
) -> None:
    checkout.add_python("python3.97", "#!/bin/sh\nexit 127\n")
    assert checkout.run(".ci/python", "3.97").returncode == 1
    for patch in (9, 10):
        checkout.add_python(f"../.pyenv/versions/3.97.{patch}/bin/python3.97")
    found = checkout.run(".ci/python", "3.97")
    assert found.stdout.strip() == f"{checkout.home}/.pyenv/versions/3.97.10/bin/python3.97"


def test_help_names_every_target(checkout: Checkout) -> None:
    lines = checkout.run("make").stdout.splitlines()
    targets = {line.split()[0] for line in lines}
    phony = checkout.run("make", "--print-data-base", "--question", "help").stdout
    [declared] = [line for line in phony.splitlines() if line.startswith(".PHONY: ")]
    assert targets == set(declared.split()[1:])
    assert len({re.match(r"\S+ {2,}", line).end() for line in lines}) == 1  # type: ignore[union-attr]
    assert max(map(len, lines)) <= 100
