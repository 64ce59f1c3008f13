"""Runs schemathesis, which generates requests from the OpenAPI document, against a service."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ADMIN
from tests.support.processes import ROOT, Services

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"


def fuzz(services: Services, options: Sequence[str], report: Path | None = None) -> str | None:
    """Starts a service, sends it requests that the document allows and forbids, and stops it.

    Returns what it found, in a sentence, or None if the document describes every answer, none was a
    5xx, and the results still match the ballots. The output of schemathesis goes to ``report``, or
    to standard output.
    """
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_BAD_TOKEN_RATE="off")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run"),
        f"{service.url}/openapi.json",
        *("--header", f"Authorization: Bearer {ADMIN}", "--checks", "all", "--warnings", "off"),
        *options,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FUZZED_URL": service.url,
        "POLLS_ADMIN_TOKEN": ADMIN,
    }
    with report.open("wb") if report else contextlib.nullcontext() as output:
        finished = subprocess.run(
            command, cwd=services.home, env=environment, stdout=output, check=False
        )
    if finished.returncode != 0:
        return f"schemathesis exited with {finished.returncode}: see its output"
    failed = [line for line in service.log_lines if line.get("status", 0) >= 500]
    if failed:
        return f"the service answered with {failed[0]}"
    recount = services.run("recount")
    if recount.status != 0:
        return f"the results do not match the ballots: {recount.err}"
    service.terminate()
    return None if service.wait() == 0 else "the service did not exit with 0"
