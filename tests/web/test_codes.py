"""Refusals that share a status have codes that tell them apart (docs/api.md, section 1)."""

import re
from collections import defaultdict
from datetime import timedelta
from io import BytesIO
from typing import Any

from schemas.content import MAX_OPTIONS
from service.web.responses import STATUS_CODES
from storage.errors import Code, StorageError
from tests.conftest import Client, Clock, TokenMaker
from tests.support.documented import DOCUMENT, resolved
from tests.support.polling import API, call, make_choice, make_poll, make_session
from tests.support.processes import ROOT
from tests.support.seeds import UNKNOWN, Json, a_poll

ROW = re.compile(r"\| `([a-z_]+)` \| ([0-9, ]+) \|")
POLLS, VOTES, RESULTS = "/rest/polls", "/rest/votes", "/rest/results"
PLACE = {"workspace": "PLAT", "content": "PLAT-1"}
ABSENT = "11111111-1111-4111-8111-111111111111"
TOO_LARGE = b"x" * (2**20 + 1)
AGAIN = {"Idempotency-Key": "again"}


async def code_of(api: Client, method: str, path: str, status: int, **request: Any) -> str:
    problem = await call(api, method, path, status, **request)
    return str(problem["code"])


def documented_codes() -> dict[str, set[int]]:
    """The statuses of each code, of all operations."""
    found: dict[str, set[int]] = defaultdict(set)
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                content = resolved(response).get("content", {})
                if int(status) >= 400 and "text/html" not in content:  # pages have none
                    [media] = content.values()
                    for code in resolved(media["schema"])["properties"]["code"]["enum"]:
                        found[code].add(int(status))
    return found


def test_the_table_of_codes_is_that_of_the_code_and_of_the_document() -> None:
    rows = ROW.findall((ROOT / "docs/api.md").read_text())
    assert [code for code, _ in rows] == list(Code)
    expected = documented_codes()
    for status, code in STATUS_CODES.items():
        expected[code].add(status)
    told = {code: {int(status) for status in statuses.split(",")} for code, statuses in rows}
    assert told == expected


def test_every_refusal_of_the_store_has_a_code() -> None:
    below = [StorageError]
    for kind in below:
        below += kind.__subclasses__()
    assert len(below) > 10
    assert all(isinstance(kind.code, Code) for kind in below[1:])


async def test_refusals_of_content_polls_are_told_apart(
    api: Client, anonymous: Client, make_token: TokenMaker
) -> None:
    reader = await make_token(actions=["read"], workspaces=["PLAT"])
    private = a_poll(id=UNKNOWN, settings={"resultsVisibility": "private"})
    made = await call(api, "POST", POLLS, params=PLACE, json=private)
    one = {**PLACE, "pollId": made["id"]}
    vote: Json = {"params": one, "json": {"optionIds": ["1"]}}
    await call(api, "POST", VOTES, **vote, headers=AGAIN)

    stale = {**AGAIN, "If-Match": '"0-0"'}
    without = {**a_poll(), "options": [{"id": "2", "title": "no"}]}
    refusals: list[tuple[str, str, int, Code, Json]] = [
        ("GET", "/nowhere", 404, Code.ROUTE_NOT_FOUND, {}),
        ("PATCH", POLLS, 405, Code.METHOD_NOT_ALLOWED, {}),
        ("GET", POLLS, 400, Code.INVALID_REQUEST, {}),
        ("GET", POLLS, 404, Code.NOT_FOUND, {"params": {**PLACE, "pollId": ABSENT}}),
        ("POST", POLLS, 415, Code.UNSUPPORTED_MEDIA_TYPE, {"params": PLACE, "data": b"x"}),
        ("POST", POLLS, 413, Code.BODY_TOO_LARGE, {"params": PLACE, "data": BytesIO(TOO_LARGE)}),
        ("POST", POLLS, 409, Code.ID_TAKEN, {"params": PLACE, "json": private}),
        ("PUT", POLLS, 409, Code.OPTION_HAS_VOTES, {"params": one, "json": without}),
        ("DELETE", POLLS, 412, Code.PRECONDITION_FAILED, {"params": one, "headers": stale}),
        ("POST", VOTES, 409, Code.ALREADY_VOTED, vote),
        ("DELETE", VOTES, 409, Code.ALREADY_VOTED, {"params": one}),
        ("POST", VOTES, 400, Code.UNKNOWN_OPTION, {"params": one, "json": {"optionIds": ["9"]}}),
        ("POST", VOTES, 400, Code.INVALID_VOTE, {"params": one, "json": {"optionIds": []}}),
        ("GET", RESULTS, 403, Code.RESULTS_HIDDEN, {"params": one, "headers": reader}),
        ("GET", VOTES, 403, Code.FORBIDDEN, {"params": one, "headers": reader}),
    ]
    for method, path, status, code, request in refusals:
        assert await code_of(api, method, path, status, **request) == code, (method, path)
    other = {"params": one, "json": {"optionIds": ["2"]}, "headers": AGAIN}
    assert await code_of(api, "POST", VOTES, 409, **other) == Code.IDEMPOTENCY_KEY_REUSED
    assert await code_of(anonymous, "GET", POLLS, 403) == Code.TOKEN_REQUIRED
    bad = {"headers": {"Authorization": "Bearer unknown"}}
    assert await code_of(anonymous, "GET", POLLS, 403, **bad) == Code.BAD_TOKEN


