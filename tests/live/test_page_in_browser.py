"""The page of a link, in a browser: with scripts and without."""

import asyncio
from typing import Any, cast

import pytest
from playwright.async_api import Page, Route, expect
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.live import hub, watcher
from service.settings import Settings
from service.web.store_key import STORE
from tests.conftest import ADMIN, AsServed, Client, Clock, Raw, TokenMaker
from tests.support.browsing import browser_page, needs_chromium
from tests.support.casting import Run, answered, change, content_run, tally, vote
from tests.support.linking import VIEW, VOTE, make_link
from tests.support.seeds import ISSUE, a_poll
from tests.support.watching import comes_true

pytestmark = needs_chromium
LONG = "Donaudampfschifffahrtsgesellschaft" * 8


async def open_page(page: Page, api: Client, link: str) -> None:
    await page.goto(str(api.make_url(link)))


async def live(page: Page, api: Client, link: str) -> None:
    """The page once it follows its stream; ``has_not_reloaded`` tells whether it is still this."""
    await open_page(page, api, link)
    await page.evaluate("window.isTheSame = true")
    await follows(page)


async def follows(page: Page) -> None:
    await expect(page.locator("main")).to_have_attribute("data-connection", "live")


async def has_not_reloaded(page: Page) -> bool:
    return bool(await page.evaluate("window.isTheSame === true"))


async def width_of(page: Page, option: str) -> float:
    """How much of its bar is filled, in percent, as it is drawn."""
    drawn = await page.evaluate(
        """(option) => {
          const bar = document.querySelector(`[data-option="${option}"] svg`);
          const fill = bar.querySelector("[data-fill]");
          return 100 * fill.getBoundingClientRect().width / bar.getBoundingClientRect().width;
        }""",
        option,
    )
    return float(drawn)


async def test_without_scripts_a_vote_is_cast_by_the_form_and_its_result_seen(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowRevote=True, allowComment=True)
    link = await make_link(api, run, VOTE, acting=7)
    console: list[str] = []
    async with browser_page(console, java_script_enabled=False) as page:
        await open_page(page, api, link)
        # By keyboard alone: to the first option, down to the second, on to the button.
        await page.keyboard.press("Tab")
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Tab")
        await page.keyboard.type("Because <b>it</b> is")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status").first).to_have_text("Your vote was counted.")
        assert tally(raw, run) == {"2": 1}
        row = page.get_by_role("listitem").nth(1)
        await expect(row).to_contain_text("100%")
        await expect(row).to_contain_text("1 vote")
        await page.get_by_role("button", name="Withdraw vote").click()
        await expect(page.get_by_role("status").first).to_have_text("Your vote was withdrawn.")
        assert tally(raw, run) == {}
    assert console == []


async def test_with_scripts_the_bars_follow_votes_of_every_process_without_a_reload(
    api: Client,
    raw: Raw,
    settings: Settings,
    clock: Clock,
    aiohttp_client: AiohttpClient,
) -> None:
    other = cast(
        Client,
        await aiohttp_client(
            AsServed(create_app(settings, clock=clock)),
            headers={"Authorization": f"Bearer {ADMIN}"},
        ),
    )
    run = await content_run(api, raw, allowComment=True)
    console: list[str] = []
    async with browser_page(console, reduced_motion="reduce") as page:
        await live(page, api, await make_link(api, run, VOTE, acting=100))
        voters = [
            vote(process, run, "1" if user % 5 else "2", acting=user)
            for user, process in enumerate([api, other] * 25, 1)
        ]
        await asyncio.gather(*voters)
        await expect(page.get_by_text("50 voters", exact=True)).to_be_visible()
        rows = page.get_by_role("listitem")
        await expect(rows.nth(0)).to_contain_text("80%")
        await expect(rows.nth(0)).to_contain_text("40 votes")
        await expect(rows.nth(1)).to_contain_text("20%")
        assert await width_of(page, "1") == pytest.approx(80, abs=0.5)
        assert await width_of(page, "2") == pytest.approx(20, abs=0.5)
        assert await width_of(page, "3") == 0
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        # The form is still that of the page, and what was chosen stays.
        await page.get_by_label("blue").check()
        await answered(await vote(other, run, "2", acting=60))
        await expect(page.get_by_text("51 voters", exact=True)).to_be_visible()
        await expect(page.get_by_label("blue")).to_be_checked()

        await answered(await api.put(f"{run.url}/close"))
        await expect(page.get_by_text("Closed", exact=True)).to_be_visible()
        await expect(page.get_by_role("button", name="Vote")).to_be_hidden()
        await expect(page.get_by_label("blue")).to_be_disabled()
        # Nothing looks as if the choice had counted.
        ended = "Voting has closed. Your choice was not sent."
        await expect(page.locator(".notice").get_by_text(ended)).to_be_visible()
        await expect(page.get_by_role("status").last).to_have_text(ended)
        await expect(page.get_by_role("group", name="Results")).to_be_visible()
        await expect(page.get_by_label("Comment")).to_be_hidden()
        await answered(await api.put(f"{run.url}/open"))
        await expect(page.get_by_label("blue")).to_be_enabled()
        await expect(page.get_by_label("Comment")).to_be_visible()
        await expect(page.get_by_role("group", name="Choose one option")).to_be_visible()
        await expect(page.get_by_text(ended)).to_be_hidden()
        assert await has_not_reloaded(page)
    assert console == []


