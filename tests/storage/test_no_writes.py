"""While the database takes no writes everybody hears 503, the log stays short, and it passes."""

import asyncio
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pymongo
import pytest
import structlog
from pymongo.errors import PyMongoError

from storage import startup
from storage.client import UNAVAILABLE_CODES
from storage.embedded.engines import Mongod
from storage.errors import Unavailable
from storage.location import EngineChoice, Location
from storage.startup import open_store
from storage.store import Store
from tests.conftest import ADMIN, SECRET, Client, Raw, Scale
from tests.support.calls import POLL, Answer, call, place
from tests.support.processes import Service, Services, address_in, failing, until

pytestmark = pytest.mark.faults


TRIED_AGAIN = {6, 7, 89, 91, 134, 189, 262, 391, 9001, 10107, 11600, 11602, 13435, 13436}
"""Codes after which the driver itself sends a write once more; they come with elections."""
NAMED = {**POLL, "settings": {"saveParticipantNames": True}}


def step_down(uri: str) -> None:
    """The only node of the set hands over to nobody: it answers, and takes no writes."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        client.admin.command("replSetStepDown", 3600, force=True)


def trouble_in(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == "database unavailable"]


def test_a_database_that_answers_and_takes_no_writes_is_not_ready_and_costs_a_line_a_second(
    services: Services,
) -> None:
    service = services.start(POLLS_ENGINE="mongod", POLLS_ADMIN_TOKEN=ADMIN)
    created = call(service.url, "POST", place(), token=ADMIN, body=POLL)
    assert created.status == 200
    assert call(service.url, "GET", "/readyz").status == 200
    step_down(address_in(services.data_dir))
    answers: list[Answer] = []
    begun = time.monotonic()

    def ask() -> None:
        while time.monotonic() < begun + 3:
            answers.append(call(service.url, "POST", place("AWAY-1"), token=ADMIN, body=POLL))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: call(service.url, "GET", "/readyz").status == 503, "a 503 of /readyz", within=5)
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    assert {answer.status for answer in answers} == {503}
    assert all(answer.headers["Retry-After"] == "1" for answer in answers)
    assert call(service.url, "GET", "/healthz").status == 200
    assert 1 <= len(trouble_in(service.log_lines)) <= seconds + 1
    assert "Traceback" not in service.log
    assert not [line for line in service.log_lines if line["event"] == "unhandled error"]
    with pymongo.MongoClient[dict[str, Any]](
        address_in(services.data_dir), directConnection=True
    ) as client:
        client.admin.command("replSetFreeze", 0)  # it may be elected again
    until(lambda: call(service.url, "GET", "/readyz").status == 200, "an election")
    assert call(service.url, "GET", place("AWAY-1"), token=ADMIN).data == []
    assert call(service.url, "GET", place(), token=ADMIN).data == [created.data]
    assert call(service.url, "POST", place("AWAY-1"), token=ADMIN, body=POLL).status == 200
    assert service.stop() == 0


async def test_a_server_that_lives_and_takes_no_writes_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(startup, "STUCK_SECONDS", (1.0, 2.0))
    location = Location(None, tmp_path / "data", SECRET, EngineChoice(Mongod.name))
    async with open_store(location) as store:
        before = server_pid(store.uri)
        step_down(store.uri)
        async with asyncio.timeout(30):
            while await takes_writes(store):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            while not await takes_writes(store):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert server_pid(store.uri) != before


async def test_however_many_readiness_checks_arrive_the_database_is_asked_once_a_second(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def refuse() -> None:
        nonlocal asked
        asked += 1
        raise Unavailable("it takes none")

    monkeypatch.setattr(store.database, "check_writes", refuse)
    begun = time.monotonic()
    while time.monotonic() < begun + 1.5:
        assert not await takes_writes(store)
        await asyncio.sleep(0)
    assert asked == 2


async def takes_writes(store: Store) -> bool:
    try:
        await store.check_writes()
    except Unavailable:
        return False
    return True


def server_pid(uri: str) -> int:
    def ask() -> int | None:
        # A server that has just been elected may refuse this once.
        with suppress(PyMongoError), pymongo.MongoClient[dict[str, Any]](uri) as client:
            return int(client.admin.command("serverStatus")["pid"])
        return None

    return until(ask, "the status of the server")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with little more room than an empty store takes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=330m", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be had here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Takes whatever room there is or becomes free, until the block is left."""
    is_over = threading.Event()

    def fill() -> None:
        with (disk / "ballast").open("wb", buffering=0) as ballast:
            while not is_over.wait(0.02):
                with suppress(OSError):
                    while ballast.write(b"x" * 65536):
                        pass

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        yield
    finally:
        is_over.set()
        filler.join()
        (disk / "ballast").unlink()


