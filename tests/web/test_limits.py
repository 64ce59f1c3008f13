"""Rate limits for each token, and for each address that sends invalid ones."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import ClientResponse
from limits import parse
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import InvalidSetting, Settings, read_settings
from service.web import rate_limits
from service.web.call import CLOCK
from service.web.rate_limits import Quota, QuotaExceeded
from service.web.store_key import STORE
from storage.metrics import batch_meters
from tests.conftest import ADMIN, Client, Raw
from tests.support.seeds import ISSUE, a_poll, refused, stored_polls

THREE = parse("3/minute")
POLICY = '"token";q=3;w=60'
LOCAL = (ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


class Seconds:
    """Monotonic time as a test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


Begin = Callable[..., Awaitable[Client]]


@pytest.fixture
def begin(aiohttp_client: AiohttpClient, settings: Settings, seconds: Seconds) -> Begin:
    """``await begin(token_rate=…)`` is a service with these settings, called without a token."""

    async def start(**changed: Any) -> Client:
        app = create_app(replace(settings, **changed), monotonic=seconds)
        client: Client = await aiohttp_client(app)
        return client

    return start


def bearing(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def read(client: Client, secret: str = ADMIN, **headers: str) -> ClientResponse:
    return await client.get("/rest", params=ISSUE, headers={**bearing(secret), **headers})


async def create_token(client: Client, secret: str) -> None:
    await client.app[STORE].tokens.create(
        secret,
        name=secret,
        user_id=7,
        actions=["read"],
        workspaces=["*"],
        now=client.app[CLOCK](),
    )


# Of each token ----------------------------------------------------------------------------------


async def test_a_token_is_refused_beyond_its_rate_until_its_window_ends(
    begin: Begin, seconds: Seconds
) -> None:
    client = await begin(token_rate=THREE)
    for left, at in ((2, 0), (1, 10), (0, 20.5)):
        seconds.now = 1000 + at
        answer = await read(client)
        assert answer.status == 200
        assert answer.headers["RateLimit-Policy"] == POLICY
        assert answer.headers["RateLimit"] == f'"token";r={left};t={60 - int(at)}'
        assert "Retry-After" not in answer.headers
    for at in (20.5, 59.9):
        seconds.now = 1000 + at
        answer = await read(client)
        problem = await refused(answer, 429)
        wait = 60 - int(at)
        assert problem["detail"] == (
            f"More than 3 requests with one token in 60 s; try again in {wait} s."
        )
        assert answer.headers["Retry-After"] == str(wait)
        assert answer.headers["RateLimit-Policy"] == POLICY
        assert answer.headers["RateLimit"] == f'"token";r=0;t={wait}'
    seconds.now = 1060
    assert (await read(client)).headers["RateLimit"] == '"token";r=2;t=60'


async def test_beyond_the_rate_nothing_is_stored(begin: Begin, raw: Raw) -> None:
    client = await begin(token_rate=parse("1/minute"))
    for status in (200, 429):
        sent = await client.post("/rest", params=ISSUE, json=a_poll(), headers=bearing(ADMIN))
        assert sent.status == status
    assert len(stored_polls(raw)) == 1


async def test_each_token_is_counted_wherever_it_is_sent_and_whoever_it_acts_for(
    begin: Begin,
) -> None:
    client = await begin(token_rate=parse("2/minute"))
    await create_token(client, "another")
    assert (await read(client)).status == 200
    query = {**ISSUE, "token": ADMIN, "as_user_id": "7"}
    assert (await client.get("/rest", params=query)).status == 200
    for user_id in ("8", "nobody"):
        params = {**ISSUE, "as_user_id": user_id}
        answer = await client.get("/rest", params=params, headers=bearing(ADMIN))
        assert answer.status == 429
    assert (await read(client, "another")).status == 200


async def test_refused_requests_are_counted_too_and_say_what_is_left(begin: Begin) -> None:
    client = await begin(token_rate=THREE)
    await create_token(client, "reader")
    sent = [
        client.get("/rest", params={**ISSUE, "as_user_id": "8"}, headers=bearing("reader")),
        client.get("/rest", headers=bearing("reader")),
        client.get("/api/v1/polls/999", headers=bearing("reader")),
    ]
    for request, (status, left) in zip(sent, ((403, 2), (400, 1), (404, 0)), strict=True):
        answer = await request
        assert answer.status == status
        assert answer.headers["RateLimit"] == f'"token";r={left};t=60'
    assert (await read(client, "reader")).status == 429


async def test_an_answer_that_is_streamed_says_what_is_left(begin: Begin) -> None:
    client = await begin(token_rate=parse("9/minute"))
    api, headers = "/api/v1", bearing(ADMIN)
    polls = await client.post(f"{api}/polls", json={"polls": {"question": "?"}}, headers=headers)
    poll_id = (await polls.json())["polls"][0]["id"]
    sessions = f"{api}/polls/{poll_id}/poll_sessions"
    made = await client.post(sessions, json={"poll_sessions": {"course_id": 5}}, headers=headers)
    session_id = (await made.json())["poll_sessions"][0]["id"]
    export = await client.get(f"{sessions}/{session_id}/export?format=json", headers=headers)
    assert export.status == 200
    assert export.headers["RateLimit"] == '"token";r=6;t=60'


async def test_what_needs_no_token_and_what_is_not_there_is_never_limited(begin: Begin) -> None:
    client = await begin(token_rate=parse("1/hour"), bad_token_rate=parse("1/hour"))
    for _ in range(3):
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/nowhere", 404)):
            for secret in (ADMIN, "bad"):
                answer = await client.get(path, headers=bearing(secret))
                assert answer.status == status
                assert "RateLimit" not in answer.headers
        assert (await client.patch("/rest", headers=bearing(ADMIN))).status == 405
    assert (await read(client)).status == 200


async def test_without_a_rate_of_tokens_nothing_is_counted_or_said(
    begin: Begin, seconds: Seconds
) -> None:
    client = await begin()
    del seconds.now  # reading the time fails
    for _ in range(3):
        answer = await read(client)
        assert answer.status == 200
        assert not {"RateLimit", "RateLimit-Policy"} & answer.headers.keys()
    assert not client.app.on_response_prepare


# Of each address with bad tokens ----------------------------------------------------------------


async def test_an_address_with_too_many_bad_tokens_is_refused_while_good_tokens_pass(
    begin: Begin, seconds: Seconds
) -> None:
    client = await begin(bad_token_rate=THREE)
    for number in range(3):
        await refused(await read(client, f"bad {number}"), 403)
    seconds.now += 12
    answer = await read(client, "bad 4")
    problem = await refused(answer, 429)
    assert problem["detail"] == (
        "More than 3 bad tokens from one address in 60 s; try again in 48 s."
    )
    assert answer.headers["Retry-After"] == "48"
    assert answer.headers["RateLimit-Policy"] == '"bad-tokens";q=3;w=60'
    assert answer.headers["RateLimit"] == '"bad-tokens";r=0;t=48'
    good = await read(client)
    assert good.status == 200
    assert "RateLimit" not in good.headers
    seconds.now += 48
    await refused(await read(client, "bad 5"), 403)


async def test_beyond_the_rate_a_bad_token_does_not_reach_the_database(
    begin: Begin, seconds: Seconds
) -> None:
    client = await begin(bad_token_rate=THREE)
    for secret in ("used before", "never used"):
        await create_token(client, secret)
    assert (await read(client, "used before")).status == 200
    asked = batch_meters["tokens"].sizes
    for number in range(3):
        await refused(await read(client, f"bad {number}"), 403)
    before = sum(asked.counts)
    for number in range(20):
        await refused(await read(client, f"another bad {number}"), 429)
    # It could be a guess: only the database knows, and it is not asked.
    await refused(await read(client, "never used"), 429)
    assert sum(asked.counts) == before
    assert (await read(client, "used before")).status == 200
    assert (await read(client)).status == 200
    seconds.now += 60
    assert (await read(client, "never used")).status == 200


async def test_good_tokens_and_missing_ones_do_not_count_as_bad(begin: Begin) -> None:
    client = await begin(bad_token_rate=parse("1/minute"))
    await create_token(client, "reader")
    for _ in range(3):
        await refused(await client.get("/rest", params=ISSUE), 403)
        params = {**ISSUE, "as_user_id": "8"}
        await refused(await client.get("/rest", params=params, headers=bearing("reader")), 403)
        assert (await client.get("/rest", headers=bearing("reader"))).status == 400
    await refused(await read(client, "bad"), 403)
    await refused(await read(client, "bad"), 429)


async def test_a_revoked_token_counts_as_bad(begin: Begin) -> None:
    client = await begin(bad_token_rate=parse("1/minute"))
    await create_token(client, "reader")
    await client.app[STORE].tokens.revoke("reader", client.app[CLOCK]())
    await refused(await read(client, "reader"), 403)
    await refused(await read(client, "reader"), 429)


async def test_bad_tokens_are_counted_unless_that_is_off(begin: Begin) -> None:
    counting, off = await begin(), await begin(bad_token_rate=None)
    statuses = [(await read(counting, "bad")).status for _ in range(61)]
    assert statuses == [403] * 60 + [429]
    assert {(await read(off, "bad")).status for _ in range(61)} == {403}


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", True, id="the same"),
        pytest.param("192.0.2.1", "192.0.2.2", False, id="others"),
        pytest.param("192.0.2.1:1234", "192.0.2.1:4321", True, id="ports do not count"),
        pytest.param("192.0.2.1", "::ffff:192.0.2.1", True, id="IPv4 written as IPv6"),
        pytest.param("2001:db8::1", "2001:db8::ffff:2", True, id="one network of IPv6"),
        pytest.param("2001:db8::1", "[2001:db8::2]:443", True, id="one, and a port"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="another network of IPv6"),
        pytest.param("192.0.2.1", "192.0.2.9, 192.0.2.1", True, id="what it says of itself"),
        pytest.param("192.0.2.1", "192.0.2.1, 10.1.1.1", True, id="over another proxy"),
        pytest.param("192.0.2.1", "192.0.2.1,fd00::1 , 10.1.1.1", True, id="over two"),
        pytest.param("192.0.2.1", "192.0.2.1, 192.0.2.2", False, id="over one that is not ours"),
        pytest.param("10.1.1.1", "192.0.2.1, unknown, 10.1.1.1", True, id="what is no address"),
        pytest.param("10.1.1.1", "10.1.1.1, 10.1.1.2", True, id="proxies only: the first"),
        pytest.param("", "unknown", True, id="no address at all: the proxy's"),
    ],
)
async def test_behind_a_trusted_proxy_the_address_is_the_clients(
    begin: Begin, first: str, second: str, is_one: bool
) -> None:
    client = await begin(bad_token_rate=parse("1/minute"), trusted_proxies=LOCAL)
    assert (await read(client, "bad", **{"X-Forwarded-For": first})).status == 403
    answer = await read(client, "bad", **{"X-Forwarded-For": second})
    assert answer.status == (429 if is_one else 403)