async def test_with_scripts_the_page_shows_results_as_soon_as_they_may_be_seen(
    api: Client, raw: Raw
) -> None:
    closing = await content_run(api, raw, resultsVisibility="afterClose", hideAbsoluteNumbers=True)
    await answered(await vote(api, closing, "1", acting=1))
    voting = await content_run(api, raw, resultsVisibility="afterVote")
    await answered(await vote(api, voting, "1", acting=1))
    console: list[str] = []
    async with browser_page(console) as page:
        second = await page.context.new_page()
        await live(page, api, await make_link(api, closing, VIEW))
        await expect(page.get_by_text("100%")).to_have_count(0)
        await expect(page.get_by_text("Live", exact=True)).to_be_hidden()
        await live(second, api, await make_link(api, voting, VOTE, acting=7))
        await expect(second.get_by_text("Results are shown once you have voted.")).to_be_visible()
        await answered(await api.put(f"{closing.url}/close"))
        await answered(await vote(api, voting, "2", acting=7))
        await expect(page.get_by_text("100%")).to_be_visible()
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        await expect(page.get_by_text("1 vote", exact=True)).to_have_count(0)
        await expect(second.get_by_text("50%")).to_have_count(2)
    assert console == []


async def test_with_scripts_the_page_loads_again_where_it_has_changed_and_says_how_it_ended(
    api: Client, raw: Raw, make_token: TokenMaker, clock: Clock
) -> None:
    run = await content_run(api, raw)
    token = await make_token(name="maker")
    link = await make_link(api, run, VOTE, who=token)
    console: list[str] = []
    async with browser_page(console) as page:
        await live(page, api, link)
        await change(api, run, allowComment=True)
        await expect(page.get_by_label("Comment")).to_be_visible()
        # What has been entered is not thrown away.
        await follows(page)
        await page.get_by_label("Comment").fill("mine")
        await change(api, run, allowRevote=True)
        await expect(page.get_by_text("your choice is not sent yet.")).to_be_visible()
        await expect(page.get_by_label("Comment")).to_have_value("mine")
        # What is live goes on.
        await answered(await vote(api, run, "1", acting=1))
        await expect(page.get_by_text("1 voter", exact=True)).to_be_visible()
        await page.get_by_role("link", name="Reload it").click()
        await expect(page.get_by_text("your choice is not sent yet.")).to_be_hidden()
        await follows(page)
        await api.app[STORE].tokens.revoke("maker", clock())
        await expect(page.get_by_text("This link is not valid")).to_be_visible(timeout=10_000)
    assert [line for line in console if "403" not in line] == []


async def test_with_scripts_a_page_that_was_cut_off_says_that_its_link_has_ended_meanwhile(
    api: Client, raw: Raw, make_token: TokenMaker, clock: Clock
) -> None:
    """As that of a computer which slept: its browser connects again by itself, and is refused."""
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE, who=await make_token(name="maker"))

    async def cut_off(route: Route) -> None:
        await api.app[STORE].tokens.revoke("maker", clock())
        await route.fulfill(content_type="text/event-stream", body="retry: 10\n\n")

    async with browser_page([]) as page:
        await page.clock.install()
        await page.route("**/events", cut_off, times=1)
        async with page.expect_response(lambda answer: answer.status == 403):
            await open_page(page, api, link)
        async with page.expect_request(lambda request: request.method == "HEAD"):
            await page.clock.run_for(10_000)
        await page.clock.run_for(5_000)
        await expect(page.get_by_text("This link is not valid")).to_be_visible(timeout=10_000)