class Voters:
    """Sixteen callers that cast one vote a user, for as many users as there is time for."""

    def __init__(self, service: Service, poll_id: str) -> None:
        self._service = service
        self._poll_id = poll_id
        self._next = iter(range(1, 10**9))
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._vote) for _ in range(16)]
        self.statuses: Counter[int] = Counter()
        self.acknowledged: list[int] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _vote(self) -> None:
        while not self._is_over.is_set():
            user_id = next(self._next)
            votes = place(pollId=self._poll_id, as_user_id=str(user_id))
            path = votes.replace("type=polls", "type=votes")
            body = {"optionIds": ["1"]}
            status = call(self._service.url, "POST", path, token=ADMIN, body=body).status
            self.statuses[status] += 1
            if status == 200:
                self.acknowledged.append(user_id)
            else:
                self._is_over.wait(0.1)


def test_a_full_disk_costs_no_acknowledged_vote_and_passes_when_there_is_room(
    small_disk: Path, services: Services, scale: Scale
) -> None:
    for run in range(scale.full_disks):
        fill_the_disk_under(services, small_disk, small_disk / f"data-{run}")
        shutil.rmtree(small_disk / f"data-{run}")


def fill_the_disk_under(services: Services, disk: Path, data: Path) -> None:
    service = services.start(
        POLLS_ENGINE="mongod", POLLS_ADMIN_TOKEN=ADMIN, POLLS_DATA_DIR=str(data)
    )

    def is_ready() -> bool:
        return call(service.url, "GET", "/readyz").status == 200

    poll_id = call(service.url, "POST", place(), token=ADMIN, body=NAMED).data["id"]
    with Voters(service, poll_id) as voters:
        until(lambda: len(voters.acknowledged) > 100, "some votes")
        with filled(disk):
            begun = time.monotonic()
            demand_a_checkpoint(data)
            until(lambda: voters.statuses[503] > 20, "refusals", within=60)
            assert not is_ready()
        until(is_ready, "a database that takes writes", within=60)
        away_for = time.monotonic() - begun
        before = len(voters.acknowledged)
        until(lambda: len(voters.acknowledged) > before + 100, "votes again")
    assert set(voters.statuses) == {200, 503}
    assert 1 <= len(trouble_in(service.log_lines)) <= away_for + 1
    assert "Traceback" not in service.log
    [poll] = call(service.url, "GET", place(expand="results"), token=ADMIN).data
    with pymongo.MongoClient[dict[str, Any]](address_in(data)) as client:
        stored = [ballot["user_id"] for ballot in client.polls.ballots.find({}, {"user_id": 1})]
    assert set(voters.acknowledged) - set(stored) == set()
    assert len(stored) == len(set(stored)) == poll["results"]["options"]["1"]["votes"]
    recounted = services.run("recount", POLLS_DATA_DIR=str(data))
    assert (recounted.status, recounted.err) == (0, "")
    assert recounted.out.endswith(" Differences: 0.\n")
    assert service.stop() == 0


def demand_a_checkpoint(data: Path) -> None:
    """What MongoDB does by itself once a minute; on a full disk it is the end of the server."""
    with (
        suppress(PyMongoError),
        pymongo.MongoClient[dict[str, Any]](address_in(data)) as client,
        pymongo.timeout(5),
    ):
        client.admin.command("fsync")


@pytest.mark.parametrize("code", sorted(UNAVAILABLE_CODES - TRIED_AGAIN))
async def test_what_a_database_in_trouble_answers_is_a_503_with_a_line_and_no_traceback(
    api: Client, raw: Raw, code: int
) -> None:
    with (
        structlog.testing.capture_logs() as lines,
        failing(raw.client, {"times": 1}, failCommands=["update"], errorCode=code),
    ):
        answer = await api.get("/readyz")
    assert answer.status == 503
    assert "unhandled error" not in {line["event"] for line in lines}
