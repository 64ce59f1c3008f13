"""Output that cannot be written costs its lines and nothing else."""

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from service.telemetry.output import MAX_WAITING_BYTES, Output
from tests.conftest import ADMIN, SECRET
from tests.support.calls import call, place
from tests.support.processes import ROOT, Services, until
from tests.telemetry.test_metrics import Samples, parse, value

pytestmark = pytest.mark.faults


LINE = b"x" * 99 + b"\n"


def test_lines_of_several_processes_stay_whole_in_one_pipe() -> None:
    lines = [b"%d %s\n" % (number, b"x" * (number * 37 % 900)) for number in range(100)]
    lines.append(b"y" * 10_000 + b"\n")
    # A pipe of packets gives with each read what one write wrote.
    reader, writer = os.pipe2(os.O_DIRECT)
    with os.fdopen(reader, "rb", buffering=0) as packets, os.fdopen(writer, "wb") as end:
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 1 << 20)
        output = Output(writer)
        assert output.write(b"".join(lines)) == sum(map(len, lines))
        output.drain(10)
        end.close()
        written = list(iter(lambda: packets.read(1 << 16), b""))
    assert b"".join(written) == b"".join(lines)
    assert max(map(len, written)) <= 4096
    assert all(piece.endswith(b"\n") for piece in written[:-3])  # the long line has the last three


def test_a_reader_that_stops_costs_lines_and_gets_the_later_ones_when_it_goes_on() -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    sent = 2 * MAX_WAITING_BYTES // len(LINE)
    for _ in range(sent):
        output.write(LINE)
    assert 0 < output.lost_lines < sent
    received = 0
    while received < (sent - output.lost_lines) * len(LINE):
        received += len(os.read(reader, 1 << 20))
    output.write(b"later\n")
    assert os.read(reader, 1 << 20) == b"later\n"
    os.close(reader)
    output.write(b"for nobody\n")
    output.drain(10)
    assert received == (sent - output.lost_lines + 1) * len(LINE)
    os.close(writer)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """What a full disk does to a write: a part of it is written, and then nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_that_a_full_disk_cut_off_spoils_no_later_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    size = 1 << 20
    with log.open("wb", buffering=0) as file:
        file.seek(size - 150)
        output = Output(file.fileno())
        with no_file_larger_than(size):
            output.write(3 * LINE)
            output.drain(10)
            output.write(LINE)
            output.drain(10)
        output.write(b"later\n")
        output.drain(10)
    first, cut, last = log.read_bytes()[size - 150 :].splitlines()
    assert (first + b"\n", cut, last) == (LINE, b"x" * 50, b"later")
    assert output.lost_lines == 3


FORKED = """
import os
from service.telemetry.output import Output

output = Output(1)
if os.fork():
    os.wait()
else:
    output.write(b"of the child\\n")
    output.drain(10)
"""


def test_a_process_that_is_forked_off_writes_too() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=30)
    assert done.stdout == b"of the child\n"


REQUESTS = 60


class Unheard:
    """A service whose output goes elsewhere, and its address."""

    def __init__(self, services: Services, redirection: str, **environment: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.service = services.begin(
            redirection=redirection,
            POLLS_ADMIN_TOKEN=ADMIN,
            POLLS_PORT=str(port),
            POLLS_LOG_LEVEL="debug",  # events of libraries, too
            **environment,
        )
        until(self.is_ready, "the start")

    def is_ready(self) -> bool:
        with suppress(OSError):
            return call(self.url, "GET", "/readyz").status == 200
        return False

    def samples(self) -> Samples:
        return parse(call(self.url, "GET", "/metrics").body.decode())


@pytest.fixture
def stalled(tmp_path: Path) -> Iterator[str]:
    """The redirection to a pipe that is full, and that nobody reads."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ends = [os.open(fifo, one | os.O_NONBLOCK) for one in (os.O_RDONLY, os.O_WRONLY)]
    fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, 4096)
    with suppress(BlockingIOError):
        while os.write(ends[1], b"\n"):
            pass
    yield f"> {fifo} 2>&1"
    for end in ends:
        os.close(end)


@pytest.mark.parametrize(
    ("kind", "workers"), [("full", "1"), ("closed", "1"), ("stalled", "1"), ("stalled", "2")]
)
def test_output_that_cannot_be_written_holds_up_no_request_and_no_stop(
    services: Services, mongodb_uri: str, stalled: str, kind: str, workers: str
) -> None:
    redirection = {"full": "> /dev/full 2>&1", "closed": "<&- >&- 2>&-", "stalled": stalled}[kind]
    where = {"MONGODB_URI": mongodb_uri, "POLLS_SECRET": SECRET}
    unheard = Unheard(services, redirection, POLLS_WORKERS=workers, **where)
    for _ in range(REQUESTS):
        assert call(unheard.url, "GET", place(), token=ADMIN).status == 200
    counted = {"route": "/rest/polls", "method": "GET", "status": "200"}
    until(
        lambda: value(unheard.samples(), "polls_http_requests_total", **counted) == REQUESTS,
        "the metrics of all requests",
    )
    lost = value(unheard.samples(), "polls_log_lines_lost_total")
    assert lost >= REQUESTS if kind == "full" else lost == 0
    assert unheard.service.stop() == 0


def test_the_embedded_server_is_restarted_though_nobody_reads_the_log(
    services: Services, stalled: str
) -> None:
    unheard = Unheard(services, stalled)
    killed = unheard.service.server_pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: unheard.service.server_pid != killed, "another server")
    until(unheard.is_ready, "its start")
    assert unheard.service.stop() == 0