async def test_refusals_of_the_polling_api_are_told_apart(api: Client) -> None:
    poll = await make_poll(api)
    of_poll = f"{API}/polls/{poll['id']}"
    choice = await make_choice(api, poll["id"], text="yes")
    session = await make_session(api, poll["id"])
    one = f"{of_poll}/poll_sessions/{session['id']}"
    submissions = f"{one}/poll_submissions"
    submission: Json = {"json": {"poll_submissions": [{"poll_choice_id": choice["id"]}]}}

    assert await code_of(api, "POST", submissions, 403, **submission) == Code.SESSION_CLOSED
    await call(api, "GET", f"{one}/open")
    await call(api, "POST", submissions, **submission)
    assert await code_of(api, "POST", submissions, 400, **submission) == Code.ALREADY_VOTED
    unknown = {"json": {"poll_submissions": [{"poll_choice_id": 999}]}}
    assert await code_of(api, "POST", submissions, 404, **unknown) == Code.UNKNOWN_OPTION
    moved = {"json": {"poll_sessions": [{"course_id": 2}]}}
    assert await code_of(api, "PUT", one, 409, **moved) == Code.SESSION_HAS_SUBMISSIONS
    a_choice = f"{of_poll}/poll_choices/{choice['id']}"
    assert await code_of(api, "DELETE", a_choice, 409) == Code.OPTION_HAS_VOTES
    place = {"workspace": "users", "content": "0", "container": str(poll["id"])}
    [shown] = await call(api, "GET", POLLS, params=place)
    of_user = {"params": {**place, "pollId": shown["id"]}}
    assert await code_of(api, "GET", RESULTS, 409, **of_user) == Code.NO_STANDING_SESSION


async def test_refusals_about_standing_sessions_are_told_apart(api: Client, clock: Clock) -> None:
    ends = (clock.now + timedelta(hours=1)).isoformat()
    settings = {"closePollOnEndDate": True, "endDate": ends, "allowRevote": True}
    made = await call(api, "POST", POLLS, params=PLACE, json=a_poll(settings=settings))
    one: Json = {"params": {**PLACE, "pollId": made["id"]}}
    assert await code_of(api, "DELETE", VOTES, 404, **one) == Code.NO_VOTE
    sessions = f"{API}/polls/{made['id']}/poll_sessions"
    [session] = (await call(api, "GET", sessions))["poll_sessions"]
    standing = f"{sessions}/{session['id']}"
    assert await code_of(api, "DELETE", standing, 409) == Code.STANDING_SESSION
    clock.advance(hours=1)
    assert await code_of(api, "GET", f"{standing}/open", 409) == Code.END_DATE_PASSED
    vote = {**one, "json": {"optionIds": ["1"]}}
    assert await code_of(api, "POST", VOTES, 409, **vote) == Code.SESSION_CLOSED


async def test_what_no_longer_fits_is_told_apart(api: Client) -> None:
    full = a_poll(options=[{"title": str(number)} for number in range(MAX_OPTIONS)])
    made = await call(api, "POST", POLLS, params=PLACE, json=full)
    one_more = {"json": {"poll_choices": [{"text": "one more"}]}}
    choices = f"{API}/polls/{made['id']}/poll_choices"
    assert await code_of(api, "POST", choices, 409, **one_more) == Code.LIMIT_REACHED
