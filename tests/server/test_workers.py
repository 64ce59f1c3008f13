"""Several workers on one port and one store: they are replaced when they die, and end together."""

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest
from structlog.testing import capture_logs

from service.cli import main
from service.server import supervisor as workers
from service.server.listening import open_sockets
from service.server.supervisor import Workers
from storage.client import Database, Transaction
from storage.errors import StartupRefused, Unavailable
from storage.store import Store
from tests.conftest import ADMIN, Raw, Scale
from tests.server.test_kills import VOTERS, Load, make_poll, reaching_store
from tests.support.calls import POLL, Connection, call, is_refused, place, request
from tests.support.casting import content_run
from tests.support.fleet import Service as FleetService
from tests.support.fleet import eventually, recount, service_in
from tests.support.processes import Services, children_of, is_running, slow, until

pytestmark = pytest.mark.faults


COUNT = 2


@asynccontextmanager
async def fleet_in(directory: Path) -> AsyncIterator[FleetService]:
    async with service_in(directory, POLLS_WORKERS=str(COUNT)) as service:
        yield service


def workers_of(service: FleetService) -> list[int]:
    return children_of(service.pid, "service.server.worker")


def is_held(raw: Raw, session_id: int) -> bool:
    """Whether a transaction that has not ended has written the poll session."""
    with raw.client.start_session() as session:
        session.start_transaction()
        try:
            raw.sessions.update_one({"_id": session_id}, {"$set": {"probe": 1}}, session=session)
        except pymongo.errors.OperationFailure:
            return True
        finally:
            session.abort_transaction()
    return False


async def test_of_the_votes_through_workers_that_are_killed_none_is_lost_or_counted_twice(
    tmp_path: Path, scale: Scale
) -> None:
    async with fleet_in(tmp_path) as service:
        load = Load(service, await make_poll(service, saveParticipantNames=True))
        for _ in range(scale.kills):
            before = len(load.answered)
            running = asyncio.create_task(load.insist())
            await eventually(lambda: len(load.answered) > before + VOTERS)  # noqa: B023 - awaited
            await asyncio.sleep(random.uniform(0, 0.1))
            victims = workers_of(service)
            for pid in victims[: random.randint(1, COUNT)]:
                os.kill(pid, signal.SIGKILL)
            at_the_kill = len(load.answered)
            await eventually(
                lambda: len(load.answered) > at_the_kill + 3 * VOTERS,  # noqa: B023 - awaited
                seconds=15,
            )
            load.is_over = True
            await running
            load.is_over = False
            load.require_exact()
        await eventually(lambda: len(workers_of(service)) == COUNT)
        await recount(service)


async def test_workers_do_not_conflict_over_the_votes_of_a_session(tmp_path: Path) -> None:
    async with fleet_in(tmp_path) as service:
        load = Load(service, await make_poll(service))
        voting = asyncio.create_task(load.run())
        await eventually(lambda: len(load.answered) > 20 * VOTERS)
        load.is_over = True
        await voting
        assert {answer.status for answer in load.answered.values()} == {200}
        counted = f'polls_votes_total{{outcome="accepted"}} {len(load.sent)}.0'
        async with asyncio.timeout(10):
            # Workers share their numbers now and then, and nothing tells when.
            while counted not in (numbers := await service.call("GET", "/metrics")).text():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert 'polls_database_errors_total{kind="transient"}' not in numbers.text()


async def test_what_a_killed_worker_had_begun_delays_nobody(tmp_path: Path) -> None:
    """It has written the session when it is killed, and a statement of it is still to be done."""
    async with fleet_in(tmp_path) as service:
        load = Load(service, await make_poll(service, allowRevote=True, saveParticipantNames=True))
        load.sent = {1: "1", 2: "2"}
        assert (await load.vote(1)).status == 200
        with reaching_store(service) as raw, slow(raw.client, "insert", 500):
            voting = asyncio.create_task(load.vote(2))
            await eventually(lambda: is_held(raw, load.session_id))
            for pid in workers_of(service):
                os.kill(pid, signal.SIGKILL)
            with suppress(aiohttp.ClientError):
                await voting
        begun = time.monotonic()
        await load.require_all()
        assert time.monotonic() - begun < 15
        load.require_exact()


