"""CORS: pages of the configured origins may read responses, by default none may."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse
from limits import parse
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import InvalidSetting, Settings, read_settings
from service.telemetry.log import RequestLog
from tests.conftest import ADMIN, Client, Raw
from tests.support.seeds import ISSUE, a_poll, everything, refused

OURS, THEIRS = "https://ours.example", "https://theirs.example"
TOKEN = {"Authorization": f"Bearer {ADMIN}"}
ALLOW = "Access-Control-Allow-"
VARY = "Accept, Authorization"

Begin = Callable[..., Awaitable[Client]]


@pytest.fixture
def begin(aiohttp_client: AiohttpClient, settings: Settings, request_lines: Any) -> Begin:
    """``await begin(OURS)`` is a service that these origins may call."""

    async def start(*origins: str, **changed: Any) -> Client:
        changed["cors_origins"] = frozenset(origins)
        log = RequestLog(request_lines)
        app = create_app(replace(settings, **changed), request_log=log)
        client: Client = await aiohttp_client(app)
        return client

    return start


async def preflight(
    client: Client, path: str, origin: str = OURS, method: str = "POST"
) -> ClientResponse:
    """As a browser sends it: without a token."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return await client.options(path, headers=headers)


def of_cors(response: ClientResponse) -> dict[str, str]:
    return {
        name: value for name, value in response.headers.items() if name.startswith("Access-Control")
    }


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/rest", "DELETE, GET, HEAD, POST, PUT"),
        ("/rest?type=polls&workspace=PLAT", "DELETE, GET, HEAD, POST, PUT"),
        ("/x1/anything", "DELETE, GET, HEAD, POST, PUT"),
        ("/api/v1/polls/7/poll_sessions/8/open", "GET, PUT"),
        ("/healthz", "GET, HEAD"),
    ],
)
async def test_a_preflight_of_a_known_route_is_answered_without_a_token(
    begin: Begin, path: str, methods: str
) -> None:
    client = await begin(OURS, "https://another.example")
    answer = await preflight(client, path)
    assert answer.status == 204
    assert await answer.read() == b""
    assert answer.headers["X-Request-Id"]
    assert answer.headers.getall("Vary") == ["Origin"]
    assert answer.headers[f"{ALLOW}Origin"] == OURS
    assert answer.headers[f"{ALLOW}Methods"] == methods
    allowed = answer.headers[f"{ALLOW}Headers"].split(", ")
    assert {"Authorization", "Content-Type", "If-Match", "Idempotency-Key"} < set(allowed)
    assert {"If-None-Match", "traceparent", "tracestate"} < set(allowed)
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert f"{ALLOW}Credentials" not in answer.headers


async def test_a_preflight_does_nothing_and_is_logged(
    begin: Begin, raw: Raw, request_lines: Any
) -> None:
    client = await begin(OURS)
    before = everything(raw)
    answer = await preflight(client, "/rest?token=secret", method="DELETE")
    assert answer.status == 204
    assert everything(raw) == before
    await client.close()
    (line,) = request_lines.getvalue().decode().splitlines()
    assert '"method":"OPTIONS"' in line
    assert '"status":204' in line
    assert "secret" not in line


async def test_the_log_line_of_a_preflight_leaves_out_who_is_about_to_vote(
    begin: Begin, request_lines: Any
) -> None:
    client = await begin(OURS)
    answer = await preflight(client, "/rest/votes")
    await client.close()
    (line,) = map(json.loads, request_lines.getvalue().splitlines())
    assert (line["method"], line["status"], line["remote"]) == ("OPTIONS", 204, None)
    assert line["id"] != answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "origin",
    [THEIRS, "null", "http://ours.example", f"{OURS}:8443", f"{OURS}.evil.example", "", "*"],
)
async def test_an_unknown_origin_learns_nothing(begin: Begin, origin: str) -> None:
    client = await begin(OURS)
    answer = await preflight(client, "/rest", origin)
    assert answer.status == 204
    assert of_cors(answer) == {}
    assert answer.headers.getall("Vary") == ["Origin"]
    answer = await client.get("/rest", params=ISSUE, headers={**TOKEN, "Origin": origin})
    assert answer.status == 200
    assert of_cors(answer) == {}
    assert answer.headers.getall("Vary") == [VARY, "Origin"]


