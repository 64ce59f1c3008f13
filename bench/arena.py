"""All contenders, started and filled, on one embedded server in a directory of their own."""

import asyncio
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench import contents
from bench.contenders import fastapi_beanie, fastify
from bench.plan import NAMES, Name
from bench.processes import (
    ROOT,
    Contender,
    DidNotStart,
    Launch,
    Process,
    listening_on,
    running,
    surroundings,
)
from bench.stores import database_uri
from service.settings import read_settings
from storage.embedded.server import start as start_server
from storage.location import EngineChoice, Location

PYTHON = (sys.executable, "-m")
RECOUNT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Arena:
    """``database`` is the process of the server that all of them share, each with its own store.

    ``unlogged`` is our own service too, on the same store, without request log and metrics.
    ``engine`` names the server and its version. ``left_out`` says why a contender is missing.
    """

    directory: Path
    contenders: Mapping[Name, Contender]
    left_out: Mapping[Name, str]
    unlogged: Contender
    database: Process
    engine: str

    def recount(self) -> str | None:
        """What ``python -m service recount`` has to say of our store; None where all agrees."""
        finished = subprocess.run(
            [*PYTHON, "service", "recount"],
            cwd=ROOT,
            env={**surroundings(), **self.contenders["ours"].launch.environment},
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
    contenders: dict[Name, Contender] = {}
    left_out: dict[Name, str] = {}
    with ExitStack() as stack:
        server = start_server(directory / "data", _engine())
        stack.callback(server.stop)
        stores = _fill_stores(server.uri, directory)

        def start(name: Name, command: list[str], **environment: str) -> None:
            launch = Launch(name, command, {**stores.get(name, {}), **environment})
            contenders[name] = stack.enter_context(running(launch, directory))

        start("ours", [*PYTHON, "service"], POLLS_PORT="0")
        _record_answers(contenders["ours"].url, directory)
        start("bare", [*PYTHON, "bench.contenders.bare", str(directory)])
        start("plain", [*PYTHON, "bench.contenders.plain"])
        uvicorn = [*PYTHON, "uvicorn", "bench.contenders.fastapi_beanie:app"]
        start("fastapi+beanie", [*uvicorn, "--port", "0"])
        try:
            start("fastify", fastify.install())
        except (fastify.NotInstalled, DidNotStart) as error:
            left_out["fastify"] = str(error)

        silent = [*PYTHON, "bench.contenders.unlogged"]
        unlogged = Launch("unlogged", silent, contenders["ours"].launch.environment)
        yield Arena(
            directory=directory,
            contenders={name: contenders[name] for name in NAMES if name in contenders},
            left_out=left_out,
            unlogged=stack.enter_context(running(unlogged, directory)),
            database=listening_on(urlsplit(server.uri).port or 27017),
            engine=f"{server.engine.title} {server.engine.version}",
        )


def _engine() -> EngineChoice:
    """As the service chooses it; all other settings of the surroundings are for others."""
    choosing = ("POLLS_ENGINE", "POLLS_MONGOD")
    given = {name: os.environ[name] for name in choosing if name in os.environ}
    return read_settings(given).location.engine


def _fill_stores(uri: str, directory: Path) -> dict[Name, dict[str, str]]:
    """The same polls and tokens for each; the settings by which a contender finds its store."""
    secret = secrets.token_urlsafe()
    uris: dict[Name, str] = {
        "ours": database_uri(uri, "bench_ours"),
        "plain": database_uri(uri, "bench_plain"),
        "fastapi+beanie": database_uri(uri, "bench_beanie"),
        "fastify": database_uri(uri, "bench_fastify"),
    }
    for name, store in uris.items():
        if name in {"ours", "plain"}:
            asyncio.run(contents.fill(Location(store, directory, secret)))
        else:
            asyncio.run(fastapi_beanie.fill(store))
    return {name: {"MONGODB_URI": store, "POLLS_SECRET": secret} for name, store in uris.items()}


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
