"""The base of the links: the address that the client used (docs/api.md, section 4)."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pytest_aiohttp import AiohttpClient
from yarl import URL

from service.app import create_app
from service.settings import Settings
from tests.conftest import ADMIN, Client
from tests.support.polling import API

PATH = f"{API}/courses/5/enrollments"
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "polls.example.com"}
LOCAL = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("127.0.0.0/8"))
ELSEWHERE = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))

BaseOf = Callable[..., Awaitable[str]]


@pytest.fixture
def base_of(aiohttp_client: AiohttpClient, settings: Settings) -> BaseOf:
    """``await base_of(headers, **settings)`` is the base of all links of such a service."""

    async def base(headers: dict[str, str], **changed: Any) -> str:
        client: Client = await aiohttp_client(create_app(replace(settings, **changed)))
        sent = {"Authorization": f"Bearer {ADMIN}", **headers}
        answer = await client.get(PATH, headers=sent)
        assert answer.status == 200
        assert await answer.json() == []
        urls = [str(link["url"]) for link in answer.links.values()]
        assert len(urls) == answer.headers["Link"].count("<") == 2
        bases = {url.partition(PATH)[0] for url in urls}
        assert len(bases) == 1
        return bases.pop().replace(f":{client.port}", ":PORT")

    return base


async def test_forwarded_headers_count_from_trusted_proxies_only(base_of: BaseOf) -> None:
    assert await base_of(FORWARDED) == "http://127.0.0.1:PORT"
    assert await base_of(FORWARDED, trusted_proxies=ELSEWHERE) == "http://127.0.0.1:PORT"
    assert await base_of(FORWARDED, trusted_proxies=LOCAL) == "https://polls.example.com"


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({}, "http://127.0.0.1:PORT"),
        ({"X-Forwarded-Proto": "https"}, "https://127.0.0.1:PORT"),
        ({"X-Forwarded-Host": "[2001:db8::1]:8443"}, "http://[2001:db8::1]:8443"),
        (
            {"X-Forwarded-Proto": "HTTPS, http", "X-Forwarded-Host": "a.example, b.example"},
            "https://a.example",
        ),
        ({"X-Forwarded-Proto": "javascript"}, "http://127.0.0.1:PORT"),
    ],
)
async def test_a_trusted_proxy_names_scheme_and_host_each_for_itself(
    base_of: BaseOf, headers: dict[str, str], base: str
) -> None:
    assert await base_of(headers, trusted_proxies=LOCAL) == base


async def test_the_public_url_overrides_all_that_a_request_says(base_of: BaseOf) -> None:
    public = {"public_url": "https://public.example/polls", "trusted_proxies": LOCAL}
    for headers in ({}, FORWARDED, {"Host": "evil.example"}):
        assert await base_of(headers, **public) == "https://public.example/polls"


HOSTILE = [
    'x>; rel="next",<http://evil.example',
    "evil.example/path?",
    "evil.example#",
    "user:password@evil.example",
    "evil.example:99999999",
    'a"b',
    "a b",
    "a,b",
    "\xe9.example",
    "",
]


@pytest.mark.parametrize("host", HOSTILE)
async def test_a_hostile_host_does_not_come_into_the_links(base_of: BaseOf, host: str) -> None:
    own = "http://127.0.0.1:PORT"
    assert await base_of({"Host": host}) == own
    expected = "http://a" if host == "a,b" else own  # a list of proxies: the first counts
    forwarded = {"X-Forwarded-Host": host}
    assert await base_of(forwarded, trusted_proxies=LOCAL) == expected


async def test_a_host_that_the_client_used_is_in_the_links(base_of: BaseOf) -> None:
    assert await base_of({"Host": "polls.internal:8080"}) == "http://polls.internal:8080"
    assert URL(await base_of({"Host": "[::1]:80"})).host == "::1"


async def test_a_client_that_names_no_host_gets_links_to_where_it_connected(api: Client) -> None:
    reader, writer = await asyncio.open_connection(api.host, api.port)
    writer.write(f"GET {PATH} HTTP/1.0\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    assert " 200 OK\r\n" in answer
    [link] = [line for line in answer.split("\r\n") if line.startswith("Link: ")]
    assert link.count(f"<http://127.0.0.1:{api.port}{PATH}?") == link.count("<") == 2