async def test_a_request_other_than_a_preflight_is_answered_as_usual(begin: Begin) -> None:
    client = await begin(OURS)
    for headers in ({}, {"Origin": OURS}, {"Access-Control-Request-Method": "POST"}):
        answer = await client.options("/rest", headers=headers)
        await refused(answer, 405)
        assert answer.headers["Allow"] == "DELETE, GET, HEAD, POST, PUT"
    answer = await preflight(client, "/nowhere")
    await refused(answer, 404)
    headers = {"Origin": OURS, "Access-Control-Request-Method": "GET"}
    await refused(await client.patch("/rest", headers=headers), 405)
    assert (await client.get("/rest", params=ISSUE, headers=headers)).status == 403


async def test_answers_and_refusals_may_be_read_by_the_pages_that_are_named(begin: Begin) -> None:
    client = await begin(OURS, token_rate=parse("4/minute"))
    headers, broken = {**TOKEN, "Origin": OURS}, {"type": "polls", "workspace": ""}
    sent = [
        (200, client.post("/rest", params=ISSUE, json=a_poll(), headers=headers)),
        (400, client.get("/rest", params=broken, headers=headers)),
        (403, client.get("/rest", params=ISSUE, headers={"Origin": OURS})),
        (404, client.get("/api/v1/polls/999", headers=headers)),
        (404, client.get("/nowhere", headers=headers)),
        (405, client.patch("/rest", headers=headers)),
        (415, client.post("/rest", params=ISSUE, data=b"<poll/>", headers=headers)),
        (429, client.get("/rest", params=ISSUE, headers=headers)),
        (200, client.get("/healthz", headers=headers)),
    ]
    for status, request in sent:
        answer = await request
        assert answer.status == status
        assert answer.headers.getall("Vary") == ["Origin"]
        assert of_cors(answer).keys() == {f"{ALLOW}Origin", "Access-Control-Expose-Headers"}
        assert answer.headers[f"{ALLOW}Origin"] == OURS
        shown = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"ETag", "Link", "Retry-After", "RateLimit", "X-Request-Id"} < set(shown)


async def test_an_answer_that_is_streamed_may_be_read_too(begin: Begin) -> None:
    client = await begin(OURS)
    api = "/api/v1"
    made = await client.post(f"{api}/polls", json={"polls": {"question": "?"}}, headers=TOKEN)
    sessions = f"{api}/polls/{(await made.json())['polls'][0]['id']}/poll_sessions"
    made = await client.post(sessions, json={"poll_sessions": {"course_id": 5}}, headers=TOKEN)
    export = f"{sessions}/{(await made.json())['poll_sessions'][0]['id']}/export?format=csv"
    answer = await client.get(export, headers={**TOKEN, "Origin": OURS})
    assert answer.status == 200
    assert "Content-Disposition" in answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers[f"{ALLOW}Origin"] == OURS


async def test_a_star_lets_every_page_read(begin: Begin) -> None:
    client = await begin("*")
    for origin in (OURS, THEIRS, "null"):
        answers = [
            await preflight(client, "/rest", origin),
            await client.get("/healthz", headers={"Origin": origin}),
        ]
        for answer in answers:
            assert answer.headers[f"{ALLOW}Origin"] == "*"
            assert "Vary" not in answer.headers


async def test_unless_origins_are_named_nothing_of_it_is_there(begin: Begin) -> None:
    client = await begin()
    await refused(await preflight(client, "/rest"), 405)
    answer = await client.get("/rest", params=ISSUE, headers={**TOKEN, "Origin": OURS})
    assert answer.status == 200
    assert of_cors(answer) == {}
    assert answer.headers.getall("Vary") == [VARY]
    assert not client.app.on_response_prepare
    assert len(client.app.middlewares) == 1


def test_origins_are_read_as_browsers_send_them() -> None:
    given = " https://A.example ,http://localhost:3000,,http://[::1]:80"
    settings = read_settings({"POLLS_CORS_ORIGINS": given})
    assert settings.cors_origins == {
        "https://a.example",
        "http://localhost:3000",
        "http://[::1]:80",
    }
    assert read_settings({}).cors_origins == frozenset()
    assert read_settings({"POLLS_CORS_ORIGINS": "*"}).cors_origins == {"*"}


@pytest.mark.parametrize(
    "text",
    ["a.example", "https://a.example/", "https://*.a.example", "https://a/b", "null", "ftp://a"],
)
def test_an_invalid_origin_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^POLLS_CORS_ORIGINS must be \* or list origins"):
        read_settings({"POLLS_CORS_ORIGINS": f"https://b.example,{text}"})
