"""What is no HTTP is answered with a problem too, and its bytes are repeated to nobody."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.conftest import ADMIN
from tests.support.calls import Answer, Connection, call, talk
from tests.support.processes import Service, services_in, until

TOKEN = "a-token-that-nobody-may-see"
AUTHORIZED = f"Host: test\r\nAuthorization: Bearer {ADMIN}\r\n"
PLACE = "type=polls&workspace=PLAT&content=PLAT-1"

MALFORMED = {
    "a control character in the request line": f"GET /rest?token={TOKEN}\x01 HTTP/1.1\r\n\r\n",
    "a space in the request line": f"GET /rest?token={TOKEN} and more HTTP/1.1\r\n\r\n",
    "an unknown version": f"GET /rest?token={TOKEN} HTTP/7\r\n\r\n",
    "no HTTP at all": f"{TOKEN}\r\n\r\n",
    "a bad method": f"G@T /rest?token={TOKEN} HTTP/1.1\r\nHost: test\r\n\r\n",
    "a bad absolute URL": f"GET http://[?token={TOKEN} HTTP/1.1\r\nHost: test\r\n\r\n",
    "a bad port": f"GET http://a:b/rest?token={TOKEN} HTTP/1.1\r\nHost: test\r\n\r\n",
    "a space before the colon": f"GET / HTTP/1.1\r\nAuthorization : Bearer {TOKEN}\r\n\r\n",
    "a header without a colon": f"GET / HTTP/1.1\r\nAuthorization Bearer {TOKEN}\r\n\r\n",
    "a control character in a header": f"GET / HTTP/1.1\r\nAuthorization: {TOKEN}\x00\r\n\r\n",
    "an oversized header": f"GET / HTTP/1.1\r\nAuthorization: {TOKEN * 1000}\r\n\r\n",
    "an oversized request line": f"GET /rest?token={TOKEN * 1000} HTTP/1.1\r\nHost: t\r\n\r\n",
    "two lengths": f"POST /rest?token={TOKEN} HTTP/1.1\r\nHost: t\r\n"
    "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "a length that is none": f"POST /rest?token={TOKEN} HTTP/1.1\r\nHost: t\r\n"
    "Content-Length: -3\r\n\r\n",
    "a length and chunks": f"POST /rest?token={TOKEN} HTTP/1.1\r\nHost: t\r\n"
    "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown encoding": f"POST /rest?token={TOKEN} HTTP/1.1\r\nHost: t\r\n"
    "Transfer-Encoding: chunked, rot13\r\n\r\n0\r\n\r\n",
}
OVERSIZED = {sent for name, sent in MALFORMED.items() if "oversized" in name}
CHUNKED = (
    f"POST /rest?{PLACE} HTTP/1.1\r\n{AUTHORIZED}Content-Type: application/json\r\n"
    "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with services_in(tmp_path_factory.mktemp("malformed")) as services:
        yield services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_CLIENT_SECONDS="2")


def require_common_headers(answer: Answer) -> None:
    """Nothing is kept, and no version is told, where no middleware makes the answer either."""
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "polls"


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_malformed_http_is_answered_with_a_problem_and_repeated_nowhere(
    service: Service, sent: str
) -> None:
    with Connection(service.url) as connection:
        connection.send(sent.encode("latin-1"))
        answer = connection.read()
        assert connection.is_closed
    assert answer.status == (431 if sent in OVERSIZED else 400)
    assert answer.headers["Content-Type"] == "application/problem+json"
    require_common_headers(answer)
    assert answer.data["status"] == answer.status
    assert answer.data["code"] == ("headers_too_large" if sent in OVERSIZED else "invalid_request")
    assert answer.data["detail"] == answer.data["errors"][0]["message"]
    request_id = answer.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    until(lambda: request_id in service.log, "its line in the log", within=5)
    for shown in (str(answer.headers), answer.body.decode(), service.log):
        assert TOKEN not in shown
        assert "Traceback" not in shown


def test_a_body_that_cannot_be_unpacked_is_a_bad_request_and_no_error_of_ours(
    service: Service,
) -> None:
    with Connection(service.url) as connection:
        connection.send(
            f"POST /rest?{PLACE} HTTP/1.1\r\n{AUTHORIZED}Content-Type: application/json\r\n"
            f"Content-Encoding: gzip\r\nContent-Length: {len(TOKEN)}\r\n\r\n{TOKEN}".encode()
        )
        answer = connection.read()
    assert answer.status == 400
    assert [error["field"] for error in answer.data["errors"]] == ["body"]
    until(lambda: answer.headers["X-Request-Id"] in service.log, "its line in the log", within=5)
    assert "Unhandled" not in service.log


@pytest.mark.parametrize("broken", [f"{TOKEN}\r\n", "5; a=b\r\nabcde\r\n", "5;\r\nabcde\r\n"])
@pytest.mark.parametrize("at_once", [True, False])
def test_broken_chunks_are_refused(service: Service, broken: str, at_once: bool) -> None:
    with Connection(service.url) as connection:
        if at_once:
            connection.send((CHUNKED + broken).encode())
        else:
            connection.send(
                CHUNKED.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").encode()
            )
            connection.await_bytes(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.send(broken.encode())
        answer = connection.read()
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.data["code"] == "invalid_request"
    request_id = answer.headers["X-Request-Id"]
    until(lambda: request_id in service.log, "its line in the log", within=5)
    assert TOKEN not in answer.body.decode() + service.log


@pytest.mark.parametrize(
    "trailers",
    [
        "Content-Length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "Host: other\r\n",
        "X: \0\r\n",
        "X: \x7f\r\n",
        "X: 1\r\n" * 200,
    ],
)
def test_trailers_that_no_body_may_have_are_refused_at_once(
    service: Service, trailers: str
) -> None:
    with Connection(service.url) as connection:
        began = time.monotonic()
        connection.send(f"{CHUNKED}0\r\n{trailers}\r\n".encode())
        answer = connection.read()
        assert time.monotonic() - began < 1.5  # a slow body is given up after 2 s
        assert connection.is_closed
    assert (answer.status, answer.data["code"]) == (400, "invalid_request")
    assert answer.data["errors"][0]["message"] == "body cannot be read: its encoding is broken"


@pytest.mark.parametrize(
    "sent",
    [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        "PRI * HTTP/2.0\r\n\r\n",
        "GET /healthz HTTP/2.0\r\nHost: t\r\n\r\n",
        "GET /healthz HTTP/0.9\r\n\r\n",
    ],
)
def test_another_version_of_http_is_refused_at_once(service: Service, sent: str) -> None:
    with Connection(service.url) as connection:
        began = time.monotonic()
        connection.send(sent.encode())
        answer = connection.read()
        assert time.monotonic() - began < 1.5  # slow headers are given up after 2 s
        assert connection.is_closed
    assert (answer.status, answer.data["code"]) == (505, "http_version_not_supported")
    require_common_headers(answer)
    assert answer.headers["Content-Type"] == "application/problem+json"
    request_id = answer.headers["X-Request-Id"]
    until(lambda: request_id in service.log, "its line in the log", within=5)
    assert "Traceback" not in service.log


@pytest.mark.parametrize("expected", ["foo", "100-continue, foo"])
def test_an_expectation_that_nobody_knows_is_passed_over(service: Service, expected: str) -> None:
    answer = call(service.url, "GET", f"/rest?{PLACE}", token=ADMIN, Expect=expected)
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/nowhere", "/healthz", "/rest"])
def test_an_expectation_that_no_route_takes_is_a_problem_too(service: Service, path: str) -> None:
    answer = call(service.url, "PATCH", path, body={}, Expect=TOKEN)
    assert answer.status == 417
    assert answer.data["code"] == "expectation_failed"
    assert answer.data["detail"] == "Only Expect: 100-continue is supported."
    require_common_headers(answer)
    assert answer.headers["Content-Type"] == "application/problem+json"
    request_id = answer.headers["X-Request-Id"]
    until(lambda: request_id in service.log, "its line in the log", within=5)
    assert TOKEN not in answer.body.decode() + service.log


def test_a_body_is_asked_for_where_the_client_waits_for_that(service: Service) -> None:
    head = (
        f"POST /rest?{PLACE} HTTP/1.1\r\n{AUTHORIZED}Content-Type: application/json\r\n"
        "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    with Connection(service.url) as connection:
        connection.send(head.encode())
        connection.await_bytes(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.send(b"{}")
        answer = connection.read()
    assert answer.status == 400
    assert answer.data["errors"][0]["field"] == "title"


def test_a_service_that_heard_nonsense_still_serves(service: Service) -> None:
    for sent in MALFORMED.values():
        talk(service.url, sent.encode("latin-1"))
    assert call(service.url, "GET", f"/rest?{PLACE}", token=ADMIN).status == 200
