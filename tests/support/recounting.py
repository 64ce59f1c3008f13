"""``python -m service recount`` as a process, and stores that are large enough to measure it."""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pymongo import WriteConcern

from service.settings import Settings
from tests.conftest import SECRET, Raw

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("1", "2", "3", "4")
MOMENT = datetime(2126, 1, 31, 12, 0, tzinfo=UTC)
SESSIONS_AT_A_TIME = 1_000
BALLOTS_AT_A_TIME = 5_000

MEASURE = """\
import resource, subprocess, sys
memory, within, *command = sys.argv[1:]
status = subprocess.call(command, timeout=float(within))
with open(memory, "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""
"""Runs a command from a small process: its peak memory begins with that of whoever starts it."""


class Recounted(NamedTuple):
    """What a recount printed, and what it took."""

    status: int
    store: str
    lines: list[str]
    """Those of sessions that differ."""
    compared: str
    error: str
    seconds: float
    memory: int
    """Bytes, at most."""


async def run_recount(settings: Settings, *options: str, within: float = 60.0) -> Recounted:
    return await asyncio.to_thread(_run_recount, settings, options, within)


def _run_recount(settings: Settings, options: tuple[str, ...], within: float) -> Recounted:
    environment = {
        **os.environ,
        "MONGODB_URI": settings.mongodb_uri or "",
        "POLLS_SECRET": SECRET,
        "POLLS_DATA_DIR": str(settings.data_dir),
    }
    command = [sys.executable, "-m", "service", "recount", *options]
    started = time.monotonic()
    with tempfile.NamedTemporaryFile("r") as memory:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, memory.name, str(within), *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        store, *lines, compared = done.stdout.splitlines()
        return Recounted(
            done.returncode,
            store,
            lines,
            compared,
            done.stderr,
            time.monotonic() - started,
            int(memory.read()) * 1024,
        )


def seed_store(raw: Raw, sessions: int, ballots: int) -> None:
    """So many ballots, spread over so many sessions that count them, past the service.

    The ballots of a session lie far apart on the disk, as if all sessions had been open at once.
    """
    results: dict[int, Counter[str]] = {number: Counter() for number in range(1, sessions + 1)}
    participants = Counter[int]()
    quick = raw.client.get_database(raw.name, write_concern=WriteConcern(1))
    fresh = _ballots(sessions, ballots)
    while some := list(islice(fresh, BALLOTS_AT_A_TIME)):
        for ballot in some:
            results[ballot["session_id"]].update(ballot["choices"])
            participants[ballot["session_id"]] += 1
        quick.ballots.insert_many(some, ordered=False)
    for first in range(1, sessions + 1, SESSIONS_AT_A_TIME):
        numbers = range(first, min(first + SESSIONS_AT_A_TIME, sessions + 1))
        quick.sessions.insert_many(
            [_session(number, results[number], participants[number]) for number in numbers],
            ordered=False,
        )


def _ballots(sessions: int, ballots: int) -> Iterator[dict[str, Any]]:
    dice = random.Random(1)
    for user_id in range(1, ballots + 1):
        session_id = dice.randint(1, sessions)
        choices = dice.sample(OPTIONS, dice.choice((1, 1, 1, 2)))
        request = {
            "key": f"{dice.getrandbits(256):064x}",
            "fingerprint": f"{dice.getrandbits(256):064x}",
            "choices": choices,
            "comment": None,
            "at": MOMENT,
        }
        yield {
            "_id": f"{session_id}:{dice.getrandbits(256):064x}",
            "session_id": session_id,
            "number": user_id * 7_919 % 10_000_019,
            "choices": choices,
            "comment": None,
            "user_id": user_id,
            "requests": [request],
            "created_at": MOMENT,
            "updated_at": MOMENT,
        }


def _session(number: int, results: Counter[str], participants: int) -> dict[str, Any]:
    return {
        "_id": number,
        "poll_id": f"poll-{number}",
        "poll_number": number,
        "container": "PLAT\x1fPLAT-1\x1f",
        "owner_id": 1,
        "course_id": 5,
        "course_section_id": None,
        "is_published": True,
        "has_public_results": False,
        "results": {option_id: results[option_id] for option_id in OPTIONS},
        "participants": participants,
        "casts": participants,
        "rules": {"options": list(OPTIONS), "settings": {}, "closes_at": None},
        "created_at": MOMENT,
    }
