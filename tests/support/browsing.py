"""Chromium, through Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="The page is tested in Chromium, which is not installed: apt-get install chromium",
)


@asynccontextmanager
async def browser_page(console: list[str], **options: Any) -> AsyncIterator[Page]:
    """A page of a new browser; ``console`` gets what it complains of."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        context = await browser.new_context(**options)
        page = await context.new_page()
        page.on("console", lambda message: console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: console.append(f"error: {error}"))
        yield page
        await browser.close()
