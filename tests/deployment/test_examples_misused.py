"""The callers in examples/ where no service is, or where they are told something that is not."""

import asyncio
import os
import socket
import sys

import pytest

from tests.support.processes import ROOT

PATIENCE_SECONDS = 30.0
RESULTS = "rest/results?workspace=PLAT&content=PLAT-1"
CALLS = {
    "cast_votes.py": ["{url}", "--request-seconds", "0.2"],
    "erase_a_user.py": ["{url}", "42"],
    "move_polls.py": ["{url}", str(ROOT / "README.md")],
    "run_a_session.py": ["{url}", os.devnull],
    "show_polls.py": ["{url}", "PLAT", "557058:f58131cb", "PLAT-1"],
    "vote_for_a_user.py": ["{url}"],
    "watch_results.py": [f"{{url}}{RESULTS}&pollId=1"],
}
MISTAKES = {
    "a file that is not there": (
        *("move_polls.py", ["{url}", "no-such-file"], 1),
        "[Errno 2] No such file or directory: 'no-such-file'",
    ),
    "results of no poll": (
        *("watch_results.py", [f"{{url}}{RESULTS}"], 2),
        "the URL must name one poll: &pollId=…",
    ),
}


async def run(script: str, options: list[str]) -> tuple[int | None, str]:
    """Its exit status, and what it complained of, beside an address that nobody listens at."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(ROOT / "examples" / script)),
            *(option.format(url=url) for option in options),
            env={"PATH": os.defpath, "POLLS_TOKEN": "polls_1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            said, complained = await process.communicate()
    assert said == b""
    return process.returncode, complained.decode()


def test_all_examples_are_called() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == CALLS.keys()


@pytest.mark.parametrize("script", CALLS)
async def test_one_line_tells_that_no_service_is_there(script: str) -> None:
    status, complained = await run(script, CALLS[script])
    assert status == 1
    assert complained.count("\n") == 1
    assert "Traceback" not in complained


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_named_before_anything_is_sent(mistake: str) -> None:
    script, options, expected, message = MISTAKES[mistake]
    status, complained = await run(script, options)
    assert status == expected
    assert complained.splitlines()[-1].endswith(message)
