"""Running the programs of ``examples/`` as their users start them, and what they called."""

import asyncio
import io
import json
import os
import sys
from typing import Any

from service.telemetry.log import REQUEST_LOG
from tests.conftest import ADMIN, Client
from tests.support.casting import Headers
from tests.support.processes import ROOT

PATIENCE_SECONDS = 60.0


async def run(
    api: Client, script: str, *options: str, who: Headers | None = None
) -> tuple[int | None, str, str]:
    """The exit status of an example, what it said, and what it complained of."""
    token = ADMIN if who is None else who["Authorization"].removeprefix("Bearer ")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "examples" / script), str(api.make_url("")), *options),
        env={"PATH": os.defpath, "POLLS_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        said, complained = await process.communicate()
    return process.returncode, said.decode(), complained.decode()


def calls(api: Client, request_lines: io.BytesIO) -> list[dict[str, Any]]:
    """The lines of the request log so far, which is emptied."""
    api.app[REQUEST_LOG].flush()
    lines = [json.loads(line) for line in request_lines.getvalue().splitlines()]
    request_lines.seek(0)
    request_lines.truncate()
    return lines
