"""The callers in examples/, as their users start them, against services that work and that fail."""

import asyncio
import contextlib
import os
import re
import runpy
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pymongo
import pytest
from aiohttp import web

from tests.conftest import ADMIN, Raw
from tests.server.test_kills import make_poll
from tests.support.fleet import HEADERS, Service, eventually, fleet_of, recount, service_in
from tests.support.processes import ROOT

pytestmark = pytest.mark.faults


CAST_VOTES = ROOT / "examples" / "cast_votes.py"
WATCH_RESULTS = ROOT / "examples" / "watch_results.py"
VOTES = 1000
PATIENCE_SECONDS = 90.0


class Caller:
    """The example, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self, pattern: str) -> None:
        """Returns after the next line with this in it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := (await self._process.stdout.readline()).decode():
                if re.search(pattern, line):
                    return
        raise AssertionError(f"it ended and did not say {pattern}")

    async def finished(self) -> tuple[int | None, str, str]:
        """Its exit status, and what it said and complained of."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            said, complained = await self._process.communicate()
        return self._process.returncode, said.decode(), complained.decode()


@asynccontextmanager
async def calling(
    url: str, *options: str, token: str = ADMIN, script: Path = CAST_VOTES
) -> AsyncIterator[Caller]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), url, *options),
        env={"PATH": os.defpath, "POLLS_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Caller(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


def require_all_counted_once(said: str, raw: Raw, votes: int = VOTES) -> None:
    """Holds what the caller printed, the results and the ballots against each other."""
    [container] = raw.containers.find()
    assert len(container["polls"]) == 1
    [session] = raw.sessions.find({"course_id": 1})
    ballots = list(raw.ballots.find({"session_id": session["_id"]}))
    assert len(ballots) == session["participants"] == votes
    counted = Counter(choice for ballot in ballots for choice in ballot["choices"])
    assert session["results"] == {option: counted[option] for option in ("1", "2", "3")}
    printed = [int(line.split()[0]) for line in said.splitlines()[-3:]]
    assert printed == [session["results"][option] for option in ("1", "2", "3")]
    assert f"{votes} votes were answered in " in said


def repeated(said: str) -> int:
    found = re.search(r"^(\d+) attempts were made again\.$", said, re.MULTILINE)
    assert found, said
    return int(found[1])


async def test_it_casts_a_thousand_votes_and_reads_them_back(
    mongodb_uri: str, raw: Raw, tmp_path: Path
) -> None:
    async with fleet_of(1, mongodb_uri, tmp_path) as fleet:
        [service] = fleet.services
        async with calling(service.url) as caller:
            status, said, complained = await caller.finished()
        assert (status, complained) == (0, "")
        require_all_counted_once(said, raw)
        assert repeated(said) == 0
        await recount(service)


async def test_it_goes_on_where_the_service_was_killed_and_started_again(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        url = service.url
        service.environment["POLLS_PORT"] = url.rpartition(":")[2]
        async with calling(url) as caller:
            with pymongo.MongoClient[dict[str, Any]](service.database_uri()) as client:
                ballots = client.polls.ballots
                # It makes the poll and enrolls the voters first.
                await eventually(
                    lambda: ballots.estimated_document_count() > VOTES // 5,
                    seconds=PATIENCE_SECONDS,
                )
            await service.kill()
            await service.start()
            status, said, complained = await caller.finished()
        assert (status, complained) == (0, "")
        assert repeated(said) > 0
        with pymongo.MongoClient[dict[str, Any]](service.database_uri()) as client:
            require_all_counted_once(said, client.polls)
        await recount(service)


# Watching --------------------------------------------------------------------------------------


async def test_it_shows_results_through_a_crash_and_a_restart_of_the_service(
    tmp_path: Path,
) -> None:
    async with service_in(tmp_path) as service:
        service.environment["POLLS_PORT"] = service.url.rpartition(":")[2]
        poll = await make_poll(service)

        async def vote(user_id: int) -> None:
            answer = await service.call(
                "POST", "/rest", params=poll.votes(user_id), json={"optionIds": ["1"]}
            )
            assert answer.status == 200, answer

        query = urlencode({**poll.query, "type": "results"})
        url = f"{service.url}/rest/results?{query}"
        async with calling(url, script=WATCH_RESULTS) as caller:
            await caller.says(r"^Tea\? \(open\)$")
            for user_id, end in ((1, service.kill), (2, service.stop)):
                await vote(user_id)
                await caller.says(rf"^yes +100\.0 % +{user_id} █+$")
                await end()
                await service.start()
            await vote(3)
            await caller.says(r"^yes +100\.0 % +3 █+$")
            deleted = await service.call("DELETE", "/rest", params=poll.query)
            assert deleted.status == 200, deleted
            status, _, complained = await caller.finished()
        assert status == 0
        *broken, last = complained.splitlines()
        assert broken
        assert all(re.fullmatch(r"No connection \(.+\); trying again\.", line) for line in broken)
        assert last == "The results are not shown any more: deleted."
        for refused, code, says in (
            (url, 1, "403: The token is unknown, revoked or expired.\n"),
            (f"{service.url}/api/v1/polls/1/poll_sessions/1/results", 2, "sessions of courses\n"),
        ):
            async with calling(refused, script=WATCH_RESULTS, token="polls_bad") as caller:
                status, _, complained = await caller.finished()
            assert status == code
            assert complained.endswith(says)


def test_its_bars_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    draw = runpy.run_path(str(WATCH_RESULTS))["draw"]
    shown = {"1": {"votes": 3, "percentage": 75.0}, "2": {"votes": 1, "percentage": 25.0}}
    titles = {"1": "A title of more than ten letters", "2": "No"}
    _, first, second = draw(
        "Tea?", titles, {"closed": False, "results": {"options": shown}}
    ).splitlines()
    assert first == "A title o…  75.0 %       3 ████████"
    assert second == "No          25.0 %       1 ██"


# A network between the two ---------------------------------------------------------------------


class Network:
    """Passes requests on, and fails each of them once before, or after, it was done.

    In turn: a 503 and a 429 that name a time, a 502 of a proxy, an answer that is lost with its
    connection, and one that comes later than the caller waits.
    """

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._met: set[tuple[str, ...]] = set()
        self._faults: list[Callable[[web.Request, bytes], Any]] = [
            *(self.refuse(503), self.refuse(429), self.no_gateway, self.lose, self.be_late)
        ]
        self.failed: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        what = (request.method, request.path_qs, body.decode())
        if what in self._met:
            return await self.pass_on(request, body)
        fault = self._faults[len(self._met) % len(self._faults)]
        self._met.add(what)
        self.failed[fault.__name__] += 1
        answer: web.StreamResponse = await fault(request, body)
        return answer

    async def pass_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = {
            name: text
            for name, text in request.headers.items()
            if name in ("Content-Type", "Idempotency-Key")
        }
        async with self._http.request(
            request.method, request.path_qs, data=body or None, headers=headers
        ) as answer:
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                content_type=answer.content_type,
            )

    def refuse(self, status: int) -> Callable[[web.Request, bytes], Any]:
        async def refuse(_: web.Request, __: bytes) -> web.Response:
            return web.Response(status=status, headers={"Retry-After": "1"})

        return refuse

    async def no_gateway(self, _: web.Request, __: bytes) -> web.Response:
        return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")

    async def lose(self, request: web.Request, body: bytes) -> web.Response:
        answer = await self.pass_on(request, body)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def be_late(self, request: web.Request, body: bytes) -> web.Response:
        answer = await self.pass_on(request, body)

        def hung_up() -> bool:
            return request.transport is None or request.transport.is_closing()

        await eventually(hung_up, seconds=PATIENCE_SECONDS)
        return answer


@asynccontextmanager
async def listening(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """The address of a server that hands every request to ``handler``."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def network_to(service: Service) -> AsyncIterator[tuple[str, Network]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(service.url, headers=HEADERS, connector=connector) as http:
        network = Network(http)
        async with listening(network.handle) as url:
            yield url, network


