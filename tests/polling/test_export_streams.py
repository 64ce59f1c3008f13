"""Exports as streams: a snapshot, in little memory, complete or visibly broken."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from structlog.testing import capture_logs

from service.app import create_app
from service.rules import views
from service.server.runner import Runner
from service.settings import Settings
from service.telemetry.log import RequestLog
from service.web import streams
from storage.client import Document, Transaction, set_time_limit
from storage.exports import BALLOTS_AT_A_TIME
from storage.store import Store
from tests.conftest import ADMIN, Client, Raw
from tests.support.casting import (
    Run,
    answered,
    content_run,
    course_run,
    seed_ballots,
    submit,
    submitted,
)
from tests.support.processes import eventually, failing, slow
from tests.support.seeds import refused


def open_cursors(raw: Raw) -> int:
    """Of the whole server; no other test uses it meanwhile."""
    status = raw.client.admin.command("serverStatus")
    return int(status["metrics"]["cursor"]["open"]["total"])


@pytest.fixture
def no_cursor_is_left(raw: Raw) -> Iterator[None]:
    before = open_cursors(raw)
    yield
    assert open_cursors(raw) == before


@dataclass
class Listening:
    """A listening service, and its log."""

    port: int
    runner: Runner
    lines: io.BytesIO
    events: list[Any]

    async def dial(
        self, run: Run, *, version: str = "1.1", form: str = "json", buffer: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Asks for an export over a connection of its own; ``buffer`` keeps that short."""
        connection = socket.socket()
        if buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=buffer or 2**16)
        writer.write(
            f"GET {run.url}/export?format={form} HTTP/{version}\r\nHost: polls\r\n"
            f"Authorization: Bearer {ADMIN}\r\nX-Request-Id: export-1\r\n\r\n".encode()
        )
        return reader, writer

    async def last_line(self) -> dict[str, Any]:
        """The log line of the only request, once it is written."""

        async def written() -> bool:
            return bool(self.lines.getvalue())

        await eventually(written, "the line of the request")
        [line] = self.lines.getvalue().splitlines()
        shown: dict[str, Any] = json.loads(line)
        return shown


async def read_to_reset(reader: asyncio.StreamReader) -> bytes:
    """What arrives before the connection is reset; fails if it ends normally."""
    received = b""
    try:
        async with asyncio.timeout(20):
            while piece := await reader.read(2**16):
                received += piece
    except ConnectionResetError:
        return received
    raise AssertionError("This answer came to an end.")


@pytest.fixture
async def listening(settings: Settings) -> AsyncIterator[Listening]:
    lines = io.BytesIO()
    runner = Runner(create_app(settings, request_log=RequestLog(lines)))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        with capture_logs() as events:
            yield Listening(site.port, runner, lines, events)
    finally:
        await runner.cleanup()


# One moment ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_cursor_is_left")
async def test_votes_that_arrive_during_an_export_are_not_in_it(
    api: Client, raw: Raw, store: Store
) -> None:
    run = await course_run(api, raw, allowRevote=True)
    seed_ballots(raw, run, BALLOTS_AT_A_TIME + 100, named=True)
    await submitted(api, run, 1, acting=9_001)
    stored = BALLOTS_AT_A_TIME + 101
    async with store.exports.open(run.session) as export:
        # Between the counts and the ballots, and between the ballots.
        await submitted(api, run, 2, acting=9_002)
        await submitted(api, run, 2, acting=9_001)
        ballots = list(await anext(export.ballots))
        await submitted(api, run, 2, acting=9_003)
        await answered(await api.get(f"{run.url}/close"))
        async for more in export.ballots:
            ballots += more
    assert export.session["participants"] == stored
    assert export.session["results"] == {"1": stored, "2": 0, "3": 0}
    assert export.session["is_published"] is True
    assert len({ballot["_id"] for ballot in ballots}) == len(ballots) == stored
    assert {choice for ballot in ballots for choice in ballot["choices"]} == {"1"}
    async with store.exports.open(run.session) as later:
        assert later.session["results"] == {"1": stored - 1, "2": 3, "3": 0}