COUNTED_PINGS = """
window.pings = 0;
window.EventSource = class extends EventSource {
  constructor(url) {
    super(url);
    this.addEventListener("ping", () => { window.pings += 1; });
  }
};
"""


async def hear_ping(page: Page) -> None:
    await page.evaluate("window.pings = 0")

    async def is_heard() -> bool:
        return bool(await page.evaluate("window.pings > 0"))

    await comes_true(is_heard)


async def test_with_scripts_the_page_says_that_its_numbers_may_be_old_and_connects_again(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``EventSource`` notices neither a connection that is dead nor one that is only quiet."""
    monkeypatch.setattr(watcher, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("service.live.events.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(hub, "TICK_SECONDS", 0.05)
    run = await content_run(api, raw)
    link = await make_link(api, run, VIEW)
    opened: list[str] = []
    console: list[str] = []
    async with browser_page(console) as page:
        page.on("request", lambda request: opened.append(request.url.rpartition("/")[2]))
        await page.clock.install()
        await page.add_init_script(COUNTED_PINGS)
        await live(page, api, link)
        for _ in range(2):
            await page.clock.fast_forward(40_000)
            await hear_ping(page)
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        assert opened.count("events") == 1
        monkeypatch.setattr(watcher, "HEARTBEAT_SECONDS", 100.0)
        await hear_ping(page)
        await page.route("**/events", lambda _: None)
        await page.clock.fast_forward(50_000)
        await expect(page.get_by_text("Numbers may be out of date.")).to_be_visible()
        await page.unroute("**/events")
        await answered(await vote(api, run, "1", acting=1))
        await page.clock.fast_forward(50_000)
        await expect(page.get_by_text("1 voter", exact=True)).to_be_visible()
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        assert await has_not_reloaded(page)
    assert console == []


async def test_the_page_says_until_when_in_the_language_and_zone_that_its_reader_understands(
    api: Client, raw: Raw
) -> None:
    end: dict[str, Any] = {"closePollOnEndDate": True, "endDate": "2126-01-31T18:00:00Z"}
    link = await make_link(api, await content_run(api, raw, **end), VIEW)
    async with browser_page([], locale="de-DE", timezone_id="Europe/Berlin") as page:
        await live(page, api, link)
        await expect(page.get_by_text("until 31 January 2126 at 19:00 CET")).to_be_visible()


async def test_the_page_fits_every_width_whatever_is_asked(api: Client, raw: Raw) -> None:
    titles = [LONG[:255], "مرحبا بالعالم", "👍🏽👍🏽", *(f"Option {n}" for n in range(4, 101))]
    body: dict[str, Any] = a_poll(
        title=LONG[:255],
        description=f"هل توافق؟\n{LONG}",
        options=[{"title": title} for title in titles],
        settings={"allowSelectionOfMultipleOptions": True, "allowComment": True},
    )
    poll = await answered(await api.post("/rest", params=ISSUE, json=body))
    [session] = raw.sessions.find({"poll_id": poll["id"]})
    run = Run(poll["id"], session["poll_number"], session["_id"], ISSUE)
    console: list[str] = []
    async with browser_page(console) as page:
        await open_page(page, api, await make_link(api, run, VOTE, acting=7))
        await expect(page.get_by_role("checkbox")).to_have_count(100)
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        for width in (320, 768, 1280, 1920):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate(overflow) == 0, width
        # However long the list is.
        await expect(page.get_by_role("button", name="Vote")).to_be_in_viewport()
    assert console == []


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (900, 480)], ids=["desk", "frame"])
async def test_the_button_of_a_short_poll_is_seen_without_scrolling(
    api: Client, raw: Raw, width: int, height: int
) -> None:
    run = await content_run(api, raw, allowComment=True)
    size: Any = {"width": width, "height": height}
    async with browser_page([], viewport=size) as page:
        await open_page(page, api, await make_link(api, run, VOTE, acting=7))
        await expect(page.get_by_role("button", name="Vote")).to_be_in_viewport(ratio=1)
