"""The commands of README.md and docs/ are run, top to bottom, and print what the pages say.

A block marked ``sh`` is run; the ``text`` or ``json`` block right after it is what it printed. A
block marked ``console`` is not run: it needs what a test has not.
"""

import json
import os
import re
import stat
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from schemas.content import NEW_POLL, SettingsSchema
from schemas.responses import POLL
from service.polling.paths import API
from service.routes import ROUTES
from service.settings import Settings
from tests.support import engine
from tests.support.processes import ROOT, Service, Services

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PAPERS = [*PAGES, *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))]
CONTRACT = (ROOT / "docs" / "api.md").read_text()
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(
    r"^```sh\n(.*?)^```\n(?:\n```(?:text|json)\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)
START = "make run\n"
ADDRESS = f"http://{Settings().host}:{Settings().port}"
END = "--- end of a block ---"
MAX_README_LINES = 250

VARYING = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "UUID",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "TIME",
    r"polls_([\w-]{43}|…)": "TOKEN",
    # A session or a poll has a small number, a submission one that nobody can guess.
    r"\b\d{10,16}\b": "NUMBER",
    r"\d+\.\d s\b": "SECONDS",
    r"(?m)^\d+ attempts": "ATTEMPTS",
    r"(?m)^ +\d+(?= (Tea|Coffee|Neither)$)": "VOTES",
    # Which engine runs here, and where.
    r"Store: .*": "STORE",
    # Of the CSV: how its lines end, and the mark at its begin.
    r"\r\n": "\n",
    "\N{ZERO WIDTH NO-BREAK SPACE}": "",
    r'"revision": "[0-9a-f]{20}"': '"revision": ""',
}


class Step(NamedTuple):
    """Commands, and what the page says that they print; None where it says nothing."""

    commands: str
    printed: str | None


def steps_of(page: Path) -> list[Step]:
    return [Step(found[1], found[2]) for found in STEP.finditer(page.read_text())]


def comparable(text: str) -> object:
    """Without what differs from run to run; JSON as the value that it is."""
    for pattern, name in VARYING.items():
        text = re.sub(pattern, name, text)
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("\n")


def run(steps: list[Step], service: Service, home: Path) -> list[str]:
    """What each step printed, in one shell in ``home``; fails where a command does."""
    python = home / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(stat.S_IRWXU)
    (home / "examples").symlink_to(ROOT / "examples")
    script = "".join(f"{step.commands}\necho; echo '{END}'\n" for step in steps)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(ADDRESS, service.url)],
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "POLLS_DATA_DIR": str(home / "data"),
            **engine.environment(),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    *printed, rest = done.stdout.replace(service.url, ADDRESS).split(f"\n{END}\n")
    assert rest == ""
    return printed


@pytest.mark.parametrize(
    "page", [page for page in PAGES if steps_of(page)], ids=lambda page: page.name
)
def test_the_commands_of_a_page_print_what_it_says(page: Path, services: Services) -> None:
    steps = steps_of(page)
    service = services.start()
    if steps[0].commands == START:
        said = service.output.replace(service.url, ADDRESS)
        assert comparable(said) == comparable(steps.pop(0).printed or "")
    for step, printed in zip(steps, run(steps, service, services.home), strict=True):
        if step.printed is None:
            assert printed.strip() == "", f"the page does not show what this prints: {step}"
        else:
            assert comparable(printed) == comparable(step.printed), step.commands


CODE = re.compile(r"^( *)```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
ROUTE = re.compile(r"`((?:GET|POST|PUT|DELETE)(?:, [A-Z]+)*) (/[^?`]*)")
UNPREFIXED = (
    *("/rest", "/tokens", "/p/", "/users/:id/data", "/erasures", "/audit"),
    *("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"),
)
PATH = re.compile(r"`((?:service|schemas|storage|tests|bench|deploy|examples)/[\w/.-]*)`")


def test_the_walk_to_a_new_endpoint_shows_code_that_is_there() -> None:
    [(_, code)] = CODE.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert textwrap.dedent(code) in (ROOT / "service" / "content" / "polls.py").read_text()


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    if page.name != "CHANGELOG.md":  # that one also names what was
        missing = [path for path in PATH.findall(page.read_text()) if not (ROOT / path).exists()]
        assert missing == []


def test_the_contract_has_every_route_and_no_other() -> None:
    documented = {
        (method, path if path == "/" or path.startswith(UNPREFIXED) else f"{API}{path}")
        for methods, path in ROUTE.findall(CONTRACT)
        for method in methods.split(", ")
    }
    routes = {
        (method, re.sub(r"\{(\w+)\}", r":\1", path))
        for path, methods in ROUTES.items()
        for method in methods
    }
    beside = {("GET", "/docs/:asset"), ("GET", "/pages/:file"), ("GET", f"{API}/users/self")}
    assert documented - beside == routes - beside


def test_the_contract_shows_a_poll_that_can_be_sent() -> None:
    blocks = re.findall(r"^```json\n(.*?)^```$", CONTRACT, re.MULTILINE | re.DOTALL)
    [poll] = [block for block in map(json.loads, blocks) if "settings" in block]
    assert NEW_POLL.validate(poll) == {}
    assert poll.keys() == POLL.fields.keys()
    assert poll["settings"].keys() == SettingsSchema().fields.keys() - {"retention"}  # where set


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def test_the_readme_names_the_version_and_the_pythons_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = [text.rpartition(" ")[2] for text in project["classifiers"]]
    status = README.read_text().partition("**Status:**")[2].partition("\n\n")[0]
    assert f"version {project['version']} " in status
    assert f"Python {pythons[0]} to {pythons[-1]} " in status


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [newest, *_] = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.fullmatch(re.escape(project["version"]) + r" \(\d{4}-\d\d-\d\d\)", newest)


LINK = re.compile(r"\]\(\s*(?!https?:)([^)\s]+)\s*\)|^\[[^\]]+\]: (?!https?:)(\S+)$", re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """The fragments under which a forge shows the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.name)
def test_every_link_to_this_repository_leads_somewhere(page: Path) -> None:
    for found in LINK.finditer(page.read_text()):
        path, _, fragment = unquote(found[1] or found[2]).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), found[0]
        if fragment:
            assert fragment in anchors_of(target), found[0]


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.name)
def test_text_is_wrapped_at_100_columns(page: Path) -> None:
    """Tables, links and what was printed are as long as they must be."""
    text = FENCE.sub("", page.read_text())
    long = [line for line in text.splitlines() if len(line) > 100]
    assert [line for line in long if not line.startswith("|")] == []
