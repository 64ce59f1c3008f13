"""The image that the Dockerfile makes: what is in it, and how it runs as its readers run it."""

import json
import os
import re
import signal
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ADMIN, SECRET
from tests.image.database import a_free_port
from tests.image.engine import Done, Engine
from tests.support.calls import POLL, call, is_refused, place
from tests.support.processes import ROOT, until

# The first test that needs the image waits for debootstrap and pip.
pytestmark = pytest.mark.timeout(1200)

UID = 10001
PACKAGES = ("schemas", "service", "storage")
SECRETS = "/run/secrets"
START_SECONDS = 60.0


# What the builder is sent ---------------------------------------------------------------------

SENT = ["LICENSE", "README.md", "constraints.txt", "pyproject.toml"]
SENT += ["schemas/content.py", "service/app.py", "service/openapi/page/page.js", "storage/store.py"]
KEPT_BACK = [
    *(".git/HEAD", ".env", ".venv/bin/python", ".ci/run", "Dockerfile", "compose.yaml"),
    *("data/secret", "secrets/polls_secret", "tests/conftest.py", "docs/deployment.md"),
    *("a-new-file", "a-new-folder/service", "service/.env", "service/openapi/.env"),
    *("service/__pycache__/app.pyc", "storage/deep/in/__pycache__/it.pyc"),
]


def test_the_builder_is_sent_what_the_dockerfile_copies_and_nothing_else(
    engine: Engine, tmp_path: Path
) -> None:
    context, received = tmp_path / "context", tmp_path / "received"
    for name in (*SENT, *KEPT_BACK):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("content")
    everything = tmp_path / "Everything"
    everything.write_text("FROM scratch\nCOPY . /\n")
    built = engine.build(
        context,
        *("--file", str(everything), "--ignorefile", str(ROOT / ".dockerignore")),
        *("--output", f"type=local,dest={received}"),
    )
    assert built.returncode == 0, built.stderr
    found = {path.relative_to(received) for path in received.rglob("*") if path.is_file()}
    assert found == {Path(name) for name in SENT}


# What the image says of itself ----------------------------------------------------------------


