"""The page at /docs, in a browser."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page

from service.openapi.explorer import ASSETS, PAGE
from service.web.authentication import PUBLIC
from tests.conftest import ADMIN, Client, Raw
from tests.support.browsing import browser_page, needs_chromium
from tests.support.seeds import refused, stored_polls

TITLE = "Stars, through the page"


async def test_the_page_and_its_files_are_served_without_a_token(anonymous: Client) -> None:
    async with anonymous.get("/docs") as page:
        assert page.status == 200
        assert page.content_type == "text/html"
        text = await page.text()
        policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; connect-src 'self';")
    for name, kind in ASSETS.items():
        assert f"docs/{name}" in text
        async with anonymous.get(f"/docs/{name}") as asset:
            assert asset.status == 200
            assert asset.content_type == kind
            assert asset.headers["X-Content-Type-Options"] == "nosniff"
            assert await asset.read() == (PAGE / name).read_bytes()
    assert {"/docs", "/docs/{asset}", "/openapi.json"} <= PUBLIC


async def test_the_root_leads_people_and_programs_to_the_documentation(anonymous: Client) -> None:
    async with anonymous.get("/") as page:
        assert (page.status, page.content_type) == (200, "text/html")
        text = await page.text()
        assert page.headers["Link"] == (
            '<openapi.json>; rel="service-desc", <docs>; rel="service-doc"'
        )
    for path in re.findall('href="([^"]+)"', text):
        async with anonymous.get(f"/{path}") as target:
            assert target.status == 200
    assert 'href="docs"' in text
    assert 'href="openapi.json"' in text


@pytest.mark.parametrize("name", ["README.md", "index.html", "..%2Fdocument.py", "nothing.js"])
async def test_no_other_file_is_served(anonymous: Client, name: str) -> None:
    await refused(await anonymous.get(f"/docs/{name}"), 404)


@asynccontextmanager
async def browsing(url: str, console: list[str]) -> AsyncIterator[tuple[Page, set[str]]]:
    """A page, and the hosts that it has sent requests to."""
    hosts: set[str] = set()
    async with browser_page(console) as page:
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        await page.goto(url)
        yield page, hosts


@needs_chromium
async def test_a_caller_with_a_token_creates_a_poll_through_the_page(api: Client, raw: Raw) -> None:
    url = str(api.make_url("/docs"))
    console: list[str] = []
    async with browsing(url, console) as (page, hosts):
        await page.get_by_role("button", name="Authorize").click()
        bearer = page.locator(".auth-container", has_text="bearer (http, Bearer)")
        await bearer.locator("input").fill(ADMIN)
        await bearer.get_by_role("button", name="Apply credentials").click()
        await page.locator(".modal-ux .close-modal").click()

        create = page.locator("#operations-Content_polls-createContentPoll")
        await create.locator(".opblock-summary-control").click()
        body = create.locator("textarea.body-param__text")
        shown = await body.input_value()
        assert "⭐" in shown  # the example of the document
        await body.fill(shown.replace("Stars from ⭐ to ⭐⭐⭐⭐⭐", TITLE))
        await create.get_by_role("button", name="Execute").click()
        answer = create.locator(".live-responses-table .response")
        await answer.locator(".response-col_status", has_text="200").wait_for()
        assert TITLE in await answer.inner_text()
    assert console == []
    assert hosts == {urlsplit(url).netloc}
    [poll] = stored_polls(raw)
    assert poll["title"] == TITLE
    assert len(poll["options"]) == 5


@needs_chromium
async def test_the_page_cannot_send_requests_to_other_hosts(api: Client) -> None:
    console: list[str] = []
    async with browsing(str(api.make_url("/docs")), console) as (page, _):
        await page.locator("#operations-Content_polls-createContentPoll").wait_for()
        fetched = "fetch('http://127.0.0.2:9/').then(() => 'answered', () => 'refused')"
        assert await page.evaluate(fetched) == "refused"
    assert any("Content Security Policy" in line for line in console)
