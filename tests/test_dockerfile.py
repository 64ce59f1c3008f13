"""The Dockerfile, step by step, without Docker: in clean directories, and never as root.

Only paths are adapted: what the image has in ``/opt/polls`` is below a directory of the test.
"""

import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.calls import POLL, call, place
from tests.conftest import ADMIN, SECRET
from tests.processes import ROOT, until

# The first test that needs the image waits for what pip installs.
pytestmark = pytest.mark.timeout(400)

UID = 10001
OWN_PATHS = ("/opt/polls", "/build")
PACKAGES = ("schemas", "service", "storage")
INSTALL_SECONDS = 300


class Step(NamedTuple):
    """One instruction: ``RUN``, and what stands behind it."""

    verb: str
    text: str


def read_steps(text: str) -> list[Step]:
    """The instructions of a Dockerfile, with continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        Step(verb.upper(), rest.strip())
        for verb, _, rest in (line.strip().partition(" ") for line in joined.splitlines())
        if verb
    ]


def stages() -> list[list[Step]]:
    """The steps of each stage, its ``FROM`` first."""
    found: list[list[Step]] = []
    for step in read_steps((ROOT / "Dockerfile").read_text()):
        if step.verb == "FROM":
            found.append([])
        found[-1].append(step)
    return found


BUILD, IMAGE = stages()


def only(stage: list[Step], verb: str) -> str:
    [text] = [step.text for step in stage if step.verb == verb]
    return text


def environment_of(stage: list[Step]) -> dict[str, str]:
    pairs = [word for step in stage if step.verb == "ENV" for word in shlex.split(step.text)]
    return dict(word.split("=", 1) for word in pairs)


def health_command() -> list[str]:
    command: list[str] = json.loads(only(IMAGE, "HEALTHCHECK").partition(" CMD ")[2])
    return command


# What the builder is sent ---------------------------------------------------------------------


def is_sent(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore lets a file through: the last pattern that fits it, or a directory
    that it is in, decides."""
    parts = path.split("/")
    names = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    sent = True
    for pattern in patterns:
        expression = _expression(pattern.removeprefix("!").strip("/"))
        if any(re.fullmatch(expression, name) for name in names):
            sent = pattern.startswith("!")
    return sent


def _expression(pattern: str) -> str:
    escaped = re.escape(pattern)
    return escaped.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