async def test_it_counts_right_over_a_network_that_fails_every_request_once(
    mongodb_uri: str, raw: Raw, tmp_path: Path
) -> None:
    votes = 100
    async with fleet_of(1, mongodb_uri, tmp_path) as fleet:
        [service] = fleet.services
        options = ("--votes", str(votes), "--attempt-seconds", "2")
        async with network_to(service) as (url, network), calling(url, *options) as caller:
            status, said, complained = await caller.finished()
        assert (status, complained) == (0, "")
        require_all_counted_once(said, raw, votes)
        assert min(network.failed.values()) >= votes // 5
        # The requests before the votes are four, and are failed too.
        assert repeated(said) >= votes + 4
        await recount(service)


async def test_a_refusal_ends_it_at_once_with_the_reason(mongodb_uri: str, tmp_path: Path) -> None:
    async with (
        fleet_of(1, mongodb_uri, tmp_path) as fleet,
        calling(fleet.services[0].url, token="no-token") as caller,
    ):
        status, said, complained = await caller.finished()
    assert (status, said) == (1, "")
    [sentence] = complained.splitlines()
    assert sentence.startswith("POST /rest: 403 {")


async def test_it_gives_up_in_time_and_says_what_it_met() -> None:
    asked = 0

    async def refuse(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=503, headers={"Retry-After": "0"})

    async with (
        listening(refuse) as url,
        calling(url, "--request-seconds", "1") as caller,
    ):
        status, said, complained = await caller.finished()
    assert (status, said) == (1, "")
    assert complained == "POST /rest: gave up after 1.0 s, last status 503.\n"
    assert asked > 1
