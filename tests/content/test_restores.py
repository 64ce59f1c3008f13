"""Deleting polls softly, bringing them back, and purging them when their time is over."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import Settings
from service.web.store_key import STORE
from storage import courses, polls
from storage.documents import utc_now
from tests.casting.test_casting_guards import once_in_thread
from tests.conftest import ADMIN, Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    Run,
    another_session,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    results,
    submit,
    tally,
    vote,
)
from tests.support.fleet import eventually
from tests.support.seeds import ISSUE, UNKNOWN, Json, a_poll, refused

RESTORE = "/rest/restore"
NOW = {"now": "true"}
HOURS = 24


async def delete(api: Client, run: Run, **query: str) -> None:
    await answered(await api.delete("/rest", params={**run.query, **query}))


async def restore(api: Client, reference: int | str, **request: Any) -> Any:
    return await api.post(RESTORE, params={"pollId": str(reference)}, **request)


def stored(raw: Raw) -> Json:
    """All of it, but for what counts the changes of sessions and containers."""
    sessions = [{**one, "casts": 0, "rights_changes": 0} for one in raw.sessions.find().sort("_id")]
    containers = [{**one, "version": 0} for one in raw.containers.find().sort("_id")]
    return {
        "sessions": sessions,
        "containers": containers,
        "ballots": list(raw.ballots.find().sort("_id")),
        "addresses": [{**one, "updated_at": 0} for one in raw.addresses.find().sort("_id")],
    }


@pytest.mark.parametrize("face", ["rest", "api"])
@pytest.mark.parametrize("kind", ["a content poll", "a poll of a user"])
async def test_a_restored_poll_is_what_it_was_with_all_its_sessions_and_votes(
    api: Client, raw: Raw, kind: str, face: str
) -> None:
    run = await (content_run if kind == "a content poll" else course_run)(api, raw)
    second = await another_session(api, run)
    for user in (1, 2, 3):
        await enroll(api, user)
        await answered(await submit(api, run, 1, acting=user, enrolls=False))
    await answered(await submit(api, second, 2, acting=1, enrolls=False))
    before, shown = stored(raw), await answered(await api.get("/rest", params=run.query))
    if face == "rest":
        await delete(api, run)
    else:
        assert (await api.delete(run.poll_url)).status == 204
    assert [raw[name].count_documents({}) for name in ("sessions", "addresses")] == [0, 0]
    for path in (run.poll_url, run.url, second.url):
        await refused(await api.get(path), 404)
    await refused(await submit(api, second, 1, acting=2, enrolls=False), 404)

    restored = await answered(await restore(api, run.poll_id if face == "rest" else run.number))
    assert stored(raw) == before
    assert [restored] == shown == await answered(await api.get("/rest", params=run.query))
    assert raw.deleted_polls.find_one() is raw.deleted_sessions.find_one() is None
    assert tally(raw, run) == {"1": 3}
    assert tally(raw, second) == {"2": 1}


async def test_after_a_restore_nobody_votes_twice_and_new_votes_count(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=1, key="of one"))
    await delete(api, run)
    await refused(await vote(api, run, "1", acting=1, key="of one"), 404)
    await answered(await restore(api, run.poll_id))
    await answered(await vote(api, run, "1", acting=1, key="of one"))  # the first answer again
    await refused(await vote(api, run, "2", acting=1), 409)
    await answered(await vote(api, run, "2", acting=2))
    assert tally(raw, run) == {"1": 1, "2": 1}
    shown = await results(api, run)
    assert shown is not None
    assert shown["participants"] == 2


async def test_a_restored_poll_comes_last_in_its_content(api: Client, raw: Raw) -> None:
    first, second = [await content_run(api, raw) for _ in range(2)]
    await delete(api, first)
    await answered(await restore(api, first.poll_id.upper()))
    listed = await answered(await api.get("/rest", params=ISSUE))
    assert [poll["id"] for poll in listed] == [second.poll_id, first.poll_id]


async def test_only_what_is_deleted_can_be_restored(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    for reference in (run.poll_id, run.number, UNKNOWN, "999", "0", "x"):
        problem = await refused(await restore(api, reference), 404)
        assert problem["detail"] == "There is no such deleted poll."
    await refused(await api.post(RESTORE), 400, ["pollId"])
    await delete(api, run)
    await answered(await restore(api, run.poll_id))
    await refused(await restore(api, run.poll_id), 404)
    assert raw.sessions.count_documents({}) == 1


async def test_a_poll_whose_id_another_has_now_is_not_restored(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    await delete(api, run)
    again = a_poll(id=run.poll_id, title="Another")
    await answered(await api.post("/rest", params={**ISSUE, "content": "PLAT-9"}, json=again))
    problem = await refused(await restore(api, run.poll_id), 409)
    assert problem["code"] == "id_taken"
    names = ("deleted_polls", "deleted_sessions", "sessions", "addresses")
    assert [raw[name].count_documents({}) for name in names] == [1, 1, 1, 1]


async def test_of_several_deleted_polls_with_one_id_the_last_is_restored(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    for title in ("Second", "Third"):
        clock.advance(seconds=1)
        await delete(api, run)
        again = a_poll(id=run.poll_id, title=title)
        await answered(await api.post("/rest", params=ISSUE, json=again))
    clock.advance(seconds=1)
    await delete(api, run)
    assert (await answered(await restore(api, run.poll_id)))["title"] == "Third"
    assert raw.deleted_sessions.count_documents({}) == 2
    await delete(api, run, **NOW)
    assert (await answered(await restore(api, run.number)))["title"] == "Tea?"


async def test_a_poll_is_not_restored_into_a_content_that_is_full(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = [await content_run(api, raw) for _ in range(2)]
    await delete(api, run)
    with monkeypatch.context() as patch:
        patch.setattr(polls, "MAX_POLLS", 1)
        problem = await refused(await restore(api, run.poll_id), 409)
    assert problem["code"] == "limit_reached"
    assert [one["_id"] for one in raw.sessions.find()] == [other.session]
    await answered(await restore(api, run.poll_id))


async def test_a_poll_whose_end_passes_while_it_is_deleted_is_closed_when_it_is_back(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    end = (clock.now + timedelta(hours=1)).isoformat()
    await change(api, run, endDate=end, closePollOnEndDate=True)
    await answered(await vote(api, run, "1", acting=1))
    await delete(api, run)
    clock.advance(hours=2)
    await answered(await restore(api, run.poll_id))
    await refused(await vote(api, run, "1", acting=2), 409)
    shown = await results(api, run)
    assert shown is not None
    assert shown["closed"]
    assert tally(raw, run) == {"1": 1}
    listed = await answered(
        await api.get("/rest/polls", params={"workspace": "PLAT", "state": "closed"})
    )
    assert [poll["id"] for poll in listed["polls"]] == [run.poll_id]


# For how long -----------------------------------------------------------------------------------


async def test_a_deleted_poll_is_purged_when_its_time_is_over_and_not_before(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run, other = [await content_run(api, raw) for _ in range(2)]
    second = await another_session(api, run)
    await answered(await vote(api, other, "3"))
    for one in (run, second):
        await answered(await submit(api, one, 1))
    await delete(api, run)
    deleted_polls = api.app[STORE].deleted_polls
    clock.advance(hours=HOURS, seconds=-1)
    assert await deleted_polls.purge_some() is False
    assert raw.ballots.count_documents({}) == 3
    clock.advance(seconds=1)
    assert await deleted_polls.purge_some() is True
    await refused(await restore(api, run.poll_id), 404)
    await eventually(lambda: raw.ballots.count_documents({}) == 1)
    assert raw.deleted_polls.find_one() is raw.deleted_sessions.find_one() is None
    assert tally(raw, other) == {"3": 1}
    assert await deleted_polls.purge_some() is False
    purged = raw.audit.find_one({"action": "poll.purged"})
    assert purged is not None
    assert (purged["poll_id"], purged["user_id"], purged["token_name"]) == (run.poll_id, 0, None)


async def test_a_poll_that_was_restored_and_deleted_again_has_its_whole_time(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    await delete(api, run)
    clock.advance(hours=HOURS)
    deleted_polls = api.app[STORE].deleted_polls
    purge, number = deleted_polls._purge, run.number
    # The sweeper has found it due before.
    await answered(await restore(api, run.poll_id))
    await delete(api, run)
    await api.app[STORE].database.transaction(lambda transaction: purge(number, transaction))
    await answered(await restore(api, run.poll_id))


async def test_the_background_task_purges_what_is_due(
    aiohttp_client: AiohttpClient, settings: Settings, raw: Raw, api: Client
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1"))
    await delete(api, run)
    raw.deleted_polls.update_one({}, {"$set": {"purge_at": utc_now()}})
    await aiohttp_client(create_app(settings))
    await eventually(lambda: raw.ballots.find_one() is None)
    assert raw.deleted_polls.find_one() is raw.deleted_sessions.find_one() is None


@pytest.mark.parametrize("face", ["rest", "api"])
async def test_what_is_deleted_now_cannot_be_restored(api: Client, raw: Raw, face: str) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1"))
    url = "/rest" if face == "rest" else run.poll_url
    query = run.query if face == "rest" else {}
    await refused(await api.delete(url, params={**query, "now": "yes"}), 400, ["now"])
    deleted = await api.delete(url, params={**query, **NOW})
    assert deleted.status in (200, 204)
    await refused(await restore(api, run.poll_id), 404)
    await eventually(lambda: raw.ballots.find_one() is None)
    assert raw.deleted_polls.find_one() is None


async def test_a_service_may_purge_all_deleted_polls_at_once(
    aiohttp_client: AiohttpClient, settings: Settings, raw: Raw
) -> None:
    app = create_app(replace(settings, restore_hours=0))
    api: Client = await aiohttp_client(app, headers={"Authorization": f"Bearer {ADMIN}"})
    run = await content_run(api, raw)
    await delete(api, run)
    await refused(await restore(api, run.poll_id), 404)
    assert raw.deleted_polls.find_one() is None


async def test_a_recount_passes_over_deleted_polls_and_keeps_their_ballots(
    api: Client, raw: Raw
) -> None:
    first, run, last = [await content_run(api, raw) for _ in range(3)]
    for one in (first, run, last):
        await answered(await vote(api, one, "1"))
    await delete(api, run)
    recounts = api.app[STORE].recounts
    found = [one async for one in recounts.run(fix=True)]
    assert [(one.session_id, one.agrees) for one in found] == [
        (first.session, True),
        (last.session, True),
    ]
    await answered(await restore(api, run.poll_id))
    assert [one.agrees async for one in recounts.run(fix=False)] == [True] * 3


# Who --------------------------------------------------------------------------------------------


async def test_the_owner_of_a_poll_of_a_user_restores_it_and_nobody_else(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    for user in (7, 8):
        await enroll(api, user, kind="TeacherEnrollment")
    owner, colleague = [await make_token(user_id=user, workspaces=["*"]) for user in (7, 8)]
    body = {"polls": [{"question": "Tea?"}]}
    made = await answered(await api.post("/api/v1/polls", json=body, headers=owner))
    number = made["polls"][0]["id"]
    assert (await api.delete(f"/api/v1/polls/{number}", headers=owner)).status == 204
    reader = await make_token(user_id=7, actions=["read", "vote"])
    for who in (colleague, reader):
        await refused(await restore(api, number, headers=who), 403)
    await answered(await restore(api, number, headers=owner))
    assert raw.containers.count_documents({"owner_id": 7, "number": number}) == 1


async def test_a_limited_service_does_not_restore_a_poll_that_runs_in_a_course_beyond_it(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, who=await make_token(user_id=7))
    await another_session(api, run)
    await delete(api, run)
    acting = {"pollId": run.poll_id, "as_user_id": "7"}
    actions = ["read", "write", "vote", "act"]
    for covered, status in (([], 403), ([COURSE + 1], 403), ([COURSE], 200)):
        who = await make_token(user_id=99, workspaces=["PLAT"], actions=actions, courses=covered)
        assert (await api.post(RESTORE, params=acting, headers=who)).status == status


async def test_a_restore_is_repeated_with_its_key_and_not_done_again(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    await delete(api, run)
    key = {"Idempotency-Key": "once"}
    first = await answered(await restore(api, run.poll_id, headers=key))
    assert await answered(await restore(api, run.poll_id, headers=key)) == first
    await delete(api, run)
    assert await answered(await restore(api, run.poll_id, headers=key)) == first
    await refused(await api.get("/rest", params=run.query), 404)
    assert raw.audit.count_documents({"action": "poll.restored", "poll_id": run.poll_id}) == 1


async def test_rights_that_were_checked_before_a_deletion_are_checked_again(
    api: Client, raw: Raw
) -> None:
    """Ends of enrollments pass over deleted sessions."""
    run = await course_run(api, raw)
    [before] = raw.sessions.find()
    await delete(api, run)
    await answered(await restore(api, run.poll_id))
    [after] = raw.sessions.find()
    assert after["rights_changes"] > before.get("rights_changes", 0)
    assert after["casts"] > before["casts"]


async def test_an_end_of_an_enrollment_that_did_not_see_the_session_comes_after_its_restore(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw)
    await enroll(api, 7)
    [enrollment] = raw.enrollments.find()
    [before] = raw.sessions.find()
    await delete(api, run)
    once_in_thread(monkeypatch, courses, "order", lambda: restore(api, run.poll_id))
    await api.app[STORE].enrollments.delete(COURSE, enrollment["number"])
    [after] = raw.sessions.find()
    # One for the restore, one for the end.
    assert after["rights_changes"] == before.get("rights_changes", 0) + 2