async def test_the_order_of_submissions_tells_nothing_of_when_they_came(
    api: Client, raw: Raw, store: Store
) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, 200)
    # An index would return them in this order even without a sort.
    raw.ballots.drop_index("session_id_1_number_1")
    async with store.exports.open(run.session) as export:
        [ballots] = [ballots async for ballots in export.ballots]
    numbers = [ballot["number"] for ballot in ballots]
    assert numbers == sorted(numbers)
    assert numbers != [ballot["number"] for ballot in raw.ballots.find()]


async def test_session_and_poll_of_an_export_are_of_one_moment(
    api: Client, raw: Raw, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw)

    find_one = Transaction.find_one

    def find_late(transaction: Transaction, name: str, query: Document) -> Document | None:
        if name == "containers":
            raw.containers.update_one({}, {"$set": {"polls.0.title": "Coffee?"}})
        return find_one(transaction, name, query)

    monkeypatch.setattr(Transaction, "find_one", find_late)
    async with store.exports.open(run.session) as export:
        assert export.poll["title"] == "Tea?"
    async with store.exports.open(run.session) as export:
        assert export.poll["title"] == "Coffee?"


@pytest.mark.usefixtures("no_cursor_is_left")
async def test_a_poll_that_changes_during_an_export_is_exported_as_it_was(
    api: Client, raw: Raw, store: Store
) -> None:
    run = await course_run(api, raw)
    given = await submitted(api, run, 1, acting=7)
    async with store.exports.open(run.session) as export:
        await answered(await api.delete(run.poll_url), 204)
        [[ballot]] = [ballots async for ballots in export.ballots]
    assert (export.poll["number"], ballot["number"]) == (run.number, given["id"])
    assert "requests" not in ballot
    await refused(await api.get(f"{run.url}/export", params={"format": "csv"}), 404)


@pytest.mark.usefixtures("no_cursor_is_left")
async def test_counts_and_rows_agree_in_each_export_among_racing_votes(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, allowRevote=True)
    seed_ballots(raw, run, 2 * BALLOTS_AT_A_TIME, named=True)
    is_over = False

    async def votes(first: int) -> None:
        user = first
        while not is_over:
            user += 1
            await answered(await submit(api, run, 1 + user % 3, acting=10_000 + user % 900))

    voters = [asyncio.create_task(votes(first)) for first in (0, 300, 600)]
    seen = set()
    try:
        for _ in range(8):
            answer = await api.get(f"{run.url}/export", params={"format": "json"})
            shown = await answered(answer)
            counted = {choice["id"]: 0 for choice in shown["poll_choices"]}
            for submission in shown["poll_submissions"]:
                counted[submission["poll_choice_id"]] += 1
            assert counted == {one["id"]: one["votes"] for one in shown["poll_choices"]}
            assert len(shown["poll_submissions"]) == shown["poll_session"]["participants"]
            seen.add(tuple(counted.values()))
    finally:
        is_over = True
        await asyncio.gather(*voters)
    assert len(seen) > 1, "nobody voted meanwhile"


# Patience --------------------------------------------------------------------------------------


async def test_an_export_may_take_longer_than_a_request_has_patience(
    api: Client, raw: Raw, store: Store
) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, 4 * BALLOTS_AT_A_TIME, named=True)
    read = 0
    set_time_limit(1.0)
    with slow(raw.client, "getMore", 400):
        async with store.exports.open(run.session) as export:
            async for ballots in export.ballots:
                read += len(ballots)
    assert read == 4 * BALLOTS_AT_A_TIME


# Errors ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_cursor_is_left")
async def test_a_database_that_fails_before_the_first_byte_is_a_problem(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw)
    await submitted(api, run, 1, acting=7)
    statuses = []
    for reads in range(20):
        with failing(raw.client, {"skip": reads}, failCommands=["find"], errorCode=50):
            answer = await api.get(f"{run.url}/export", params={"format": "csv"})
            statuses.append(answer.status)
            if answer.status == 200:
                assert (await answer.text()).count('\n"submission",') == 1
                break
            await refused(answer, 503)
    # The last one that failed was the read of the ballots.
    assert len(statuses) > 4