async def test_sessions_that_are_ended_by_name_let_go_of_what_they_wrote(
    api: Any, raw: Raw, store: Store, mongodb_uri: str
) -> None:
    run = await content_run(api, raw)
    told: list[bytes] = []
    other = await Database.connect(mongodb_uri)
    other.watch = told.append
    written, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def write(transaction: Transaction) -> None:
        transaction.update("sessions", {"_id": run.session}, {"$inc": {"casts": 1}})
        loop.call_soon_threadsafe(written.set)
        goes_on.wait(30)

    abandoned = asyncio.create_task(other.transaction(write))
    await written.wait()
    assert len(told) == 1
    vote = {"params": {**run.votes, "as_user_id": "7"}, "json": {"optionIds": ["1"]}}
    assert (await api.post("/rest", **vote)).status == 503
    await store.database.end_sessions(told)
    assert (await api.post("/rest", **vote)).status == 200
    abandoned.cancel()
    goes_on.set()
    with suppress(asyncio.CancelledError, Unavailable):
        await abandoned
    other.close()


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS="2")
    victim, other = service.worker_pids
    os.kill(victim, signal.SIGKILL)
    for _ in range(20):
        assert call(service.url, "GET", "/readyz").status == 200
    until(lambda: len(set(service.worker_pids) - {victim}) == 2, "another worker")
    assert other in service.worker_pids
    until(lambda: "worker ended" in service.log, "its line in the log")
    [line] = [line for line in service.log_lines if line["event"] == "worker ended"]
    assert (line["worker"], line["status"], line["level"]) == (victim, -signal.SIGKILL, "warning")
    # One that is asked to end does so by itself, and is replaced too.
    os.kill(other, signal.SIGTERM)
    until(lambda: len(set(service.worker_pids) - {victim, other}) == 2, "a third worker")
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    assert service.stop() == 0


def test_a_worker_is_replaced_though_the_directory_of_the_workers_was_removed(
    services: Services, tmp_path: Path
) -> None:
    """As cleaners of ``/tmp`` do after some days."""
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS="2", TMPDIR=str(tmp_path))
    [shared] = tmp_path.glob("polls-metrics-*")
    shutil.rmtree(shared)
    victims = set(service.worker_pids)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    until(lambda: len(set(service.worker_pids) - victims) == 2, "two other workers")
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    assert service.stop() == 0
    assert not shared.exists()


def test_a_sigterm_drains_all_workers_and_leaves_no_process(services: Services) -> None:
    service = services.begin("serve", "--workers", "3", POLLS_ADMIN_TOKEN=ADMIN).await_serving()
    family = (service.guard_pid, service.server_pid, *service.worker_pids)
    assert len(family) == 5
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    waiting = [Connection(service.url) for _ in range(6)]
    with services.raw() as raw, slow(raw, "commitTransaction", 1000):
        for number, connection in enumerate(waiting):
            data = request("POST", place(f"SLOW-{number}"), token=ADMIN, body=POLL)
            connection.send(data)
        service.terminate()
        until(lambda: is_refused(service.url), "the end of listening")
        assert [connection.read().status for connection in waiting] == [200] * 6
    for connection in waiting:
        connection.__exit__()
    assert service.wait() == 0
    assert not any(map(is_running, family))


def test_ctrl_c_reaches_the_workers_only_through_the_parent(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS="2")
    family = (service.guard_pid, service.server_pid, *service.worker_pids)
    assert all(os.getsid(pid) == pid for pid in service.worker_pids)
    os.killpg(service.pid, signal.SIGINT)
    assert service.wait() == 0
    assert not any(map(is_running, family))
    assert "Traceback" not in service.log


