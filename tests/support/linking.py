"""Links, and the pages that they open, as the tests use them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any

from aiohttp import ClientResponse

from storage.documents import UserId
from tests.conftest import Client
from tests.support.casting import Headers, Run, answered

VIEW, VOTE = ["view"], ["view", "vote"]
ROW = re.compile(r'data-option="([^"]+)">(.*?)</li>', re.DOTALL)
SHARE = re.compile(r"data-share>([^<]*)<")
VOTES = re.compile(r"data-votes>([^<]*)<")
TAG = re.compile(r"<[^>]+>")


@dataclass(frozen=True)
class Shown:
    """A page as a reader sees it. ``figures`` are share and votes by option, as far as shown."""

    status: int
    html: str

    @property
    def text(self) -> str:
        return unescape(" ".join(TAG.sub(" ", self.html.partition("<body>")[2]).split()))

    @property
    def figures(self) -> dict[str, tuple[str, ...]]:
        return {
            option: tuple(SHARE.findall(row) + VOTES.findall(row))
            for option, row in ROW.findall(self.html)
        }

    @property
    def own(self) -> list[str]:
        """The options that are marked as the holder's vote."""
        return [option for option, row in ROW.findall(self.html) if "Your vote" in row]

    @property
    def has_form(self) -> bool:
        return "<form" in self.html

    @property
    def key(self) -> str:
        return self._hidden("key")

    @property
    def version(self) -> str:
        return self._hidden("version")

    def _hidden(self, name: str) -> str:
        found = re.search(f'name="{name}" value="([^"]+)"', self.html)
        assert found is not None
        return found[1]


async def ask_link(
    api: Client,
    run: Run,
    actions: list[str],
    *,
    who: Headers | None = None,
    acting: UserId | None = None,
    seconds: int = 3600,
) -> ClientResponse:
    """Of a content poll through ``/rest``, of a session of a course through ``/api/v1``."""
    query = {} if acting is None else {"as_user_id": str(acting)}
    body = {"actions": actions, "expiresIn": seconds}
    if run.place["workspace"] == "users":
        return await api.post(f"{run.url}/links", params=query, json=body, headers=who)
    params = {**run.query, **query}
    params.pop("type")
    return await api.post("/rest/links", params=params, json=body, headers=who)


async def make_link(api: Client, run: Run, actions: list[str], **options: Any) -> str:
    """The path of a new link."""
    made = await answered(await ask_link(api, run, actions, **options))
    base = str(api.make_url("")).rstrip("/")
    assert made["url"].startswith(f"{base}/p/")
    return str(made["url"].removeprefix(base))


async def read(response: ClientResponse) -> Shown:
    assert response.content_type == "text/html", await response.text()
    return Shown(response.status, await response.text())


async def look(client: Client, link: str) -> Shown:
    return await read(await client.get(link))


async def send(
    client: Client,
    link: str,
    *options: str,
    headers: Headers | None = None,
    fields: Mapping[str, str] | None = None,
) -> Shown:
    """The page after its form was sent."""
    data = [*(("option", option) for option in options), *(fields or {}).items()]
    if not data:
        data = [("action", "vote")]
    return await read(await client.post(link, data=data, headers=headers))
