"""Links: who may make them, what they are bound to, and what ends them."""

import io
import json
import logging
from dataclasses import replace

import pytest
from itsdangerous import URLSafeSerializer
from limits import parse
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import Settings
from service.telemetry.log import REQUEST_LOG
from service.web.store_key import STORE
from storage.tokens import token_id
from tests.conftest import ADMIN, Client, Clock, Raw, TokenMaker
from tests.support.casting import answered, content_run, course_run, enroll, tally
from tests.support.linking import VIEW, VOTE, ask_link, look, make_link, send
from tests.support.seeds import Json, refused
from tests.support.serving import until

INVALID = "This link is not valid, or has expired."


async def test_a_link_opens_the_page_without_a_token(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE, acting=7)
    page = await look(anonymous, link)
    assert page.status == 200
    assert "Tea?" in page.text
    voted = await send(anonymous, link, "1")
    assert voted.status == 200
    assert tally(raw, run) == {"1": 1}


async def test_a_link_says_when_it_expires(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    made = await answered(await ask_link(api, run, VIEW, seconds=90))
    assert made.keys() == {"url", "expiresAt"}
    assert made["expiresAt"] == "2126-01-31T12:01:30Z"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["actions", "expiresIn"]),
        ({"actions": ["vote"], "expiresIn": 60}, ["actions"]),
        ({"actions": [], "expiresIn": 60}, ["actions"]),
        ({"actions": ["view", "view"], "expiresIn": 60}, ["actions"]),
        ({"actions": ["view", "write"], "expiresIn": 60}, ["actions[1]"]),
        ({"actions": ["view"], "expiresIn": 59}, ["expiresIn"]),
        ({"actions": ["view"], "expiresIn": 604_801}, ["expiresIn"]),
        ({"actions": ["view"], "expiresIn": "60"}, ["expiresIn"]),
        ({"actions": ["view"], "expiresIn": True}, ["expiresIn"]),
        ({"actions": ["view"], "expiresIn": 60, "user": 7}, ["user"]),
    ],
)
async def test_what_a_link_cannot_be_is_refused(
    api: Client, raw: Raw, body: object, fields: list[str | None]
) -> None:
    run = await content_run(api, raw)
    params = {name: value for name, value in run.query.items() if name != "type"}
    await refused(await api.post("/rest/links", params=params, json=body), 400, fields)
    course = await course_run(api, raw)
    await refused(await api.post(f"{course.url}/links", json=body), 400, fields)


