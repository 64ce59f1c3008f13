"""axe-core finds nothing to complain of on the page of a link."""

from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import ADMIN
from tests.generated.npm import needs_npm
from tests.support.browsing import browser_page, needs_chromium
from tests.support.processes import Service

pytestmark = [needs_npm, needs_chromium, pytest.mark.timeout(600)]

FOUND = "axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html)]))"
OPTIONS = ["Tea", "قهوة", "👍🏽", "Donaudampfschifffahrtsgesellschaft" * 7]


def call(service: Service, path: str, body: Any, **query: str) -> Any:
    answer = requests.post(
        f"{service.url}/rest/{path}",
        params={"workspace": "PLAT", **query},
        headers={"Authorization": f"Bearer {ADMIN}"},
        json=body,
        timeout=20,
    )
    assert answer.ok, answer.text
    return answer.json()


def links_of(service: Service, content: str, **settings: Any) -> list[str]:
    """Pages of a poll: for watching, for a user who has voted, and for one who has not."""
    options = [{"title": title} for title in OPTIONS]
    poll = {"title": "Tea?", "description": "Or not?", "options": options, "settings": settings}
    query = {"content": content, "pollId": call(service, "polls", poll, content=content)["id"]}
    call(service, "votes", {"optionIds": ["1"]}, **query, as_user_id="1")
    wanted = (["view"], "1"), (["view", "vote"], "1"), (["view", "vote"], "2")
    return [
        call(service, "links", {"actions": actions, "expiresIn": 600}, **query, as_user_id=user)[
            "url"
        ]
        for actions, user in wanted
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_on_the_pages_of_links(
    service: Service, packages: Path, scheme: str
) -> None:
    axe = (packages / "node_modules/axe-core/axe.min.js").read_text()
    every = {"allowRevote": True, "allowComment": True, "saveParticipantNames": True}
    urls = [
        *links_of(service, f"{scheme.upper()}-1", **every),
        *links_of(service, f"{scheme.upper()}-2", allowSelectionOfMultipleOptions=True),
        *links_of(service, f"{scheme.upper()}-3", resultsVisibility="private"),
        f"{service.url}/p/forged",
    ]
    # Its own policy would not let the page load axe.
    async with browser_page([], bypass_csp=True, color_scheme=scheme) as page:
        for url in urls:
            await page.goto(url)
            await page.evaluate(axe)
            assert await page.evaluate(FOUND) == [], url
        await page.goto(urls[2])
        await page.get_by_role("button", name="Vote").click()  # without a choice, the browser says
        await page.evaluate("document.querySelector('form').noValidate = true")
        await page.get_by_role("button", name="Vote").click()
        await page.get_by_role("alert").wait_for()
        await page.evaluate(axe)
        assert await page.evaluate(FOUND) == []
