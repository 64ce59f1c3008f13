"""A stand-in for the Dockerfile's base image, made by debootstrap and kept between runs.

It has the suite of the real one and that suite's own Python, so no registry of images is needed.
"""

import os
import platform
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from tests.support.processes import ROOT

PROGRAMS = ("buildah", "debootstrap", "podman", "runc")
PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")
DEBOOTSTRAP_SECONDS = 600
MIRROR_SECONDS = 10

DOCKERFILE = re.sub(r"@sha256:[0-9a-f]{64}", "", (ROOT / "Dockerfile").read_text())
"""Without the digest of its base, where it has one: the stand-in has another."""
[NAME] = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
"""What both stages begin with, as ``python:3.11.14-slim-bookworm``."""
SUITE = NAME.rpartition("-")[2]


def is_root_on_debian() -> bool:
    return os.getuid() == 0 and _release("ID") == "debian"


def what_is_missing() -> str | None:
    """A sentence that says why no image can be built here; None where one can be."""
    if not is_root_on_debian():
        return "An image is built only as root on Debian."
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"Programs are missing: apt-get install {' '.join(absent)}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "Root may not mount file systems here."
    return None if _kept().exists() else _what_the_mirror_lacks()


def base_archive() -> Path:
    """The root file system of the base as a tar file; made where none is kept."""
    kept = _kept()
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="base-", dir=kept.parent) as directory:
            _make(Path(directory) / "root", Path(directory) / kept.name)
            (Path(directory) / kept.name).replace(kept)
    return kept


def _kept() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "polls-service" / f"base-{SUITE}-{platform.machine()}.tar"


def _make(root: Path, archive: Path) -> None:
    mirror = _mirror()
    assert mirror is not None
    include = f"--include={','.join(PACKAGES)}"
    _run("debootstrap", "--variant=minbase", include, SUITE, str(root), mirror)
    # As in the official image, where pip may install into the one Python that there is.
    (root / "usr/bin/python").symlink_to("python3")
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    for downloads in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / downloads)
    _run("tar", "--directory", str(root), "--create", "--file", str(archive), ".")


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=DEBOOTSTRAP_SECONDS
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])


def _mirror() -> str | None:
    """The mirror that apt is configured with for this release of Debian."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)"],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = [_release("VERSION_CODENAME"), "main"]
    for line in targets.stdout.splitlines():
        site, *rest = line.split()
        if rest == wanted:
            return site
    return None


def _what_the_mirror_lacks() -> str | None:
    mirror = _mirror()
    if mirror is None:
        return "apt is configured with no mirror of Debian."
    address = f"{mirror}/dists/{SUITE}/InRelease"
    try:
        with urllib.request.urlopen(address, timeout=MIRROR_SECONDS):
            return None
    except OSError as error:
        return f"apt's mirror does not answer: {address}: {error}"


def _release(name: str) -> str:
    try:
        return platform.freedesktop_os_release().get(name, "")
    except OSError:
        return ""