@pytest.mark.parametrize("trusted", [(), LOCAL[1:]])
async def test_only_trusted_proxies_are_believed_about_the_client(
    begin: Begin, trusted: Any
) -> None:
    client = await begin(bad_token_rate=parse("1/minute"), trusted_proxies=trusted)
    assert (await read(client, "bad", **{"X-Forwarded-For": "192.0.2.1"})).status == 403
    assert (await read(client, "bad", **{"X-Forwarded-For": "192.0.2.2"})).status == 429


# Counting ---------------------------------------------------------------------------------------


def test_a_flood_of_addresses_takes_bounded_memory(
    seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "MAX_COUNTED", 100)
    quota = Quota("flood", "uses", parse("1/minute"), seconds)
    for number in range(1000):
        seconds.now += 0.01
        quota.use(f"address {number}")
        assert len(quota) <= 100
    for number in range(900, 1000):  # the newest are kept
        with pytest.raises(QuotaExceeded):
            quota.use(f"address {number}")
    quota.use("address 1")


def test_what_has_ended_is_forgotten(seconds: Seconds) -> None:
    quota = Quota("flood", "uses", parse("1/minute"), seconds)
    for number in range(1000):
        quota.use(f"address {number}")
    seconds.now += 60
    quota.use("address 7")
    assert len(quota) == 1


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [("600/minute", 600, 60), ("10 per 5 seconds", 10, 5), ("1/2hour", 1, 7200)],
)
def test_rates_are_in_the_notation_of_the_library(text: str, amount: int, seconds: int) -> None:
    settings = read_settings({"POLLS_TOKEN_RATE": text, "POLLS_BAD_TOKEN_RATE": text})
    for rate in (settings.token_rate, settings.bad_token_rate):
        assert rate is not None
        assert (rate.amount, rate.get_expiry()) == (amount, seconds)


def test_by_default_bad_tokens_are_limited_and_valid_ones_are_not() -> None:
    settings = read_settings({})
    assert (settings.token_rate, settings.bad_token_rate) == (None, parse("60/minute"))
    settings = read_settings({"POLLS_TOKEN_RATE": "off", "POLLS_BAD_TOKEN_RATE": "OFF"})
    assert (settings.token_rate, settings.bad_token_rate) == (None, None)


@pytest.mark.parametrize("name", ["POLLS_TOKEN_RATE", "POLLS_BAD_TOKEN_RATE"])
@pytest.mark.parametrize(
    "text",
    [
        *("600", "0/minute", "-1/minute", "1/moment", "9/second;99/minute", "never"),
        *("9" * 16 + "/day", "9/" + "9" * 16 + "days", "9" * 5000 + "/day"),
    ],
)
def test_an_invalid_rate_is_refused(name: str, text: str) -> None:
    with pytest.raises(
        InvalidSetting, match=f"^{name} must be one rate, such as 600/minute, or off"
    ):
        read_settings({name: text})
