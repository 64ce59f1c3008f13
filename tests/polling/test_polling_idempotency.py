"""``Idempotency-Key`` on every POST of the polling API (docs/api.md, section 1)."""

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.polling import API, TEACHER, call, enroll, make_poll, make_session

KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}

ROUTES: list[Any] = [
    pytest.param("polls", {"polls": [{"question": "Coffee?"}]}, id="polls"),
    pytest.param("polls/1/poll_choices", {"poll_choices": [{"text": "x"}]}, id="choices"),
    pytest.param("polls/1/poll_sessions", {"poll_sessions": [{"course_id": 1}]}, id="sessions"),
    pytest.param("courses/5/enrollments", {"enrollment": {"user_id": 9}}, id="enrollments"),
]
on_every_route = pytest.mark.parametrize(("route", "body"), ROUTES)


def everything(raw: Raw) -> str:
    """Everything that was created, as comparable text; unused numbers do not count."""
    kept = ("containers", "sessions", "enrollments", "idempotency")
    return json.dumps({name: list(raw[name].find().sort("_id", 1)) for name in kept}, default=str)


def count(raw: Raw) -> int:
    options = sum(len(one["polls"][0]["options"]) for one in raw.containers.find())
    made = sum(raw[name].count_documents({}) for name in ("containers", "sessions", "enrollments"))
    return made + options


@on_every_route
async def test_the_same_key_gets_the_same_answer_and_nothing_new_is_made(
    api: Client, raw: Raw, clock: Clock, route: str, body: dict[str, Any]
) -> None:
    await make_poll(api)
    before = count(raw)
    path = f"{API}/{route}"
    first = await call(api, "POST", path, json=body, headers=KEY)
    stored = everything(raw)
    clock.advance(hours=23, minutes=59)
    secret = {"token": "not-the-one-that-counts"}
    assert await call(api, "POST", path, json=body, headers=KEY, params=secret) == first
    assert everything(raw) == stored
    assert count(raw) == before + 1


@on_every_route
async def test_another_request_under_the_key_is_refused_and_makes_nothing(
    api: Client, raw: Raw, route: str, body: dict[str, Any]
) -> None:
    await make_poll(api)
    path = f"{API}/{route}"
    await call(api, "POST", path, json=body, headers=KEY)
    stored = everything(raw)
    name, thing = next(iter(body.items()))
    other = [{**thing[0], "x": 1}] if isinstance(thing, list) else {**thing, "x": 1}
    await call(api, "POST", path, 409, json={name: other}, headers=KEY)
    await call(api, "POST", path, 409, json=body, headers=KEY, params={"a": "b"})
    await enroll(api, 7, 1, TEACHER)
    stored_then = everything(raw)
    if "courses" not in route:
        acting = {"as_user_id": "7"}
        status = 409 if route == "polls" else 403  # rights are checked each time
        await call(api, "POST", path, status, json=body, headers=KEY, params=acting)
    assert everything(raw) == stored_then
    assert len(stored_then) > len(stored)


@on_every_route
async def test_twenty_requests_at_once_under_one_key_make_one_thing(
    api: Client, raw: Raw, route: str, body: dict[str, Any]
) -> None:
    await make_poll(api)
    before = count(raw)

    async def post() -> Any:
        return await call(api, "POST", f"{API}/{route}", json=body, headers=KEY)

    answers = await asyncio.gather(*(post() for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert count(raw) == before + 1
    assert raw.idempotency.count_documents({}) == 1


@on_every_route
async def test_a_key_is_forgotten_after_a_day_and_belongs_to_its_token(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker, *, route: str, body: dict[str, Any]
) -> None:
    await make_poll(api)
    other = await make_token(user_id=3, admin=True)
    path = f"{API}/{route}"
    first = await call(api, "POST", path, json=body, headers=KEY)
    theirs = await call(api, "POST", path, json=body, headers={**KEY, **other})
    clock.advance(days=1)
    later = await call(api, "POST", path, json=body, headers=KEY)
    made = 1 if "courses" in route else 3  # a repeated enrollment is the one there is
    assert len({json.dumps(answer) for answer in (first, theirs, later)}) == made
    assert count(raw) == 1 + made
    assert raw.idempotency.count_documents({}) == 2


@on_every_route
async def test_a_refusal_is_not_remembered_and_neither_is_a_request_without_a_key(
    api: Client, raw: Raw, route: str, body: dict[str, Any]
) -> None:
    await make_poll(api)
    path = f"{API}/{route}"
    name = next(iter(body))
    await call(api, "POST", path, 400, json={name: {}}, headers=KEY)
    assert raw.idempotency.count_documents({}) == 0
    made = await call(api, "POST", path, json=body, headers=KEY)
    assert await call(api, "POST", path, json=body, headers=KEY) == made
    before = count(raw)
    again = await call(api, "POST", path, json=body)
    assert (again == made) is ("courses" in route)
    assert count(raw) == before + (0 if "courses" in route else 1)
    for wrong in ("", "x" * 256, "é"):
        problem = await call(api, "POST", path, 400, json=body, headers={"Idempotency-Key": wrong})
        assert problem["errors"][0]["field"] == "Idempotency-Key"


async def test_the_first_answer_comes_again_also_when_the_thing_has_changed_since(
    api: Client, raw: Raw
) -> None:
    body = {"polls": [{"question": "Tea?"}]}
    first = await call(api, "POST", f"{API}/polls", json=body, headers=KEY)
    await call(api, "PUT", f"{API}/polls/1", json={"polls": {"question": "Coffee?"}})
    assert await call(api, "POST", f"{API}/polls", json=body, headers=KEY) == first

    path = f"{API}/polls/1/poll_choices"
    choice = {"poll_choices": [{"text": "yes"}]}
    headers = {"Idempotency-Key": "a choice"}
    made = await call(api, "POST", path, json=choice, headers=headers)
    await call(api, "POST", path, json={"poll_choices": [{"text": "no"}]})
    await call(api, "PUT", f"{path}/1", json={"poll_choices": {"text": "aye"}})
    assert await call(api, "POST", path, json=choice, headers=headers) == made
    await call(api, "DELETE", f"{path}/1", 204)
    assert await call(api, "POST", path, json=choice, headers=headers) == made
    session = await make_session(api, 1)
    assert session["results"] == {"2": 0}
    assert [option["id"] for option in next(raw.containers.find())["polls"][0]["options"]] == ["2"]
