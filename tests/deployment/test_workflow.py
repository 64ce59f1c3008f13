"""The hosted CI runs what ``.ci/run`` runs, with no more rights than it needs.

Nothing here runs a workflow: that takes a forge.
"""

import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from packaging.version import Version

from tests.support.processes import ROOT

Yaml = dict[str, Any]
Target = tuple[str, ...]

TEXT = (ROOT / ".github" / "workflows" / "ci.yaml").read_text()
CI_RUN = (ROOT / ".ci" / "run").read_text()


def load(name: str) -> Yaml:
    document: Yaml = yaml.safe_load((ROOT / name).read_text())
    return document


WORKFLOW = load(".github/workflows/ci.yaml")
JOBS: dict[str, Yaml] = WORKFLOW["jobs"]
STEPS: list[Yaml] = [step for job in JOBS.values() for step in job["steps"]]


def scripts(job: Yaml) -> Iterator[str]:
    """What a job runs, once for each combination of its matrix."""
    matrix = job.get("strategy", {}).get("matrix", {})
    for values in itertools.product(*matrix.values()):
        for step in job["steps"]:
            script = step.get("run", "")
            for name, value in zip(matrix, values, strict=True):
                script = script.replace(f"${{{{ matrix.{name} }}}}", value)
            yield script


def targets(script: str) -> set[Target]:
    """The make commands, without the choice of the Python and of the report's format."""
    commands = re.findall(r"^(?:\w+=\w+ )?make ([^|\n]+)", script, re.MULTILINE)
    return {
        tuple(word for word in shlex.split(command) if re.fullmatch(r"[a-z-]+|[A-Z]+=[a-z]+", word))
        for command in commands
    }


def declared_pythons() -> list[str]:
    """The versions of the classifiers, the oldest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return sorted((text.rpartition(" ")[2] for text in project["classifiers"]), key=Version)


def test_the_workflow_makes_the_targets_of_ci_run_and_an_image_on_its_real_base() -> None:
    made = set[Target]().union(*(targets(text) for job in JOBS.values() for text in scripts(job)))
    assert made == targets(CI_RUN) | {("image",)}
    assert len(made) > 5


def test_both_run_on_each_python_that_is_declared() -> None:
    oldest, *others = declared_pythons()
    assert JOBS["pythons"]["strategy"]["matrix"]["python"] == [oldest, *others]
    assert f"\nmake test-pythons PYTHONS='{' '.join(others)}'\n" in CI_RUN
    assert f"\nPYTHON=$(.ci/python {oldest} || echo python3)\n" in CI_RUN
    assert (
        f'("PYTHON=$(.ci/python {others[-1]} || echo python3)" VENV=.venv-{others[-1]})' in CI_RUN
    )
    chosen = {
        name: step["with"]["python-version"]
        for name, job in JOBS.items()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/setup-python@")
    }
    assert chosen == {
        "oldest": oldest,
        "pythons": "${{ matrix.python }}",
        "stand-in": others[-1],
        "mongodb-8": oldest,
    }


def test_a_python_that_is_missing_fails_its_job() -> None:
    """``make test-pythons`` passes over it."""
    find, make = list(scripts(JOBS["pythons"]))[2:4]
    assert find == ".ci/python 3.11"
    assert make == "make test-pythons PYTHONS=3.11"


def test_the_workflow_may_only_read() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert not [name for name, job in JOBS.items() if "permissions" in job]
    assert "secrets." not in TEXT
    checkouts = [step for step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(JOBS)
    assert all(step["with"] == {"persist-credentials": False} for step in checkouts)


def test_actions_are_pinned_by_commit_and_say_their_version() -> None:
    used = re.findall(r"uses: (.*)$", TEXT, re.MULTILINE)
    assert len(used) == len([step for step in STEPS if "uses" in step])
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    assert len({action.partition("@")[0] for action in used}) == len(set(used))


def test_no_script_holds_what_a_contributor_wrote() -> None:
    """A branch or a title would be run as part of the script."""
    expressions = {
        found for step in STEPS for found in re.findall(r"\${{ (\w+)", step.get("run", ""))
    }
    assert expressions == {"matrix"}


def test_every_job_ends() -> None:
    assert all(job["timeout-minutes"] <= 30 for job in JOBS.values())


def test_mongodb_is_of_the_same_major_version_as_in_compose() -> None:
    image = load("compose.yaml")["services"]["mongo"]["image"]
    major = re.fullmatch(r"mongo:(\d+)\.[\d.]+", image)
    assert major
    [script] = [text for text in scripts(JOBS["mongodb-8"]) if "docker create" in text]
    assert f"docker create mongo:{major[1]})" in script
    assert rf"grep 'db version v{major[1]}\.'" in script


@pytest.mark.parametrize(
    ("ecosystem", "directory"),
    [
        *((name, "/") for name in ("docker", "docker-compose", "github-actions", "pip")),
        ("npm", "/tests/generated"),
    ],
)
def test_updates_are_proposed_once_they_are_a_week_old(ecosystem: str, directory: str) -> None:
    updates = load(".github/dependabot.yml")["updates"]
    [update] = [one for one in updates if one["package-ecosystem"] == ecosystem]
    assert update["directory"] == directory
    assert update["cooldown"]["default-days"] >= 7


def test_a_commit_is_linted_as_ci_does_it() -> None:
    [repository] = load(".pre-commit-config.yaml")["repos"]
    [hook] = repository["hooks"]
    assert tuple(hook["entry"].split()[1:]) in targets(CI_RUN)
    assert hook["pass_filenames"] is False