def test_the_image_serves_as_a_numbered_user_and_holds_no_secret(
    engine: Engine, image: str
) -> None:
    found = engine.inspect("image", image)
    config = found["Config"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert config["Entrypoint"] == ["python", "-m", "service"]
    assert config["Cmd"] == ["serve"]
    assert "Volumes" not in config
    variables = dict(variable.split("=", 1) for variable in config["Env"])
    assert variables.keys() == {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "POLLS_HOST"}
    assert variables["POLLS_HOST"] == "0.0.0.0"
    # Kubernetes and Docker look for it here; an image in the OCI format would have lost it.
    assert found["Healthcheck"]["Test"][:2] == ["CMD", "python"]


# A container ----------------------------------------------------------------------------------


@dataclass
class Container:
    """The image, started; what is done in it is done by ``podman exec``."""

    engine: Engine
    name: str
    url: str

    def exec(self, *command: str) -> Done:
        return self.engine.podman("exec", self.name, *command)

    def is_healthy(self) -> bool:
        """Runs the image's own health check in the container."""
        return self.engine.podman("healthcheck", "run", self.name).returncode == 0

    @property
    def state(self) -> Any:
        return self.engine.inspect("container", self.name)["State"]

    @property
    def log(self) -> str:
        logs = self.engine.podman("logs", self.name)
        return logs.stdout + logs.stderr

    @property
    def root(self) -> Path:
        """Its root file system, as this machine sees it."""
        return Path(self.engine.podman("mount", self.name).stdout.strip())


@pytest.fixture
def container(engine: Engine, image: str, mongodb_uri: str, tmp_path: Path) -> Iterator[Container]:
    """Serves on ``mongodb_uri``, with its secrets from files that only its group may read."""
    files = {"mongodb_uri": mongodb_uri, "polls_secret": SECRET, "polls_admin_token": ADMIN}
    environment = {f"{name.upper()}_FILE": f"{SECRETS}/{name}" for name in files}
    for name, content in files.items():
        path = tmp_path / name
        path.write_text(f"{content}\n")
        os.chown(path, 0, UID)
        path.chmod(0o440)
    port = a_free_port()
    started = engine.run(
        image,
        options=("--detach", "--name", "polls"),
        # Nothing here listens where another machine could reach it.
        environment={**environment, "POLLS_HOST": "127.0.0.1", "POLLS_PORT": str(port)},
        files={f"{SECRETS}/{name}": tmp_path / name for name in files},
    )
    try:
        assert started.returncode == 0, started.stderr
        container = Container(engine, "polls", f"http://127.0.0.1:{port}")
        until(
            lambda: "Serving on " in container.log or not container.state["Running"],
            "the start",
            within=START_SECONDS,
        )
        assert container.state["Running"], container.log
        yield container
    finally:
        engine.podman("rm", "--force", "polls").check_returncode()


def test_the_image_serves_votes_and_ends_on_sigterm_with_status_0(container: Container) -> None:
    url = container.url
    assert call(url, "GET", "/readyz").status == 200
    poll = call(url, "POST", place(), token=ADMIN, body=POLL).data
    made = container.exec(
        *("python", "-m", "service", "token", "create", "--name", "seven", "--user", "7"),
        *("--workspace", "PLAT", "--action", "read", "--action", "vote"),
    )
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    votes = place(pollId=poll["id"]).replace("type=polls", "type=votes")
    body = {"optionIds": [poll["options"][0]["id"]]}
    assert call(url, "POST", votes, token=token, body=body).status == 200
    assert call(url, "POST", votes, token=token, body=body).status == 409
    [counted] = call(url, "GET", place(pollId=poll["id"], expand="results"), token=ADMIN).data
    assert counted["results"]["votes"] == 1
    recounted = container.exec("python", "-m", "service", "recount").stdout
    assert recounted.endswith("Sessions: 1. Ballots: 1. Differences: 0.\n")
    container.engine.podman("stop", "--time", "60", container.name).check_returncode()
    assert is_refused(url)
    assert (container.state["Status"], container.state["ExitCode"]) == ("exited", 0)
    # What Docker shows of a container is no place for a secret, nor is its log.
    shown = container.log + json.dumps(container.engine.inspect("container", container.name))
    assert not any(secret in shown for secret in (ADMIN, SECRET, token))


def test_the_container_is_healthy_while_it_answers_and_only_then(container: Container) -> None:
    assert container.is_healthy()
    pid = container.state["Pid"]
    os.kill(pid, signal.SIGSTOP)
    assert not container.is_healthy()
    os.kill(pid, signal.SIGCONT)
    assert container.is_healthy()


def test_the_container_has_no_rights_and_writes_nowhere(container: Container) -> None:
    status = Path(f"/proc/{container.state['Pid']}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert (fields["Uid"].split(), fields["Gid"].split()) == ([str(UID)] * 4, [str(UID)] * 4)
    for capabilities in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(fields[capabilities], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    for path in ("/new", "/tmp/new", "/opt/polls/new"):
        written = container.exec("python", "-c", f"open({path!r}, 'w')")
        assert "Read-only file system" in written.stderr


def test_the_image_holds_what_the_service_needs_at_the_pinned_versions(
    container: Container,
) -> None:
    listed = container.exec(
        *("/opt/polls/bin/python", "-c"),
        "from importlib.metadata import distributions as all;"
        "print(*(f'{one.name}=={one.version}' for one in all(path=['/opt/polls/lib/'"
        "f'python3.{__import__(\"sys\").version_info[1]}/site-packages'])))",
    )
    assert listed.returncode == 0, listed.stderr
    found = {pin.lower().replace("_", "-") for pin in listed.stdout.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = f"polls-service=={project['version']}"
    assert own in found
    pinned = set((ROOT / "constraints.txt").read_text().lower().replace("_", "-").split())
    assert found - {own} <= pinned
    names = {pin.partition("==")[0] for pin in found}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["speed"]]
    assert {re.split(r"[<>=!~ \[;]", text)[0].lower() for text in wanted} <= names
    assert not {"pip", "setuptools", "pytest", "mypy", "ruff", "secantusdb"} & names


def test_the_image_holds_every_file_of_the_packages_and_no_other_of_the_repository(
    container: Container,
) -> None:
    def files(root: Path) -> set[Path]:
        return {
            path.relative_to(root)
            for package in PACKAGES
            for path in (root / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    [libraries] = (container.root / "opt/polls").glob("lib/python*/site-packages")
    assert files(libraries) == files(ROOT)
    tops = {path.name for path in libraries.iterdir()}
    assert not {"tests", "bench", "examples", "docs", ".git"} & tops
    # Neither this machine's pip settings nor what the build was made in is left behind.
    assert not (container.root / "build").exists()
    assert not (container.root / "etc/pip.conf").exists()


def test_a_container_without_a_database_says_in_one_sentence_what_it_needs(
    engine: Engine, image: str
) -> None:
    refused = engine.run(image, options=("--rm",), environment={}, files={})
    assert refused.returncode == 1
    [sentence] = refused.stderr.splitlines()
    assert "set MONGODB_URI" in sentence
