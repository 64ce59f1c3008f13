"""Requests that schemathesis makes up from the OpenAPI document, at a running service."""

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
    """Starts a service, asks it whatever the document allows and forbids, and stops it.

    Returns what was found, in a sentence, or None where every answer was one of the document's,
    none was a 5xx, and results still are what the ballots say. What schemathesis prints goes to
    ``report``, or to standard output.
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
        return f"schemathesis ended with {finished.returncode}: see what it printed"
    failed = [line for line in service.log_lines if line.get("status", 0) >= 500]
    if failed:
        return f"answered with {failed[0]}"
    recount = services.run("recount")
    if recount.status != 0:
        return f"results are not what the ballots say: {recount.err}"
    service.terminate()
    return None if service.wait() == 0 else "the service did not stop as it should"
