"""All contenders, started and filled, on one embedded server in a directory of their own."""

import asyncio
import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymongo

from bench import contents
from bench.contenders import fastapi_beanie
from bench.plan import NAMES, Name
from bench.processes import ROOT, Contender, Process, running, surroundings
from storage.store import Location

SERVER = "secantusd-rs"
RECOUNT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Arena:
    """``database`` is the process of the server that all of them share.

    ``unlogged`` is our own service too, on the same store, without request log and metrics.
    """

    directory: Path
    data_dir: Path
    contenders: Mapping[Name, Contender]
    unlogged: Contender
    database: Process

    def count_ballots(self) -> int:
        """All ballots in our own store."""
        with pymongo.MongoClient[dict[str, object]](_uri(self.data_dir, "polls")) as client:
            return client.get_default_database().ballots.count_documents({})

    def recount(self) -> str | None:
        """What ``python -m service recount`` has to say of our store; None where all agrees."""
        finished = subprocess.run(
            [sys.executable, "-m", "service", "recount"],
            cwd=ROOT,
            env={**surroundings(), "POLLS_DATA_DIR": str(self.data_dir)},
            capture_output=True,
            text=True,
            timeout=RECOUNT_SECONDS,
            check=False,
        )
        said = finished.stdout + finished.stderr
        return None if finished.returncode == 0 else said or f"status {finished.returncode}"


@contextmanager
def arena(directory: Path) -> Iterator[Arena]:
    """Ends all that it started, in whichever way the block is left."""
    data_dir, secret = directory / "data", secrets.token_urlsafe()
    contenders: dict[Name, Contender] = {}
    with ExitStack() as stack:

        def start(name: Name, module: list[str], **environment: str) -> None:
            process = running(name, module, environment, directory)
            contenders[name] = stack.enter_context(process)

        start("ours", ["service"], POLLS_PORT="0", POLLS_DATA_DIR=str(data_dir))
        asyncio.run(contents.fill(Location(None, data_dir, None)))
        _record_answers(contenders["ours"].url, directory)

        start("bare", ["bench.contenders.bare", str(directory)])

        plain = _uri(data_dir, "bench_plain")
        asyncio.run(contents.fill(Location(plain, data_dir, secret)))
        start("plain", ["bench.contenders.plain"], MONGODB_URI=plain, POLLS_SECRET=secret)

        beanie = _uri(data_dir, "bench_beanie")
        asyncio.run(fastapi_beanie.fill(beanie))
        start(
            "fastapi+beanie",
            ["uvicorn", "bench.contenders.fastapi_beanie:app", "--port", "0"],
            MONGODB_URI=beanie,
            POLLS_SECRET=secret,
        )
        unlogged = stack.enter_context(
            running(
                "unlogged",
                ["bench.contenders.unlogged"],
                {
                    "MONGODB_URI": _uri(data_dir, "polls"),
                    "POLLS_PORT": "0",
                    "POLLS_SECRET": (data_dir / "secret").read_text("ascii").strip(),
                },
                directory,
            )
        )
        database = contenders["ours"].descendant(SERVER)
        ours_first = {name: contenders[name] for name in NAMES}
        yield Arena(directory, data_dir, ours_first, unlogged, database)


def _uri(data_dir: Path, database: str) -> str:
    """A database of the server that our service has started."""
    port = json.loads((data_dir / "endpoint.json").read_bytes())["port"]
    options = "directConnection=true&serverMonitoringMode=poll"
    return f"mongodb://127.0.0.1:{port}/{database}?{options}"


def _record_answers(url: str, directory: Path) -> None:
    """What our service answers, for the handler that gives the same bytes without any work."""
    last = contents.EMPTY_CONTENTS[-1]
    poll = _answer(url + contents.read_path(contents.READ_CONTENT), contents.READER)
    vote = _answer(f"{url}{contents.vote_path(last)}&as_user_id=1", contents.ADMIN, contents.VOTE)
    (directory / "poll.json").write_bytes(poll)
    (directory / "vote.json").write_bytes(vote)


def _answer(url: str, secret: str, body: bytes | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: bytes = response.read()
        return answer
