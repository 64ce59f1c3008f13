"""buildah and podman as root, without a daemon, on a storage of their own."""

import ast
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_OPTIONS = (
    "default-timeout",
    "extra-index-url",
    "index-url",
    "proxy",
    "timeout",
    "trusted-host",
)
"""What a build needs to know of this machine's pip; local directories cannot be seen from there."""
BUILD_SECONDS = 400
RUN_SECONDS = 90
MAX_FILES = 20_000
MAX_PROCESSES = 4_096

Done = subprocess.CompletedProcess[str]


class Engine:
    """Builds images and runs containers, all of them below one directory."""

    def __init__(self, home: Path) -> None:
        self._home = home
        # The path of a socket in it may have 108 characters.
        self._state = Path(tempfile.mkdtemp(prefix="image-"))
        self._storage = ["--root", str(home / "storage"), "--runroot", str(self._state / "run")]

    def import_base(self, archive: Path, name: str) -> None:
        self.podman("import", str(archive), name).check_returncode()

    def build(self, context: Path, *options: str) -> Done:
        """As ``make image`` does it, from the images that are here."""
        settings = self._home / "pip.conf"
        settings.write_text(pip_settings())
        mounts = {settings: "/etc/pip.conf", certificates(): str(CERTIFICATES)}
        return self._run(
            *("buildah", *self._storage, "build", "--pull=false"),
            *(f"--volume={source}:{target}:ro" for source, target in mounts.items()),
            *options,
            str(context),
            seconds=BUILD_SECONDS,
            BUILDAH_FORMAT="docker",
            BUILDAH_ISOLATION="chroot",
        )

    def podman(self, *arguments: str) -> Done:
        return self._run(
            *("podman", *self._storage, "--tmpdir", str(self._state / "tmp")),
            *("--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"),
            *arguments,
            seconds=RUN_SECONDS,
            # Or it looks for a systemd to ask for the health of a container.
            DISABLE_HC_SYSTEMD="true",
        )

    def inspect(self, kind: str, name: str) -> Any:
        done = self.podman(kind, "inspect", name)
        assert done.returncode == 0, done.stderr
        [found] = json.loads(done.stdout)
        return found

    def run(
        self,
        image: str,
        *arguments: str,
        options: tuple[str, ...],
        environment: Mapping[str, str],
        files: Mapping[str, Path],
    ) -> Done:
        """A container as the deployment guide wants it, on the network of this machine.

        ``files`` are mounted read-only, by their paths in the container.
        """
        return self.podman(
            *("run", "--network", "host", "--read-only", "--read-only-tmpfs=false"),
            *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
            # As in compose.yaml.
            *("--memory", "512m", "--pids-limit", "256"),
            *("--log-driver", "k8s-file"),
            # The defaults are more than a container within a container may have.
            *("--ulimit", f"nofile={most(resource.RLIMIT_NOFILE, MAX_FILES)}"),
            *("--ulimit", f"nproc={most(resource.RLIMIT_NPROC, MAX_PROCESSES)}"),
            *(f"--env={name}={value}" for name, value in environment.items()),
            *(f"--volume={source}:{target}:ro" for target, source in files.items()),
            *options,
            image,
            *arguments,
        )

    def clear_away(self) -> None:
        removed = self.podman("rm", "--all", "--force")
        subprocess.run(
            ["rm", "-r", "--one-file-system", str(self._home), str(self._state)], check=True
        )
        assert removed.returncode == 0, removed.stderr

    def _run(self, *command: str, seconds: float, **environment: str) -> Done:
        return subprocess.run(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )


def most(kind: int, wanted: int) -> int:
    """As much of a limit as this process may pass on."""
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)


def pip_settings() -> str:
    """A pip.conf with what leads this machine's pip to an index over the network."""
    lines = ["[global]", f"cert = {CERTIFICATES}"]
    for name, value in _pip_options().items():
        words = [word for word in value.split() if not word.startswith(("/", "file:"))]
        if name in PIP_OPTIONS and words:
            lines.append(f"{name} = {' '.join(words)}")
    return "\n".join(lines) + "\n"


def certificates() -> Path:
    """The certificates of this machine, those of a proxy that looks into TLS among them."""
    return Path(_pip_options().get("cert", CERTIFICATES))


def _pip_options() -> dict[str, str]:
    """Of the environment, else of the configuration files."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found = re.findall(r"^(global|:env:)\.([\w-]+)=(.+)$", listed.stdout, re.MULTILINE)
    options: dict[str, dict[str, str]] = {"global": {}, ":env:": {}}
    for section, name, value in found:
        options[section][name] = ast.literal_eval(value)
    return options["global"] | options[":env:"]