@pytest.fixture(scope="module")
def patterns() -> list[str]:
    lines = map(str.strip, (ROOT / ".dockerignore").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_the_builder_is_sent_nothing_unless_it_is_named(patterns: list[str]) -> None:
    assert patterns[0] == "*"
    for path in (
        *(".git/HEAD", ".env", ".venv/bin/python", ".ci/run", "Dockerfile", "compose.yaml"),
        *("data/secret", "data/store/WiredTiger", "tests/conftest.py", "bench/__main__.py"),
        *("docs/deployment.md", "examples/cast_votes.py", "a-new-file", "a-new-folder/service"),
        *("service/.env", "service/docs/.env", "service/__pycache__/app.cpython-311.pyc"),
        "storage/deep/in/__pycache__/it.pyc",
    ):
        assert not is_sent(path, patterns), path
    for path in ("pyproject.toml", "service/app.py", "service/docs/page.html"):
        assert is_sent(path, patterns), path


def test_everything_that_is_copied_is_sent_and_everything_that_is_sent_is_copied(
    patterns: list[str],
) -> None:
    copied = {
        word.removeprefix("./")
        for step in BUILD
        if step.verb == "COPY"
        for word in step.text.split()[:-1]
    }
    assert copied == {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


# What can be told from the text ---------------------------------------------------------------


def test_both_stages_begin_with_the_same_pinned_slim_python() -> None:
    images = [stage[0].text.partition(" AS ")[0] for stage in (BUILD, IMAGE)]
    assert images[0] == images[1]
    found = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-[a-z]+", images[0])
    assert found, images[0]
    assert int(found[1]) >= 11


def test_the_image_gets_nothing_but_the_environment_and_runs_nothing_as_root() -> None:
    assert [step.verb for step in IMAGE] == [
        *("FROM", "ENV", "COPY", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")
    ]
    assert only(IMAGE, "COPY") == "--from=build /opt/polls /opt/polls"
    assert only(IMAGE, "USER") == f"{UID}:{UID}"


def test_the_container_listens_on_all_its_addresses_and_gets_signals_itself() -> None:
    assert environment_of(IMAGE)["POLLS_HOST"] == "0.0.0.0"
    assert "POLLS_PORT" not in environment_of(IMAGE)
    assert only(IMAGE, "EXPOSE") == "8080"
    for verb in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(only(IMAGE, verb)), list)  # no shell stands before it


def test_whatever_is_installed_is_pinned() -> None:
    for text in [step.text for step in BUILD if step.verb == "RUN" and "pip " in step.text]:
        from_index = " install " in f" {text} " and "--no-index" not in text
        assert ("--constraint constraints.txt" in text) == from_index, text
        # An environment of its own for the build would know no constraints.
        assert ("--no-build-isolation" in text) == (" wheel " in text), text


def test_no_secret_is_built_in() -> None:
    for stage in (BUILD, IMAGE):
        assert not {"POLLS_SECRET", "POLLS_ADMIN_TOKEN", "MONGODB_URI"} & set(environment_of(stage))
        assert not [step for step in stage if step.verb == "ARG"]


# The steps, performed -------------------------------------------------------------------------


@dataclass
class Machine:
    """A directory that stands for a root of files, and the processes that run on it."""

    root: Path
    context: Path
    python: Path
    pip: dict[str, str]
    uses_pip: bool
    directory: str = "/"
    environment: dict[str, str] = field(default_factory=dict)

    def place_of(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def adapted(self, text: str) -> str:
        for own in OWN_PATHS:
            text = re.sub(rf"(?<![\w/]){own}(?![\w-])", str(self.place_of(own)), text)
        return text

    def perform(self, step: Step, others: dict[str, "Machine"]) -> None:
        """Does one step as the builder would; fails where it does not know how."""
        match step.verb:
            case "FROM":
                # The base image: a Python alone, and pip where it is used.
                local = str(self.place_of("/usr/local"))
                pip = [] if self.uses_pip else ["--without-pip"]
                self.run([str(self.python), "-m", "venv", *pip, local])
                self.environment["PATH"] = f"{self.place_of('/usr/local/bin')}:{os.defpath}"
            case "ENV":
                for name, value in environment_of([step]).items():
                    known = value.replace("$PATH", self.environment["PATH"])
                    self.environment[name] = self.adapted(known)
            case "WORKDIR":
                self.directory = step.text
                self.run(["mkdir", "-p", str(self.place_of(step.text))], directory="/")
            case "COPY":
                self._copy(step.text, others)
            case "RUN":
                self.run(["sh", "-c", self.adapted(step.text)], environment=self.pip)
            case _:
                raise AssertionError(f"this test does not know how to perform {step}")

    def _copy(self, text: str, others: dict[str, "Machine"]) -> None:
        *sources, target = text.split()
        source = self.context
        if sources[0].startswith("--from="):
            source = others[sources.pop(0).removeprefix("--from=")].root
        target_path = self.place_of(os.path.join(self.directory, target))  # noqa: PTH118 - theirs
        for name in sources:
            found = source / name.lstrip("/")
            assert found.exists(), f"{name} is copied and not there"
            # A directory's content is copied, a file by its name.
            into = target_path if found.is_dir() else target_path / found.name
            self.run(["mkdir", "-p", str(into if found.is_dir() else into.parent)], directory="/")
            self.run(["cp", "-a", f"{found}/." if found.is_dir() else str(found), str(into)])

    def run(
        self,
        command: list[str],
        *,
        environment: dict[str, str] | None = None,
        directory: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.place_of(directory or self.directory),
            env={**(environment or {}), **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_SECONDS,
            **nobody(),
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done


def nobody() -> dict[str, Any]:
    """Arguments of ``subprocess`` that make a process the user of the image, if this is root."""
    if os.getuid() != 0:
        return {}
    return {"user": UID, "group": UID, "extra_groups": []}


def runs(command: list[str]) -> bool:
    with suppress(OSError):
        return subprocess.run(command, check=False, cwd="/", **nobody()).returncode == 0
    return False


def a_python() -> Path:
    """A Python of this machine that the user of the image may run; root's own often is none."""
    found = (shutil.which("python3", path=path) for path in (os.environ["PATH"], os.defpath))
    candidates = [sys._base_executable, *filter(None, found)]  # type: ignore[attr-defined]
    for candidate in candidates:
        if runs([candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]):
            return Path(candidate)
    raise AssertionError(f"none of {candidates} is a Python 3.11 that user {UID} may run")


def pip_settings(home: Path) -> dict[str, str]:
    """What pip is told on this machine, where a user without a home can read it."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    sections: dict[str, list[str]] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        if section != ":env:":
            text = str(value).strip("'\"").replace("\\n", "\n    ")
            sections.setdefault(section, []).append(f"{option} = {text}")
    config = home / "pip.conf"
    config.write_text(
        "\n".join(f"[{name}]\n" + "\n".join(lines) for name, lines in sections.items()) + "\n"
    )
    config.chmod(0o644)
    given = {name: text for name, text in os.environ.items() if name.startswith("PIP_")}
    given.pop("PIP_CONSTRAINT", None)  # ours, where make runs the tests; the Dockerfile has its own
    proxies = {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy")}
    return {**given, **proxies, "PIP_CONFIG_FILE": str(config), "HOME": str(home)}


@pytest.fixture(scope="module")
def image(patterns: list[str]) -> Iterator[Machine]:
    """The last stage with its steps done; all that led to it is gone."""
    # Below a directory that is root's alone nobody else could do anything.
    home = Path(tempfile.mkdtemp(prefix="image-"))
    try:
        home.chmod(0o755)
        context = home / "context"
        send(context, patterns)
        machines: dict[str, Machine] = {}
        python, pip = a_python(), pip_settings(home)
        for name, stage in (("build", BUILD), ("image", IMAGE)):
            uses_pip = any(step.verb == "RUN" for step in stage)
            machine = Machine(home / name, context, python, pip, uses_pip)
            machine.root.mkdir()
            if nobody():
                os.chown(machine.root, UID, UID)
            for step in stage:
                if step.verb not in ("USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"):
                    machine.perform(step, machines)
            machines[name] = machine
        shutil.rmtree(context)
        shutil.rmtree(machines["build"].root)
        # As in a container whose root is read-only.
        subprocess.run(["chmod", "-R", "a-w", str(machine.root)], check=True)
        yield machine
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(home)], check=True)
        shutil.rmtree(home)


def send(context: Path, patterns: list[str]) -> None:
    """Copies to the builder what .dockerignore lets through."""
    for top in ROOT.iterdir():
        paths = [top] if top.is_file() else top.rglob("*") if is_sent(top.name, patterns) else []
        for path in paths:
            name = path.relative_to(ROOT).as_posix()
            if path.is_file() and is_sent(name, patterns):
                (context / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, context / name)


def libraries(image: Machine) -> Path:
    [found] = image.place_of("/opt/polls").glob("lib/python*/site-packages")
    return found


def test_the_image_holds_what_the_service_needs_at_the_pinned_versions(image: Machine) -> None:
    known = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().splitlines()
    )
    found = {
        name.lower().replace("_", "-"): version
        for name, version in (
            path.name.removesuffix(".dist-info").split("-")
            for path in libraries(image).glob("*.dist-info")
        )
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found.pop("polls-service") == project["version"]
    pinned = {name.replace("_", "-"): version for name, version in known.items()}
    assert found == {name: pinned[name] for name in found}
    wanted = {re.split(r"[<>=!~ \[;]", text)[0].lower() for text in project["dependencies"]}
    assert wanted <= found.keys()
    assert not {"pip", "setuptools", "pytest", "mypy", "ruff", "secantusdb"} & found.keys()


def test_the_image_holds_every_file_of_the_packages_and_no_other_of_the_repository(
    image: Machine,
) -> None:
    def files(root: Path) -> set[str]:
        return {
            path.relative_to(root).as_posix()
            for package in PACKAGES
            for path in (root / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(libraries(image)) == files(ROOT)
    tops = {path.name for path in libraries(image).iterdir()}
    assert not {"tests", "bench", "examples", "docs", ".git"} & tops


@dataclass
class Container:
    """The image, running."""

    image: Machine
    port: int
    environment: dict[str, str]
    said: Path

    def begin(self) -> subprocess.Popen[bytes]:
        command = json.loads(only(IMAGE, "ENTRYPOINT")) + json.loads(only(IMAGE, "CMD"))
        with self.said.open("wb") as said:
            return subprocess.Popen(
                command,
                # Popen looks a program up in its own PATH.
                executable=shutil.which(command[0], path=self.environment["PATH"]),
                cwd=self.image.place_of(self.image.directory),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                **nobody(),
            )

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            executable=shutil.which(command[0], path=self.environment["PATH"]),
            cwd=self.image.place_of(self.image.directory),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            **nobody(),
        )
        return done


@pytest.fixture
def container(image: Machine, mongodb_uri: str, tmp_path: Path) -> Container:
    port = a_free_port()
    given = {
        "MONGODB_URI": mongodb_uri,
        "POLLS_SECRET": SECRET,
        "POLLS_ADMIN_TOKEN": ADMIN,
        "POLLS_PORT": str(port),
        # Nothing here listens where another machine could reach it.
        "POLLS_HOST": "127.0.0.1",
    }
    return Container(image, port, {**image.environment, **given}, tmp_path / "said")


def a_free_port() -> int:
    """One below those that the kernel gives out, so that nobody else gets it meanwhile."""
    while True:
        with closing(socket.socket()) as probe, suppress(OSError):
            port = random.randrange(20_000, 32_000)
            probe.bind(("127.0.0.1", port))
            return port


def test_the_container_serves_is_found_healthy_and_ends_on_sigterm(container: Container) -> None:
    assert container.run(health_command()).returncode != 0  # nothing runs yet
    process = container.begin()
    try:
        until(
            lambda: b"Serving on " in container.said.read_bytes() or process.poll() is not None,
            "the start",
        )
        assert process.poll() is None, container.said.read_text()
        if nobody():
            assert Path(f"/proc/{process.pid}").stat().st_uid == UID
        url = f"http://127.0.0.1:{container.port}"
        healthy = container.run(health_command())
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert call(url, "GET", "/readyz").status == 200
        assert call(url, "POST", place(), token=ADMIN, body=POLL).status == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert container.run(health_command()).returncode != 0
    assert '"route":"/readyz"' in container.said.read_text()


def test_a_container_that_accepts_and_does_not_answer_is_not_healthy(container: Container) -> None:
    with closing(socket.create_server(("127.0.0.1", container.port))):
        sick = container.run(health_command())
    assert sick.returncode != 0
    assert "timed out" in sick.stderr


def test_commands_are_given_in_place_of_the_default_one(container: Container) -> None:
    entrypoint = json.loads(only(IMAGE, "ENTRYPOINT"))
    made = container.run([*entrypoint, "token", "create", "--name", "ci", "--user", "7"])
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("polls_")


def test_a_container_without_a_database_says_in_one_sentence_what_it_needs(
    container: Container,
) -> None:
    del container.environment["MONGODB_URI"]
    refused = container.run([*json.loads(only(IMAGE, "ENTRYPOINT")), "serve"])
    assert refused.returncode == 1
    [sentence] = refused.stderr.splitlines()
    assert "set MONGODB_URI" in sentence
