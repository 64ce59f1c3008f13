"""What the log contains about a request, and what it never contains."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storage.tokens import token_id
from tests.conftest import ADMIN
from tests.support.calls import POLL, Answer, Connection, call, place, request
from tests.support.processes import PATIENCE_SECONDS, ROOT, Service, Services, services_in, until

UNKNOWN = "a-token-that-nobody-knows"
VOTE = {"optionIds": ["1"]}
MEMBERS = {
    *("time", "level", "event"),
    *("id", "method", "route", "status", "ms", "remote", "user", "token"),
}


class Logged:
    """A service with a token of each kind."""

    def __init__(self, services: Services) -> None:
        self.service: Service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
        created = services.run(
            *("token", "create", "--name", "reader", "--user", "7", "--workspace", "PLAT")
        )
        self.token = created.out.strip()

    def line_of(self, answer: Answer) -> dict[str, Any]:
        """The one line that was logged for a request."""
        request_id = answer.headers["X-Request-Id"]
        return until(lambda: self._line(request_id), f"a line of {request_id}", within=5)

    def _line(self, request_id: str) -> dict[str, Any] | None:
        lines = [
            line
            for line in self.service.log_lines
            if request_id in (line.get("id"), line.get("request_id"))
        ]
        assert len(lines) <= 1
        return lines[0] if lines else None


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    with services_in(tmp_path_factory.mktemp("logged")) as services:
        yield Logged(services)


def test_each_request_has_one_line_with_its_user_and_route(logged: Logged) -> None:
    url, token = logged.service.url, logged.token
    calls: list[tuple[Answer, dict[str, Any]]] = [
        (
            call(url, "GET", place(), token=token),
            {"method": "GET", "route": "/rest/polls", "status": 200, "user": 7, "token": "reader"},
        ),
        (
            call(url, "POST", place(), token=ADMIN, body=POLL),
            {"method": "POST", "status": 200, "user": 0, "token": "POLLS_ADMIN_TOKEN"},
        ),
        (
            call(url, "GET", place(as_user_id="9"), token=ADMIN),
            {"status": 200, "user": 9, "token": "POLLS_ADMIN_TOKEN"},
        ),
        (
            call(url, "GET", place(), token=UNKNOWN),
            {"status": 403, "route": "/rest/polls", "user": None, "token": None},
        ),
        (call(url, "GET", place("PLAT-1", pollId="none"), token=token), {"status": 404, "user": 7}),
        (
            call(url, "GET", "/x1/anything" + place().removeprefix("/rest"), token=token),
            {"route": "/rest/polls", "status": 200},
        ),
        (call(url, "GET", "/nowhere"), {"route": "-", "status": 404, "user": None}),
        (call(url, "PATCH", "/rest"), {"route": "-", "status": 405}),
        (call(url, "GET", "/healthz"), {"route": "/healthz", "status": 200}),
    ]
    for answer, expected in calls:
        line = logged.line_of(answer)
        assert line.keys() == MEMBERS
        assert line["event"] == "request"
        assert line["status"] == answer.status
        assert {name: line[name] for name in expected} == expected
        assert line["remote"] == "127.0.0.1"
        assert 0 < line["ms"] < 5000
        age = datetime.now(UTC) - datetime.fromisoformat(line["time"])
        assert timedelta() <= age < timedelta(seconds=60)


def test_no_token_and_no_query_is_ever_logged(logged: Logged) -> None:
    url = logged.service.url
    answers = []
    for secret in (ADMIN, logged.token, UNKNOWN):
        answers += [
            call(url, "GET", place(), token=secret),
            call(url, "GET", place(token=secret)),
            call(url, "GET", place(access_token=secret)),
            call(url, "GET", f"/nowhere?token={secret}"),
            call(url, "PATCH", f"/rest?token={secret}"),
            call(url, "GET", place("bad content", token=secret)),
            call(url, "POST", place(token=secret), body={secret: secret}),
            call(url, "GET", place(), Authorization=f"Basic {secret}"),
            call(url, "GET", place(), X_Request_Id=f"{secret} and more"),
            call(url, "GET", f"/rest?to\x80ken={secret}&%00={secret}"),
        ]
    for answer in answers:
        logged.line_of(answer)
    log = logged.service.log + logged.service.output
    for secret in (ADMIN, logged.token, UNKNOWN, "PLAT-1", "type=polls"):
        assert secret not in log
    for answer in answers:
        if answer.status != 400:  # there, a member of the body is named back to its caller
            for secret in (ADMIN, logged.token, UNKNOWN):
                assert secret not in answer.body.decode() + str(answer.headers)


def test_an_id_that_the_caller_gives_is_kept(logged: Logged) -> None:
    for given in ("7", "a" * 128, "3f1c-44:a/b.c_d+e=f@g"):
        answer = call(logged.service.url, "GET", "/healthz", X_Request_Id=given)
        assert answer.headers["X-Request-Id"] == given
        assert logged.line_of(answer)["id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "with space", 'a"b', "a\tb", "<script>", "ä"])
def test_an_insane_id_is_replaced(logged: Logged, given: str) -> None:
    answer = call(logged.service.url, "GET", "/healthz", X_Request_Id=given)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])
    assert logged.line_of(answer)["status"] == 200


def test_ids_are_new_for_each_request(logged: Logged) -> None:
    with Connection(logged.service.url) as connection:
        ids = set()
        for _ in range(20):
            connection.send(request("GET", "/healthz"))
            ids.add(connection.read().headers["X-Request-Id"])
    assert len(ids) == 20


def test_every_line_of_the_log_is_json_and_none_is_lost_at_shutdown(services: Services) -> None:
    service = services.start(POLLS_ADMIN_TOKEN=ADMIN)
    ids = [call(service.url, "GET", "/healthz").headers["X-Request-Id"] for _ in range(20)]
    assert service.stop() == 0
    assert [line["id"] for line in service.log_lines if line["event"] == "request"] == ids


def test_a_quieter_log_level_leaves_the_requests_out(services: Services) -> None:
    service = services.start(POLLS_LOG_LEVEL="warning", POLLS_ADMIN_TOKEN=ADMIN)
    assert call(service.url, "GET", place(), token=ADMIN).status == 200
    assert service.stop() == 0
    assert service.log == ""


def test_the_debug_log_holds_no_token_and_no_vote_either(
    services: Services, tmp_path: Path
) -> None:
    """Nor a vote, which the driver would log with its time and all that is stored of it."""
    service = services.start(POLLS_LOG_LEVEL="debug", POLLS_ADMIN_TOKEN=ADMIN)
    secret = (tmp_path / "data" / "secret").read_text().strip()
    for secrets in (ADMIN, UNKNOWN):
        call(service.url, "POST", place(token=secrets), body=POLL)
        made = call(service.url, "POST", place(), token=secrets, body=POLL)
        if made.status == 200:
            votes = place(pollId=made.data["id"], type="votes")
            assert call(service.url, "POST", votes, token=secrets, body=VOTE).status == 200
    assert service.stop() == 0
    assert "request" in service.log
    hidden = (ADMIN, UNKNOWN, secret, token_id(ADMIN), "choices", "optionIds")
    assert not [one for one in hidden if one in service.log]


FAILING = """
import sys
import structlog
from service.telemetry.log import configure_logging

configure_logging("info")
token = sys.argv[1]
try:
    raise RuntimeError("gone wrong")
except RuntimeError:
    structlog.get_logger().exception("unhandled error")
"""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_logged_error_leaves_out_the_values_of_variables(is_terminal: bool) -> None:
    ours, theirs = os.openpty() if is_terminal else os.pipe()
    command = [sys.executable, "-c", FAILING, "a-token-of-somebody"]
    with open(ours, "rb", buffering=0) as told:  # noqa: PTH123 - a descriptor
        process = subprocess.Popen(command, cwd=ROOT, stderr=theirs)
        os.close(theirs)
        log = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while more := told.read(65_536):
                log += more
    assert process.wait(PATIENCE_SECONDS) == 0
    assert b"gone wrong" in log
    assert b"Traceback" in log
    assert b"a-token-of-somebody" not in log
