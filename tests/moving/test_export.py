"""``GET /rest/export``: all of a poll, so that an import makes the same poll elsewhere."""

import json
from dataclasses import replace

import pytest
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import Settings
from tests.conftest import ADMIN, AsServed, Client, Clock, Raw
from tests.support.casting import (
    another_session,
    answered,
    change,
    content_run,
    course_run,
    seed_ballots,
    submit,
    vote,
)
from tests.support.moving import (
    POLL_ID,
    a_line,
    answers_to,
    exported,
    forget,
    imported,
    outcome,
    require_counted,
)
from tests.support.seeds import UNKNOWN, refused

SESSIONS, BALLOTS = 40, 1_200
"""More than fit in one line."""


async def moved(api: Client, raw: Raw, poll_id: str) -> bytes:
    """The export of a poll, which is imported into an empty store and exported again there."""
    before = await exported(api, poll_id)
    forget(raw)
    answers = await answers_to(api, before)
    assert {outcome(one) for one in answers} == {"created"}
    assert len(answers) == before.count(b"\n")
    assert await exported(api, poll_id) == before
    assert {outcome(one) for one in await answers_to(api, before)} == {"unchanged"}
    require_counted(raw)
    return before


async def test_an_export_and_an_import_give_the_same_poll(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowComment=True, allowRevote=True)
    right = {"poll_choices": [{"is_correct": True}]}
    await answered(await api.put(f"{run.poll_url}/poll_choices/2", json=right))
    for user_id in (42, "u43"):
        await answered(await vote(api, run, "2", acting=user_id, comment="ä"))
    await change(api, run, saveParticipantNames=True)
    await answered(await vote(api, run, "1", acting="named"))
    [line] = (await moved(api, raw, run.poll_id)).splitlines()
    poll = json.loads(line)
    [session] = poll["sessions"]
    voters = [one.get("userId", "voter" in one) for one in session["ballots"]]
    assert sorted(map(str, voters)) == ["True", "True", "named"]
    assert session["results"] == {"1": 1, "2": 2, "3": 0}
    for user_id in (42, "u43", "named"):
        assert (await vote(api, run, "1", acting=user_id)).status == 409
    assert (await vote(api, run, "1", acting="another")).status == 200


async def test_a_poll_with_many_sessions_and_votes_takes_several_lines_and_is_the_same(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, BALLOTS, named=True, comment="x" * 100)
    closed = await another_session(api, run, section=6, public=True, opened=False)
    seed_ballots(raw, closed, 3, "2")
    for _ in range(SESSIONS):
        one = await another_session(api, run)
    await submit(api, one, 3, acting=42)
    lines = [json.loads(line) for line in (await moved(api, raw, run.poll_id)).splitlines()]
    assert len(lines) > 3
    assert {"ballots", "sessions"} <= {name for line in lines[1:] for name in line}
    assert raw.sessions.count_documents({}) == SESSIONS + 2
    assert (await submit(api, one, 1, acting=42)).status == 400


async def test_a_line_is_far_within_the_limits_of_an_import(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, 600, named=True, comment="ü" * 1_000)
    lines = (await moved(api, raw, run.poll_id)).splitlines()
    assert max(map(len, lines)) < 200 * 1024
    assert len(lines) > 10


async def test_an_end_that_has_passed_is_noted_before_it_is_exported(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, closePollOnEndDate=True, endDate="2126-02-01T00:00:00Z")
    clock.advance(days=2)
    poll = json.loads(await moved(api, raw, run.poll_id))
    assert [one["hasEnded"] for one in poll["sessions"]] == [True]


async def test_when_a_session_was_closed_and_how_long_votes_are_kept_are_moved(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, retention=30)
    await answered(await vote(api, run, "1", acting=42))
    await answered(await api.get(f"{run.url}/close"))
    poll = json.loads(await moved(api, raw, run.poll_id))
    [session] = poll["sessions"]
    assert (poll["settings"]["retention"], session["isPublished"]) == (30, False)
    assert session["closedAt"] == "2126-01-31T12:00:00Z"


async def test_votes_that_are_about_to_be_removed_are_not_exported(api: Client, raw: Raw) -> None:
    """Only the counts of their session are kept, but it may take a while until they are gone."""
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=42))
    marks = {"counts_only": True, "is_published": False}
    raw.sessions.update_one({"_id": run.session}, {"$set": marks})
    before = await exported(api, run.poll_id)
    assert b'"voter"' not in before
    forget(raw)
    assert [outcome(one) for one in await answers_to(api, before)] == ["created"]
    assert await exported(api, run.poll_id) == before


