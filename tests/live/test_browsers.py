"""The JavaScript of docs/callers.md, in a browser, on a page of another origin."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.conftest import ADMIN
from tests.server.test_kills import make_poll
from tests.support.browsing import browser_page, needs_chromium
from tests.support.fleet import service_in
from tests.support.processes import ROOT
from tests.support.watched import path_of

pytestmark = pytest.mark.faults


PAGE = (ROOT / "docs" / "callers.md").read_text()
FOLLOWERS = re.findall(r"^```js\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@asynccontextmanager
async def a_page() -> AsyncIterator[str]:
    """An empty one, at an origin of its own."""
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>results</title>", content_type="text/html")

    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


@needs_chromium
@pytest.mark.parametrize("follower", FOLLOWERS, ids=["EventSource", "fetch"])
async def test_a_page_of_another_origin_follows_results_through_a_restart(
    tmp_path: Path, follower: str
) -> None:
    console: list[str] = []
    async with (
        a_page() as origin,
        service_in(tmp_path, POLLS_CORS_ORIGINS=origin) as service,
        browser_page(console) as page,
    ):
        await page.goto(origin)
        service.environment["POLLS_PORT"] = service.url.rpartition(":")[2]
        poll = await make_poll(service)
        await page.evaluate(
            f"([url, token]) => {{ {follower} window.seen = [];"
            "follow(url, token, (results) => seen.push(results.results.participants)); }",
            [service.url + path_of(poll), ADMIN],
        )
        await page.wait_for_function("seen.at(-1) === 0")
        for user_id, end in ((1, service.stop), (2, None)):
            answer = await service.call(
                "POST", "/rest", params=poll.votes(user_id), json={"optionIds": ["1"]}
            )
            assert answer.status == 200, answer
            await page.wait_for_function(f"seen.at(-1) === {user_id}")
            if end is not None:
                await end()
                await service.start()
        assert await page.evaluate("seen") == [0, 1, 2]
        assert not [line for line in console if "Uncaught" in line or "CORS" in line]


FOLLOW = """([url, token]) => {{
  {} window.seen = [];
  const show = (results) => {{ seen.push(results); if (token === "x") throw new Error("mine"); }};
  return follow(url, token, show).catch((error) => error.message);
}}"""


@needs_chromium
async def test_the_follower_by_fetch_tells_of_errors_and_how_the_stream_ended(
    tmp_path: Path,
) -> None:
    follow = FOLLOW.format(FOLLOWERS[1])
    async with (
        a_page() as origin,
        service_in(tmp_path, POLLS_CORS_ORIGINS=origin) as service,
        browser_page([]) as page,
    ):
        await page.goto(origin)
        poll = await make_poll(service)
        url = service.url + path_of(poll)
        refused = await page.evaluate(follow, [url, "polls_bad"])
        assert refused.startswith("403 {")
        own = follow.replace('token === "x"', "true")
        assert await page.evaluate(own, [url, ADMIN]) == "mine"
        ended = asyncio.create_task(page.evaluate(follow, [url, ADMIN]))
        await page.wait_for_function("window.seen?.length === 1 && seen[0].results")
        deleted = await service.call("DELETE", "/rest", params=poll.query)
        assert deleted.status == 200, deleted
        assert await ended == "deleted"


@needs_chromium
async def test_the_follower_by_fetch_gives_up_a_silent_connection(tmp_path: Path) -> None:
    async with (
        a_page() as origin,
        service_in(tmp_path, POLLS_CORS_ORIGINS=origin) as service,
        browser_page([]) as page,
    ):
        await page.clock.install()
        await page.goto(origin)
        poll = await make_poll(service)
        await page.route("**/rest/**", lambda _: None, times=1)
        started = f"(of) => {{ ({FOLLOW.format(FOLLOWERS[1])})(of); }}"
        async with page.expect_request("**/rest/**"):
            await page.evaluate(started, [service.url + path_of(poll), ADMIN])
        async with page.expect_request("**/rest/**"):
            await page.clock.run_for(44_000)
            assert await page.evaluate("seen") == []
            await page.clock.run_for(3_000)
        await page.wait_for_function("seen.length === 1")
