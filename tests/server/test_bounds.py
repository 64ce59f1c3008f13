"""What a hostile request may cost the process that serves it, on both event loops."""

import gzip
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import ADMIN
from tests.support.calls import POLL, Connection, call, place, request, talk
from tests.support.processes import Service, services_in, until

EXPANDED = 900 * 1024 * 1024
PIPELINING = 250
UNREAD = 60
UNREAD_KIB = 1600
KIBIBYTE = 1024


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with services_in(tmp_path_factory.mktemp("bounds")) as services:
        yield services.start(POLLS_ADMIN_TOKEN=ADMIN, POLLS_EVENT_LOOP=request.param)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """0.9 MB that expand to 900."""
    packed = gzip.compress(b"\0" * EXPANDED, 9)
    assert len(packed) < 1024 * 1024
    return packed


def cpu_seconds(service: Service) -> float:
    fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(service: Service) -> int:
    status = Path(f"/proc/{service.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def compressed(path: str, body: bytes, token: str | None) -> bytes:
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: test\r\n{authorization}Content-Type: application/json\r\n"
        f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/nowhere", None, 404),
        ("/healthz", None, 405),
        (place(), None, 403),
        (place(), "nobody's", 403),
        (place(), ADMIN, 413),
    ],
)
def test_a_body_that_expands_costs_no_more_than_its_limit(
    service: Service, bomb: bytes, path: str, token: str | None, status: int
) -> None:
    begun = cpu_seconds(service)
    for _ in range(12):
        with Connection(service.url) as connection:
            connection.send(compressed(path, bomb, token))
            assert connection.read().status == status
    # Expanded it would take more than a second each.
    assert (cpu_seconds(service) - begun) / 12 < 0.05


def test_a_body_is_decompressed_where_it_is_wanted(service: Service) -> None:
    body = b'{"title": "packed", "options": [{"title": "yes"}]}'
    with Connection(service.url) as connection:
        connection.send(compressed(place("PACKED-1"), gzip.compress(body), ADMIN))
        answer = connection.read()
    assert (answer.status, answer.data["title"]) == (200, "packed")
    with Connection(service.url) as connection:
        connection.send(compressed(place("PACKED-1"), gzip.compress(body)[:-9], ADMIN))
        assert connection.read().status == 400
    assert len(call(service.url, "GET", place("PACKED-1"), token=ADMIN).data) == 1


@pytest.mark.parametrize("before", [b"", request("GET", "/healthz")], ids=["first", "behind"])
def test_a_header_block_in_one_piece_is_bounded(service: Service, before: bytes) -> None:
    lines = b"".join(b"X-%d: " % number + b"x" * 4000 + b"\r\n" for number in range(12))
    received = exchange(service, before + request("GET", "/healthz")[:-2] + lines + b"\r\n")
    *answers, refusal = received.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * bool(before)
    assert refusal.startswith(b"431 ")
    assert b"Content-Type: application/problem+json" in refusal
    assert b"Connection: close" in refusal


def exchange(service: Service, data: bytes) -> bytes:
    """All that is answered until the connection ends."""
    address = urlsplit(service.url)
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(data)
        while more := client.recv(65536):
            received += more
    return received


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [(place(), "application/json", 200), ("/api/v1/polls", "multipart/form-data", 400)],
)
def test_a_content_type_of_parameters_without_end_is_cheap(
    service: Service, path: str, kind: str, status: int
) -> None:
    data = request("POST", path, token=ADMIN, body=POLL)
    data = data.replace(b"application/json", kind.encode() + b";" * 8000)
    begun = cpu_seconds(service)
    for _ in range(40):
        assert talk(service.url, data).status == status
    assert (cpu_seconds(service) - begun) / 40 < 0.02


def test_clients_that_pipeline_and_read_nothing_cost_little_memory(service: Service) -> None:
    """128 MiB for a thousand of them."""
    address = urlsplit(service.url)
    pipelined = request("GET", "/openapi.json") * 2000
    before = resident_kib(service)
    with ExitStack() as stack:
        for _ in range(PIPELINING):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((address.hostname, address.port))
            client.setblocking(False)
            sent = 0
            while sent < len(pipelined):
                try:
                    sent += client.send(pipelined[sent:])
                except BlockingIOError:
                    break
        until(lambda: call(service.url, "GET", "/healthz").status == 200, "the service")
        grown = resident_kib(service) - before
    assert grown < 128 * KIBIBYTE * PIPELINING / 1000


def test_clients_that_do_not_read_the_script_of_the_page_share_it(service: Service) -> None:
    """It has 1.7 MB, and needs no token."""
    address = urlsplit(service.url)
    asks = request("GET", "/docs/swagger-ui-bundle.js")
    assert len(talk(service.url, asks).body) > UNREAD_KIB * KIBIBYTE
    before = resident_kib(service)
    with ExitStack() as stack:
        for _ in range(UNREAD):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10)
            client.connect((address.hostname, address.port))
            client.sendall(asks)
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        grown = resident_kib(service) - before
    assert grown < UNREAD * UNREAD_KIB / 2