@pytest.mark.usefixtures("no_cursor_is_left")
@pytest.mark.parametrize("how", [{"errorCode": 8}, {"closeConnection": True}], ids=str)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("form", ["csv", "json"])
async def test_an_error_after_the_first_byte_cuts_the_connection_and_is_logged(
    api: Client, raw: Raw, listening: Listening, how: dict[str, Any], version: str, form: str
) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, 3 * BALLOTS_AT_A_TIME, named=True)
    with failing(raw.client, {"skip": 1}, failCommands=["getMore"], **how):
        reader, writer = await listening.dial(run, version=version, form=form)
        received = await read_to_reset(reader)
        line = await listening.last_line()
    writer.close()
    # What comes before the reset may be lost on the way; a second head must not follow the first.
    assert received.count(b"HTTP/1.") <= 1
    assert b"problem" not in received
    assert not received.endswith((b"0\r\n\r\n", b"]}"))
    [event] = [one for one in listening.events if one["event"] != "database unavailable"]
    assert (event["event"], event["log_level"]) == ("answer cut off", "error")
    assert event["request_id"] == line["id"] == "export-1"
    assert line["status"] != 200
    # The next one succeeds.
    assert (await api.get(f"{run.url}/export", params={"format": form})).status == 200


@pytest.mark.usefixtures("no_cursor_is_left")
async def test_an_export_that_is_whole_ends_in_order_in_http_1_0_too(
    api: Client, raw: Raw, listening: Listening
) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, 2 * BALLOTS_AT_A_TIME, named=True)
    reader, writer = await listening.dial(run, version="1.0")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"chunked" not in head
    assert len(json.loads(body)["poll_submissions"]) == 2 * BALLOTS_AT_A_TIME
    assert (await listening.last_line())["status"] == 200
    assert listening.events == []


# Callers ---------------------------------------------------------------------------------------

LONG_COMMENT = "tea " * 1_000
MANY = 4_000
"""With such comments more than all buffers between the service and its caller hold."""


@pytest.mark.usefixtures("no_cursor_is_left")
async def test_a_client_that_hangs_up_leaves_no_cursor_behind(
    api: Client, raw: Raw, listening: Listening
) -> None:
    run = await course_run(api, raw, allowComment=True)
    seed_ballots(raw, run, MANY, named=True, comment=LONG_COMMENT)
    before = open_cursors(raw)
    reader, writer = await listening.dial(run, buffer=4_096)
    await reader.readexactly(10_000)
    assert open_cursors(raw) == before + 1
    writer.transport.abort()
    assert (await listening.last_line())["status"] == 499
    assert open_cursors(raw) == before
    assert listening.events == []


@pytest.mark.usefixtures("no_cursor_is_left")
async def test_a_client_that_reads_nothing_is_cut_off_in_time_and_little_was_read_for_it(
    api: Client, raw: Raw, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw, allowComment=True)
    seed_ballots(raw, run, MANY, named=True, comment=LONG_COMMENT)
    shown = 0
    show = views.submission

    def count(*ballot: Any, **options: Any) -> dict[str, Any]:
        nonlocal shown
        shown += 1
        return show(*ballot, **options)

    monkeypatch.setattr(views, "submission", count)
    monkeypatch.setattr(streams, "STREAM_SECONDS", 1.5)
    reader, writer = await listening.dial(run, buffer=4_096)
    line = await listening.last_line()
    assert line["status"] != 200
    assert line["ms"] >= 1_400
    assert 0 < shown < MANY
    [event] = listening.events
    assert (event["event"], event["log_level"]) == ("answer cut off", "warning")
    await read_to_reset(reader)
    writer.close()


async def test_a_stop_that_cannot_wait_cuts_the_export_off(
    api: Client, raw: Raw, listening: Listening
) -> None:
    run = await course_run(api, raw, allowComment=True)
    seed_ballots(raw, run, MANY, named=True, comment=LONG_COMMENT)
    reader, writer = await listening.dial(run, version="1.0", buffer=4_096)
    await reader.readexactly(10_000)
    listening.runner.stop_seconds = listening.runner._shutdown_timeout = 0.1
    await listening.runner.cleanup()
    await read_to_reset(reader)
    writer.close()


async def test_an_export_of_unnamed_votes_reads_no_ballot(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    await answered(await submit(api, run, 1, acting=7))
    raw.ballots.delete_many({})
    shown: ClientResponse = await api.get(f"{run.url}/export", params={"format": "json"})
    assert (await answered(shown))["poll_session"]["participants"] == 1