def test_workers_of_a_parent_that_was_killed_end_and_the_next_start_finds_all_free(
    services: Services,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS="2", POLLS_PORT=port)
    created = call(service.url, "POST", place(), token=ADMIN, body=POLL).data
    family = service.worker_pids
    service.kill()
    until(lambda: not any(map(is_running, family)), "the end of the workers", within=10)
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS="2", POLLS_PORT=port)
    assert call(service.url, "GET", place(), token=ADMIN).data == [created]
    assert service.stop() == 0


def test_a_port_that_is_taken_is_refused_by_the_parent(services: Services) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = services.run(POLLS_PORT=port, POLLS_ADMIN_TOKEN=ADMIN, POLLS_WORKERS="2")
    assert refused.status == 1
    assert refused.sentence == (
        f"Cannot listen on 127.0.0.1, port {port}: the address is in use. "
        "Set POLLS_PORT to another port."
    )


@pytest.mark.parametrize("number", ["0", "-1", "257", "two"])
def test_a_number_of_workers_that_cannot_be_is_misuse(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as misused:
        main(["serve", "--workers", number])
    assert misused.value.code == 2
    assert "--workers" in capsys.readouterr().err


class Parent:
    """A parent whose workers are short programs: what they do, and what it was asked to end."""

    def __init__(self, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended: list[Collection[bytes]] = []
        self.announced = asyncio.Event()
        monkeypatch.setattr(workers, "BACKOFF_SECONDS", (0.01, 0.02))
        monkeypatch.setattr(workers, "END_SESSIONS_SECONDS", (0.0, 0.01))
        preface = "import os, socket, sys; channel = socket.socket(fileno=int(sys.argv[-1]))\n"
        command = [sys.executable, "-c", preface + program]
        self._workers = Workers(command, open_sockets("127.0.0.1", 0), self._end_sessions)
        self.stopping = self._workers._stopping

    async def run(self, count: int = 1) -> None:
        async with asyncio.timeout(20):
            await self._workers.run(count, self._announce)

    async def _announce(self) -> None:
        self.announced.set()

    async def _end_sessions(self, sessions: Collection[bytes]) -> None:
        self.ended.append(set(sessions))


async def test_a_first_worker_that_cannot_start_ends_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = Parent("sys.exit(3)", monkeypatch)
    with pytest.raises(StartupRefused, match="A worker ended with status 3"):
        await parent.run(2)
    assert not parent.announced.is_set()


async def test_a_worker_that_is_started_amid_the_stop_is_stopped_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = Parent("while b'stop' not in (channel.recv(99) or sys.exit(1)): pass", monkeypatch)
    start = workers._start

    async def start_amid_the_stop(*arguments: Any) -> Any:
        worker = await start(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        await parent.stopping.wait()
        return worker

    monkeypatch.setattr(workers, "_start", start_amid_the_stop)
    await parent.run()


async def test_where_no_worker_can_be_had_any_more_the_service_gives_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first one serves and dies; all after it die before they serve."""
    mark = tmp_path / "served"
    program = (
        f"path = {str(mark)!r}\n"
        "count = len(open(path).read()) if os.path.exists(path) else 0\n"
        "open(path, 'a').write('x')\n"
        "if count == 0: channel.sendall(b'listening\\nsession 00ff\\n')\n"
        "sys.exit(1)\n"
    )
    parent = Parent(program, monkeypatch)
    with capture_logs() as lines, pytest.raises(StartupRefused, match="status 1 before it served"):
        await parent.run()
    assert len(mark.read_text()) == 1 + workers.MAX_FAILURES
    ended = [line["next_in"] for line in lines if line["event"] == "worker ended"]
    assert ended == [0.01, 0.02, 0.02, 0.02, 0.02]  # it takes its time
    assert parent.ended == [{b"\x00\xff"}] * 2