async def test_a_link_needs_the_rights_that_it_gives(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    reader = await make_token(actions=["read"])
    assert (await ask_link(api, run, VIEW, who=reader)).status == 200
    await refused(await ask_link(api, run, VOTE, who=reader), 403)
    await refused(await ask_link(api, run, VIEW, who=await make_token(actions=["vote"])), 403)
    await refused(await ask_link(api, run, VIEW, who=await make_token(workspaces=["X"])), 403)
    await refused(await ask_link(api, run, VIEW, who=reader, acting=8), 403)

    course = await course_run(api, raw)
    outsider = await make_token(user_id=8)
    await refused(await ask_link(api, course, VIEW, who=outsider), 403)
    await refused(await ask_link(api, course, VOTE, acting=8), 403)
    await enroll(api, 8)
    assert (await ask_link(api, course, VOTE, who=outsider)).status == 200
    reading = await make_token(user_id=8, actions=["read"])
    assert (await ask_link(api, course, VIEW, who=reading)).status == 200
    await refused(await ask_link(api, course, VOTE, who=reading), 403)


async def test_polls_without_a_standing_session_have_links_to_sessions_only(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw)
    params = {**run.query, "workspace": "users"}
    params.pop("type")
    body = {"actions": VIEW, "expiresIn": 60}
    problem = await refused(await api.post("/rest/links", params=params, json=body), 409)
    assert problem["code"] == "no_standing_session"


async def test_the_same_idempotency_key_gets_the_same_link(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    key = {"Idempotency-Key": "once"}
    first = await answered(await ask_link(api, run, VOTE, who=key, acting=7))
    clock.advance(minutes=5)
    assert await answered(await ask_link(api, run, VOTE, who=key, acting=7)) == first
    await refused(await ask_link(api, run, VIEW, who=key, acting=7), 409)
    name = first["url"].rpartition("/")[2]
    assert name not in str([*raw.idempotency.find()])


# What it is bound to ---------------------------------------------------------------------------


async def test_a_vote_by_a_link_is_in_its_session_and_of_its_user(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run, other = [await content_run(api, raw, saveParticipantNames=True) for _ in range(2)]
    link = await make_link(api, run, VOTE, acting=7)
    body = {"as_user_id": "8", "user_id": "8", "session_id": str(other.session)}
    assert (await send(anonymous, f"{link}?as_user_id=8", "1", fields=body)).status == 200
    assert [ballot["user_id"] for ballot in raw.ballots.find()] == [7]
    assert (tally(raw, run), tally(raw, other)) == ({"1": 1}, {})


async def test_a_link_for_viewing_takes_no_vote(api: Client, anonymous: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VIEW, acting=7)
    page = await look(anonymous, link)
    assert page.status == 200
    assert not page.has_form
    answer = await send(anonymous, link, "1")
    assert answer.status == 403
    assert "This link is for viewing only" in answer.text
    assert "new link" not in answer.text
    assert tally(raw, run) == {}


async def test_forged_truncated_and_foreign_links_are_refused_alike(
    api: Client, anonymous: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE)
    assert (await look(anonymous, link)).status == 200
    payload, _, signature = link.rpartition(".")
    flipped = "B" if payload[8] == "A" else "A"
    forged = [
        "/p/x",
        "/p/%ff",
        "/p/" + "x" * 2000,
        link[:-1],
        f"{payload}.",
        payload,
        f"{payload[:8]}{flipped}{payload[9:]}.{signature}",
        f"{link}.{signature}",
    ]
    expired = await make_link(api, run, VOTE, seconds=60)
    clock.advance(seconds=60)
    pages = [await look(anonymous, one) for one in [*forged, expired]]
    assert {page.status for page in pages} == {403}
    assert len({page.html for page in pages}) == 1
    assert INVALID in pages[0].text
    assert "Ask for a new link" in pages[0].text
    posts = [await send(anonymous, one, "1") for one in [*forged, expired]]
    assert {page.status for page in posts} == {403}
    for one in [*forged, expired]:
        await refused(await anonymous.get(f"{one}/events"), 403)
    assert tally(raw, run) == {}


async def test_a_link_ends_when_it_expires(
    api: Client, anonymous: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VIEW, seconds=60)
    clock.advance(seconds=59)
    assert (await look(anonymous, link)).status == 200
    clock.advance(seconds=1)
    assert (await look(anonymous, link)).status == 403


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_link_ends_with_the_token_that_made_it(
    api: Client, anonymous: Client, raw: Raw, make_token: TokenMaker, clock: Clock, end: str
) -> None:
    run = await content_run(api, raw)
    until = clock.now.replace(hour=13) if end == "expired" else None
    token = await make_token(name="maker", expires_at=until)
    link = await make_link(api, run, VOTE, who=token, seconds=7200)
    other = await make_link(api, run, VOTE, who=await make_token(), seconds=7200)
    assert (await look(anonymous, link)).status == 200
    if end == "revoked":
        await api.app[STORE].tokens.revoke("maker", clock())
    else:
        clock.advance(hours=1)
    assert (await look(anonymous, link)).status == 403
    assert (await send(anonymous, link, "1")).status == 403
    await refused(await anonymous.get(f"{link}/events"), 403)
    assert (await look(anonymous, other)).status == 200


async def test_a_link_of_the_token_of_the_environment_ends_with_it_and_does_not_hold_its_hash(
    api: Client, raw: Raw, settings: Settings, aiohttp_client: AiohttpClient, clock: Clock
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VIEW)
    _, says = URLSafeSerializer("any").loads_unsafe(link.removeprefix("/p/"))
    assert says[0] == run.session
    assert token_id(ADMIN) not in str(says)
    same, changed, none = [
        await aiohttp_client(create_app(replace(settings, admin_token=token), clock=clock))
        for token in (ADMIN, f"{ADMIN}-2", None)
    ]
    assert (await look(same, link)).status == 200
    assert (await look(changed, link)).status == 403
    assert (await look(none, link)).status == 403


async def test_a_link_to_a_session_of_a_course_ends_with_the_enrollment(
    api: Client, anonymous: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    await enroll(api, 7)
    links = [
        await make_link(api, run, VOTE, acting=7),
        await make_link(api, run, VOTE, who=await make_token(user_id=7)),
    ]
    for link in links:
        assert (await look(anonymous, link)).has_form
    [enrollment] = await answered(await api.get("/api/v1/courses/55/enrollments"))
    url = f"/api/v1/courses/55/enrollments/{enrollment['id']}"
    await answered(await api.delete(url))
    for link in links:
        assert (await look(anonymous, link)).status == 403
        assert (await send(anonymous, link, "1")).status == 403
    assert tally(raw, run) == {}


async def test_a_link_to_a_deleted_poll_says_that_it_is_gone(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE)
    await answered(await api.delete("/rest", params=run.query))
    for page in (await look(anonymous, link), await send(anonymous, link, "1")):
        assert page.status == 404
        assert "This poll no longer exists It may have been deleted." in page.text


async def test_a_link_does_not_open_another_poll_that_has_its_number_after_a_restore(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run, other = [await content_run(api, raw) for _ in range(2)]
    link = await make_link(api, run, VOTE, acting=7)
    await answered(await api.delete("/rest", params=run.query))
    [session] = raw.sessions.find({"_id": other.session})
    raw.sessions.insert_one({**session, "_id": run.session})
    for page in (await look(anonymous, link), await send(anonymous, link, "1")):
        assert page.status == 404
        assert "Tea?" not in page.text
    await refused(await anonymous.get(f"{link}/events"), 404)
    assert raw.ballots.count_documents({}) == 0


# Limits and logs -------------------------------------------------------------------------------


async def test_uses_of_links_count_for_their_token_and_forged_ones_as_bad_tokens(
    api: Client, raw: Raw, settings: Settings, aiohttp_client: AiohttpClient, clock: Clock
) -> None:
    run = await content_run(api, raw)
    link, expired = [await make_link(api, run, VIEW, seconds=n) for n in (3600, 60)]
    clock.advance(seconds=60)
    two = parse("2/hour")
    limited = await aiohttp_client(
        create_app(replace(settings, token_rate=two, bad_token_rate=two), clock=clock)
    )
    # One that has expired was no guess: a class that opens it again is not locked out.
    assert [(await look(limited, expired)).status for _ in range(3)] == [403] * 3
    assert [(await look(limited, f"{link}x")).status for _ in range(3)] == [403, 403, 429]
    for answer in [await limited.get(link) for _ in range(2)]:
        assert answer.status == 200
        assert "RateLimit" not in answer.headers, "it tells of what others do with their links"
    answer = await limited.get(link)
    assert (answer.status, answer.content_type) == (429, "text/html")
    assert int(answer.headers["Retry-After"]) > 0
    admin = {"Authorization": f"Bearer {ADMIN}"}
    assert (await limited.get("/rest", params=run.query, headers=admin)).status == 429


@pytest.mark.parametrize("is_named", [True, False])
async def test_the_log_of_a_page_has_neither_link_nor_user_nor_token_nor_address(
    api: Client,
    anonymous: Client,
    raw: Raw,
    request_lines: io.BytesIO,
    caplog: pytest.LogCaptureFixture,
    is_named: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    known = {"X-Request-Id": "known-to-the-caller"}

    def of_pages() -> list[Json]:
        api.app[REQUEST_LOG].flush()
        lines = map(json.loads, request_lines.getvalue().splitlines())
        return [line for line in lines if line["route"].startswith("/p/")]

    run = await content_run(api, raw, saveParticipantNames=is_named)
    link = await make_link(api, run, VOTE, acting=7)
    await look(anonymous, link)
    await send(anonymous, link, "1", headers=known)
    await send(anonymous, f"{link}x", "1")
    async with anonymous.get(f"{link}/events", headers=known) as stream:
        assert stream.status == 200
    await until(lambda: len(of_pages()) == 4)  # a stream that was left ends soon
    lines = of_pages()
    assert {line["route"] for line in lines} == {"/p/{link}", "/p/{link}/events"}
    for line in lines:
        assert (line["user"], line["token"], line["remote"]) == (None, None, None)
        assert line["id"] != known["X-Request-Id"]
    name = link.removeprefix("/p/")
    metrics = await (await anonymous.get("/metrics")).text()
    assert 'route="/p/{link}"' in metrics
    for told in (request_lines.getvalue().decode(), caplog.text, metrics):
        assert name not in told
