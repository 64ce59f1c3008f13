"""A service starts, stops and starts again, and loses nothing."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.web.call import DRAINING
from tests.conftest import ADMIN, Client, Raw, TokenMaker
from tests.support.calls import POLL, Connection, call, is_refused, place, request
from tests.support.processes import Services, is_running, slow, until

pytestmark = pytest.mark.faults


def connected(url: str, stack: ExitStack) -> Connection:
    """A connection that the service has accepted, not the kernel alone."""
    connection = stack.enter_context(Connection(url))
    connection.send(request("GET", "/healthz"))
    assert connection.read().status == 200
    return connection


def test_requests_in_flight_are_answered_before_a_sigterm_ends_the_service(
    services: Services,
) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    family = service.guard_pid, service.server_pid
    contents = [f"SLOW-{number}" for number in range(5)]
    sending = request("POST", place("SENT-1"), token=ADMIN, body=POLL)
    # The first polls of all get into each other's way; this is not about them.
    assert call(service.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    with ExitStack() as stack, services.raw() as raw:
        unfinished = connected(service.url, stack)
        waiting = [connected(service.url, stack) for _ in contents]
        unfinished.send(sending[:-10])
        with slow(raw, "commitTransaction", 1000):
            for connection, content in zip(waiting, contents, strict=True):
                connection.send(request("POST", place(content), token=ADMIN, body=POLL))
            service.terminate()
            until(lambda: is_refused(service.url), "the end of listening")
            assert [connection.read().status for connection in waiting] == [200] * 5
        assert service.is_running
        unfinished.send(sending[-10:])
        assert unfinished.read().status == 200
    assert service.wait() == 0
    assert not any(map(is_running, family))

    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    for content in ["SENT-1", *contents]:
        assert len(call(service.url, "GET", place(content), token=ADMIN).data) == 1


def test_ctrl_c_drains_too_and_reaches_the_store_only_through_the_service(
    services: Services,
) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    family = service.guard_pid, service.server_pid
    assert os.getsid(service.guard_pid) == service.guard_pid != os.getsid(service.pid)
    sending = request("POST", place(), token=ADMIN, body=POLL)
    with ExitStack() as stack:
        unfinished = connected(service.url, stack)
        unfinished.send(sending[:-10])
        os.killpg(service.pid, signal.SIGINT)  # what a terminal does: the whole group gets it
        until(lambda: is_refused(service.url), "the end of listening")
        unfinished.send(sending[-10:])
        assert unfinished.read().status == 200
    assert service.wait() == 0
    assert not any(map(is_running, family))


async def test_a_draining_service_is_not_ready_but_healthy(api: Client) -> None:
    api.app[DRAINING].set()
    ready = await api.get("/readyz", headers={"Authorization": ""})
    assert ready.status == 503
    assert ready.headers["Retry-After"] == "1"
    assert ready.content_type == "application/problem+json"
    assert (await api.get("/healthz")).status == 200


async def test_a_request_of_many_round_trips_waits_no_longer_than_one(
    api: Client, make_token: TokenMaker, raw: Raw
) -> None:
    """Each of them would have 4 s, and a caller hears within 5."""
    headers = await make_token()
    created = await (await api.post(place(), json=POLL)).json()
    started = time.monotonic()
    with slow(raw.client, "find", 1800):  # the token, the poll, the poll in its transaction
        answer = await api.put(place(pollId=created["id"]), json=POLL, headers=headers)
    assert answer.status == 503
    assert time.monotonic() - started < 5
    assert await (await api.get(place())).json() == [created]


async def test_health_and_readiness_need_no_token(api: Client) -> None:
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        answer = await api.get(path, headers={"Authorization": ""})
        assert answer.status == 200
        assert await answer.json() == {"status": status}


def test_the_first_start_prints_an_admin_token_and_no_later_one_does(services: Services) -> None:
    service = services.start()
    token = service.first_token
    assert service.output.count(token) == 1
    assert token not in service.log
    created = call(service.url, "POST", place(), token=token, body=POLL)
    assert created.status == 200
    assert service.stop() == 0

    service = services.start()
    assert "Admin token" not in service.output
    listed = call(service.url, "GET", place(), token=token)
    assert listed.status == 200
    assert listed.data == [created.data]  # also: the data is still there


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "> /dev/null"])
def test_a_first_start_that_nobody_can_read_leaves_the_token_to_the_next(
    services: Services, redirection: str
) -> None:
    unread = services.begin(redirection=redirection)
    until(lambda: "no admin token created" in unread.log, "the start")
    assert unread.stop() == 0
    service = services.start()
    created = call(service.url, "POST", place(), token=service.first_token, body=POLL)
    assert created.status == 200


def test_with_an_admin_token_of_ones_own_none_is_made_and_it_works_only_while_it_is_set(
    services: Services,
) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    assert "Admin token" not in service.output
    assert call(service.url, "GET", place(), token=ADMIN).status == 200
    with services.raw() as raw:
        assert raw.polls.tokens.count_documents({}) == 0
    assert service.stop() == 0
    assert ADMIN not in service.output + service.log
    service = services.start()
    assert call(service.url, "GET", place(), token=ADMIN).status == 403


def test_a_second_service_on_the_same_directory_names_the_first_and_exits(
    services: Services,
) -> None:
    first = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    second = services.run(POLLS_ADMIN_TOKEN=ADMIN)
    assert second.status == 1
    assert f"is in use by process {first.pid}:" in second.sentence
    assert "POLLS_DATA_DIR" in second.sentence
    assert call(first.url, "POST", place(), token=ADMIN, body=POLL).status == 200


def test_services_on_directories_of_their_own_run_side_by_side(services: Services) -> None:
    one = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    other = services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_DATA_DIR="elsewhere")
    assert call(one.url, "POST", place(), token=ADMIN, body=POLL).status == 200
    assert call(other.url, "GET", place(), token=ADMIN).data == []
    assert str(services.home / "elsewhere") in other.output


def test_nobody_else_on_the_machine_can_read_the_data_directory(services: Services) -> None:
    services.start()
    for path in (services.data_dir, services.data_dir / "secret"):
        assert mode(path) & 0o077 == 0


def mode(path: Path) -> int:
    return path.stat().st_mode