async def test_names_that_are_not_shown_are_not_exported(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    await answered(await vote(api, run, "1", acting="unmistakable-user"))
    assert b"unmistakable-user" in await exported(api, run.poll_id)
    await change(api, run, saveParticipantNames=False)
    assert b"unmistakable-user" not in await moved(api, raw, run.poll_id)
    assert (await vote(api, run, "2", acting="unmistakable-user")).status == 409


async def test_only_polls_that_there_are_are_exported(api: Client, raw: Raw) -> None:
    assert raw.addresses.count_documents({}) == 0
    await refused(await api.get("/rest/export", params={"pollId": UNKNOWN}), 404)
    await refused(await api.get("/rest/export", params={"pollId": "7"}), 404)
    for query in ({"pollId": "x"}, {"pollId": "0"}, {}):
        await refused(await api.get("/rest/export", params=query), 400, ["pollId"])


async def test_a_poll_is_exported_by_its_number_too(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=42))
    assert await exported(api, str(run.number)) == await exported(api, run.poll_id)


@pytest.fixture
async def elsewhere(
    aiohttp_client: AiohttpClient, settings: Settings, clock: Clock, raw: Raw
) -> Client:
    """A service under another secret, on the emptied store."""
    raw.meta.delete_many({})
    app = create_app(replace(settings, secret="another-secret-of-the-hashes"), clock=clock)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    client: Client = await aiohttp_client(AsServed(app), headers=headers)  # type: ignore[assignment] # as in conftest
    return client


async def test_under_another_secret_unknown_voters_come_only_with_sessions_that_stay_closed(
    api: Client, elsewhere: Client, raw: Raw
) -> None:
    """Their votes could not be told from new ones, so nobody may vote there again."""
    run = await course_run(api, raw, saveParticipantNames=False)
    await answered(await submit(api, run, 2, acting=42))
    still_open = await exported(api, run.poll_id)
    await answered(await api.get(f"{run.url}/close"))
    closed = await exported(api, run.poll_id)
    forget(raw)
    [answer] = await answers_to(elsewhere, still_open)
    assert outcome(answer) == "409 conflict sessions[0].ballots"
    assert raw.sessions.count_documents({}) == 0
    for expected in ("created", "unchanged"):
        [answer] = await answers_to(elsewhere, closed)
        assert outcome(answer) == expected
    require_counted(raw)
    await refused(await elsewhere.get(f"{run.url}/open"), 409)
    assert (await submit(elsewhere, run, 1, acting=43)).status == 403


async def test_under_another_secret_a_new_end_date_does_not_open_what_stays_closed(
    api: Client, elsewhere: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, closePollOnEndDate=True, endDate="2126-02-01T00:00:00Z")
    await answered(await vote(api, run, "1", acting=42))
    clock.advance(days=2)
    body = await exported(api, run.poll_id)
    forget(raw)
    [answer] = await answers_to(elsewhere, body)
    assert outcome(answer) == "created"
    await change(elsewhere, run)
    assert (await vote(elsewhere, run, "2", acting=42)).status == 409


async def test_further_ballots_of_unknown_voters_are_refused_in_an_open_session(
    api: Client, raw: Raw
) -> None:
    line = a_line(1, sessions=[{"id": 201, "participants": 1}])
    voter = {"id": 5, "voter": "a" * 64, "optionIds": ["1"]}
    more = {"pollId": POLL_ID, "sessionId": 201, "voterKey": "b" * 32, "ballots": [voter]}
    assert await imported(api, line, more) == ["created", "409 conflict ballots"]
    without_key = {**more, "voterKey": None}
    assert await imported(api, without_key) == ["409 conflict ballots"]
    without_session = {**more, "sessionId": None}
    assert await imported(api, without_session) == ["400 invalid_request sessionId"]
    assert raw.ballots.count_documents({}) == 0


async def test_a_session_that_stays_closed_stays_so_however_its_ballots_come(
    api: Client, elsewhere: Client, raw: Raw
) -> None:
    """In lines after that of the session, and moved again under the secret of the first move."""
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=42))
    await answered(await api.get(f"{run.url}/close"))
    poll = json.loads(await exported(api, run.poll_id))
    forget(raw)
    more = {
        "pollId": run.poll_id,
        "sessionId": run.session,
        "voterKey": poll["voterKey"],
        "ballots": poll["sessions"][0].pop("ballots"),
    }
    for expected in ("created", "unchanged"):
        assert await imported(elsewhere, poll, more) == [expected] * 2
    await refused(await elsewhere.get(f"{run.url}/open"), 409)
    again = await moved(elsewhere, raw, run.poll_id)
    assert json.loads(again)["sessions"][0]["isFinal"] is True
    await refused(await elsewhere.get(f"{run.url}/open"), 409)
    assert (await vote(elsewhere, run, "2", acting=42)).status == 409
