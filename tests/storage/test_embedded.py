"""The embedded server: it is kept alive, it is never left behind, and nothing else bends it."""

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from storage.embedded.directory import DataDirectory
from storage.embedded.server import EmbeddedServer, SharedServer, start, start_or_share
from storage.errors import StartupRefused
from tests.conftest import ADMIN
from tests.support import engine
from tests.support.calls import POLL, Answer, call, place
from tests.support.processes import Service, Services, child_of, is_running, until

pytestmark = pytest.mark.faults


def server_of(server: EmbeddedServer) -> int:
    """The process of a server: the one child of its guard."""
    return until(lambda: child_of(server._guard.process.pid, ""), "the server")


def asked(service: Service, content: str = "PLAT-1") -> Answer:
    return call(service.url, "GET", place(content), token=ADMIN)


def answers_again(service: Service) -> None:
    """By itself, and to reads and writes alike."""
    until(lambda: asked(service).status == 200, "an answer", within=10)
    created = call(service.url, "POST", place("PLAT-2"), token=ADMIN, body=POLL)
    assert created.status == 200
    # It remembers for a second what it was told.
    until(lambda: call(service.url, "GET", "/readyz").status == 200, "readiness", within=2)


def test_a_server_that_was_killed_is_started_again_on_its_port(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    guard, server = service.guard_pid, service.server_pid
    port = service.store_port
    stored = call(service.url, "POST", place(), token=ADMIN, body=POLL).data
    os.kill(server, signal.SIGKILL)
    assert asked(service).status in (200, 503)
    answers_again(service)
    assert asked(service).data == [stored]
    assert service.guard_pid == guard
    assert service.server_pid != server
    [line] = [one for one in service.log_lines if "is restarted" in one["event"]]
    assert (line["level"], line["reason"]) == ("warning", "it ended")
    assert service.store_port == port
    assert service.stop() == 0


def test_with_a_guard_that_was_killed_the_server_dies_and_both_come_back_on_the_port(
    services: Services,
) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    guard, server = service.guard_pid, service.server_pid
    port = service.store_port
    stored = call(service.url, "POST", place(), token=ADMIN, body=POLL).data
    os.kill(guard, signal.SIGKILL)
    until(lambda: not is_running(server), "the end of the server", within=5)
    answers_again(service)
    assert asked(service).data == [stored]
    assert service.guard_pid != guard
    assert service.store_port == port
    family = service.guard_pid, service.server_pid
    assert service.stop() == 0
    assert not any(map(is_running, family))


def test_a_server_that_is_killed_before_it_listens_again_comes_back_all_the_same(
    services: Services,
) -> None:
    """First its guard, so that it is a new one which has to go on trying."""
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    guard = service.guard_pid
    os.kill(guard, signal.SIGKILL)
    until(lambda: child_of(service.pid, "storage.embedded") not in (guard, None), "a guard")
    os.kill(service.server_pid, signal.SIGKILL)
    answers_again(service)
    assert services.run("token", "list").status == 0
    assert service.stop() == 0


def listening_on(port: int) -> socket.socket | None:
    """None while a connection of the one before still holds the port."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


def test_a_server_whose_port_is_taken_for_a_while_comes_back_on_it(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    port = service.store_port
    server = service.server_pid
    with stopped(service.pid):
        os.kill(service.guard_pid, signal.SIGKILL)
        until(lambda: not is_running(server), "the end of the server", within=5)
        taken = until(lambda: listening_on(port), "the port")
    with taken:
        until(lambda: call(service.url, "GET", "/readyz").status == 503, "a refusal", within=10)
    answers_again(service)
    assert service.store_port == port
    assert service.stop() == 0


def test_what_cannot_be_published_now_is_published_later(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    in_the_way = services.data_dir / "endpoint.new"
    in_the_way.mkdir()
    os.kill(service.guard_pid, signal.SIGKILL)
    until(lambda: "the embedded server is not ready yet" in service.log, "a line in the log")
    in_the_way.rmdir()
    until((services.data_dir / "endpoint.json").exists, "the endpoint")
    assert services.run("token", "list").status == 0
    assert service.stop() == 0


def state_of(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(") ")[2][:1]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Every thread of the process has stopped inside: each finds out for itself."""
    os.kill(pid, signal.SIGSTOP)
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        until(lambda: all(state_of(one) == "T" for one in threads), "a stop of all threads")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_while_the_database_is_away_every_caller_is_told_within_5_seconds(
    services: Services,
) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200

    def ask(number: int) -> tuple[Answer, float]:
        started = time.monotonic()
        if number % 10 == 0:
            answer = call(service.url, "GET", "/readyz")
        elif number % 2:
            answer = asked(service)
        else:
            answer = call(service.url, "POST", place("AWAY-1"), token=ADMIN, body=POLL)
        return answer, time.monotonic() - started

    with stopped(service.server_pid), ThreadPoolExecutor(100) as threads:
        for answer, seconds in threads.map(ask, range(100)):
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert seconds < 5
        assert call(service.url, "GET", "/healthz").status == 200
    until(lambda: asked(service).status == 200, "an answer", within=10)
    assert asked(service, "AWAY-1").data == []  # who heard 503 finds nothing done
    answers_again(service)


def test_a_guard_whose_standard_input_closes_takes_its_server_along(tmp_path: Path) -> None:
    """What ends it where there is no death signal: the parent's end of the pipe is gone."""
    server = start(tmp_path / "data", engine.chosen())
    child = server_of(server)
    guard = server._guard.process
    assert guard.stdin is not None
    guard.stdin.close()
    until(lambda: not is_running(child), "the end of the server", within=5)
    assert guard.wait(5) == 0
    server.stop()


def test_a_server_starts_in_a_process_that_has_a_thousand_files_open(tmp_path: Path) -> None:
    """As a service of many connections has, whose guard was killed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with ExitStack() as stack:
        for _ in range(1100):
            stack.callback(os.close, os.dup(0))
        start(tmp_path / "data", engine.chosen()).stop()


def test_a_directory_has_one_server_and_a_second_one_is_told_whose_it_is(tmp_path: Path) -> None:
    server = start(tmp_path / "data", engine.chosen())
    child = server_of(server)
    with stopped(child):
        endpoint = DataDirectory(tmp_path / "data").read_endpoint()
        assert endpoint is not None
        assert endpoint["pid"] == os.getpid()
        with pytest.raises(StartupRefused, match=f"is in use by process {os.getpid()}:"):
            start(tmp_path / "data")
    shared = start_or_share(tmp_path / "data")
    assert isinstance(shared, SharedServer)
    assert shared.uri == server.uri
    shared.stop()
    assert is_running(child)
    server.stop()
    assert not is_running(child)


def test_an_endpoint_that_was_left_behind_misleads_nobody(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    family = service.guard_pid, service.server_pid
    left = (services.data_dir / "endpoint.json").read_bytes()
    service.kill()
    until(lambda: not any(map(is_running, family)), "the end of its family", within=5)
    (services.data_dir / "endpoint.json").write_bytes(left)
    assert services.run("token", "list").status == 0
    (services.data_dir / "endpoint.json").write_bytes(b"{")
    assert services.start(POLLS_ADMIN_TOKEN=ADMIN).stop() == 0


def test_the_server_of_a_command_ends_with_the_command(services: Services) -> None:
    command = services.begin("token", "create", "--name", "bot", "--user", "7")
    assert is_running(command.server_pid)
    family = command.guard_pid, command.server_pid
    assert command.wait() == 0
    assert not any(map(is_running, family))


def test_the_server_of_a_command_that_is_killed_ends_too(services: Services) -> None:
    command = services.begin("token", "create", "--name", "bot", "--user", "7")
    family = command.guard_pid, command.server_pid
    command.kill()
    until(lambda: not any(map(is_running, family)), "the end of its family", within=5)
    assert services.run("token", "create", "--name", "bee", "--user", "7").status == 0
