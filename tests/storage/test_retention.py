"""Votes are kept for so many days after a close; then counts are all that is left of them."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from service.web.store_key import STORE
from storage import purges, retention
from storage.retention import DATE_EVERY, Retention
from tests.conftest import Client, Clock, Raw
from tests.people.conftest import counted_exactly, erased
from tests.support.casting import (
    Run,
    answered,
    change,
    content_run,
    course_run,
    submit,
    tally,
    vote,
)
from tests.support.seeds import DEFAULT_SETTINGS, ISSUE, Json, a_poll, refused

PATIENCE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def swept_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(purges, "LOOK_AGAIN_SECONDS", 3600.0)


async def swept(api: Client, raw: Raw, days: int | None) -> None:
    """Returns when all is removed that is due."""
    raw.meta.delete_many({"_id": {"$in": ["closings", "retention"]}})
    await api.app[STORE].retention.sweep(days)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while raw.purges.count_documents({}):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def voted(api: Client, run: Run, *users: int) -> None:
    for user in users:
        await answered(await vote(api, run, "1", acting=user))


def session_of(raw: Raw, run: Run) -> Json:
    [session] = raw.sessions.find({"_id": run.session})
    return dict(session)


async def close(api: Client, run: Run) -> None:
    await answered(await api.put(f"{run.url}/close"))


async def test_of_a_session_that_was_closed_so_long_ago_only_counts_are_kept(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True, resultsVisibility="alwaysPublic")
    still_open = await content_run(api, raw)
    await voted(api, run, 42, 43)
    await voted(api, still_open, 42)
    query = {**run.query, "type": "results"}
    await close(api, run)
    before = await answered(await api.get("/rest/results", params=query))
    clock.advance(days=30, seconds=-1)
    await swept(api, raw, 30)
    assert raw.ballots.count_documents({"session_id": run.session}) == 2
    clock.advance(seconds=1)
    await swept(api, raw, 30)
    assert raw.ballots.count_documents({"session_id": run.session}) == 0
    assert raw.ballots.count_documents({"session_id": still_open.session}) == 1
    after = await answered(await api.get("/rest/results", params=query))
    assert after["results"] == before["results"]
    assert (session_of(raw, run)["counts_only"], session_of(raw, run)["participants"]) == (True, 2)
    assert await counted_exactly(api)
    assert await answered(await api.get("/rest", params=run.votes)) == []
    expanded = {**run.place, "pollId": run.poll_id, "expand": "vote", "as_user_id": "42"}
    [poll] = await answered(await api.get("/rest/polls", params=expanded))
    assert (poll["hasVoted"], poll["canVote"], poll["vote"]) == (False, False, None)
    export = await answered(await api.get(f"{run.url}/export", params={"format": "json"}))
    assert export["poll_submissions"] is None
    assert [one["votes"] for one in export["poll_choices"]] == [2, 0, 0]


async def test_it_stays_closed_takes_no_votes_and_keeps_its_course(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await course_run(api, raw)
    await answered(await submit(api, run, 1, acting=42))
    await answered(await api.put(f"{run.url}/close"))
    clock.advance(days=1)
    await swept(api, raw, 1)
    assert session_of(raw, run)["counts_only"]
    for method in ("GET", "PUT"):
        problem = await refused(await api.request(method, f"{run.url}/open"), 409)
        assert problem["code"] == "counts_only"
    await refused(await submit(api, run, 2, acting=43), 403)
    moved = await api.put(run.url, json={"poll_session": {"course_id": 56}})
    assert (await refused(moved, 409))["code"] == "session_has_submissions"
    ends = (clock.now + timedelta(days=1)).isoformat()
    await change(api, run, saveParticipantNames=True, endDate=ends, closePollOnEndDate=True)
    await refused(await submit(api, run, 2, acting=43), 403)
    await answered(await api.put(f"{run.url}/close"))
    await answered(await api.delete(run.url), 204)


async def test_a_poll_may_say_for_itself_how_long_and_the_setting_is_for_all_others(
    api: Client, raw: Raw, clock: Clock
) -> None:
    days: dict[str, int | None] = {"short": 10, "long": 100, "unset": None}
    runs: dict[str, Run] = {}
    for name, kept in days.items():
        poll = a_poll(settings={"retention": kept} if kept else {}, options=[{"title": "yes"}])
        made = await answered(await api.post("/rest", params=ISSUE, json=poll))
        assert made["settings"] == {**DEFAULT_SETTINGS, **({"retention": kept} if kept else {})}
        [session] = raw.sessions.find({"poll_id": made["id"]})
        runs[name] = Run(made["id"], session["poll_number"], session["_id"], ISSUE)
        await voted(api, runs[name], 42)
        await close(api, runs[name])

    def reduced() -> set[str]:
        return {name for name, run in runs.items() if session_of(raw, run).get("counts_only")}

    clock.advance(days=9)
    await swept(api, raw, 30)
    assert reduced() == set()
    clock.advance(days=1)
    await swept(api, raw, None)
    assert reduced() == {"short"}
    clock.advance(days=20)
    await swept(api, raw, None)
    assert reduced() == {"short"}
    await swept(api, raw, 30)
    assert reduced() == {"short", "unset"}
    clock.advance(days=70)
    await swept(api, raw, 30)
    assert reduced() == set(runs)


async def test_a_poll_shows_its_retention_where_it_is_set_and_null_clears_it(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)

    async def put(settings: Json) -> Any:
        body = a_poll(settings=settings, options=[{"id": "1", "title": "red"}])
        shown = await answered(await api.put("/rest", params=run.query, json=body))
        kept = session_of(raw, run)["rules"]["settings"]
        assert kept.get("retention") == shown["settings"].get("retention")
        return shown["settings"].get("retention", "unset")

    assert await put({"retention": 7}) == 7
    assert await put({"allowRevote": True}) == 7
    assert await put({"retention": None}) == "unset"
    for bad in (0, 36_501, "7", True, 1.5):
        body = a_poll(settings={"retention": bad})
        answer = await api.put("/rest", params=run.query, json=body)
        await refused(answer, 400, ["settings.retention"])


async def test_the_time_counts_from_the_last_close_and_from_the_end_of_the_poll(
    api: Client, raw: Raw, clock: Clock
) -> None:
    reopened = await content_run(api, raw)
    ending = await course_run(api, raw)
    await voted(api, reopened, 42)
    await answered(await submit(api, ending, 1, acting=42))
    ends = (clock.now + timedelta(hours=1)).isoformat()
    await change(api, ending, saveParticipantNames=True, endDate=ends, closePollOnEndDate=True)
    await close(api, reopened)
    await close(api, reopened)
    clock.advance(days=6)
    await answered(await api.put(f"{reopened.url}/open"))
    # Nobody has asked since the end, and it is noted now.
    await swept(api, raw, 7)
    assert session_of(raw, ending)["closed_at"] == clock.now
    clock.advance(days=1)
    await swept(api, raw, 7)
    assert "closed_at" not in session_of(raw, reopened)
    await close(api, reopened)
    clock.advance(days=6)
    await swept(api, raw, 7)
    assert session_of(raw, ending)["counts_only"]
    assert not session_of(raw, reopened).get("counts_only")
    clock.advance(days=1)
    await swept(api, raw, 7)
    assert session_of(raw, reopened)["counts_only"]


async def test_only_the_last_close_counts(api: Client, raw: Raw, clock: Clock) -> None:
    ends = clock.now + timedelta(days=3)
    again = await content_run(api, raw)
    moved = await content_run(api, raw, endDate=ends.isoformat(), closePollOnEndDate=True)
    before = await content_run(api, raw, endDate=ends.isoformat(), closePollOnEndDate=True)
    for run in (again, moved, before):
        await voted(api, run, 42)
    first = clock.now
    await close(api, again)
    await close(api, before)
    clock.advance(days=3)
    for run in (moved, before):
        await answered(await api.get(run.url))
    assert session_of(raw, before)["closed_at"] == first
    later = (ends + timedelta(days=30)).isoformat()
    await change(api, moved, endDate=later, closePollOnEndDate=True)
    await answered(await api.put(f"{again.url}/open"))
    clock.advance(days=3)
    await close(api, again)
    await close(api, moved)
    clock.advance(days=1)
    await swept(api, raw, 4)
    reduced = [run for run in (again, moved, before) if session_of(raw, run).get("counts_only")]
    assert reduced == [before]


async def test_a_session_of_counts_that_its_end_had_closed_does_not_open_when_that_is_moved(
    api: Client, raw: Raw, clock: Clock
) -> None:
    ends = clock.now + timedelta(hours=1)
    run = await content_run(api, raw, endDate=ends.isoformat(), closePollOnEndDate=True)
    await voted(api, run, 42)
    clock.advance(hours=1)
    await answered(await api.get(run.url))
    clock.advance(days=7)
    await swept(api, raw, 7)
    assert session_of(raw, run)["counts_only"]
    later = (clock.now + timedelta(days=9)).isoformat()
    await change(api, run, endDate=later, closePollOnEndDate=True)
    assert (await refused(await vote(api, run, "1", acting=43), 409))["code"] == "session_closed"
    listed = await answered(await api.get("/rest/polls", params={"workspace": "PLAT"}))
    assert [one["state"] for one in listed["polls"]] == ["closed"]


async def test_a_session_that_opens_again_because_its_end_is_moved_keeps_its_votes(
    api: Client, raw: Raw, clock: Clock
) -> None:
    ends = clock.now + timedelta(hours=1)
    run = await content_run(api, raw, endDate=ends.isoformat(), closePollOnEndDate=True)
    await voted(api, run, 42)
    clock.advance(hours=1)
    await answered(await api.get(f"{run.url}"))
    assert session_of(raw, run)["closed_at"] == clock.now
    later = (ends + timedelta(days=9)).isoformat()
    await change(api, run, endDate=later, closePollOnEndDate=True)
    clock.advance(days=8)
    await swept(api, raw, 7)
    assert raw.ballots.count_documents({}) == 1
    await voted(api, run, 43)


async def test_a_closed_session_without_votes_may_be_opened_again(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await course_run(api, raw)
    await answered(await api.put(f"{run.url}/close"))
    clock.advance(days=8)
    await swept(api, raw, 7)
    await answered(await api.put(f"{run.url}/open"))
    await answered(await submit(api, run, 1, acting=42))


async def test_sessions_that_an_earlier_version_closed_count_from_the_upgrade(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    await voted(api, run, 42)
    await close(api, run)
    raw.sessions.update_many({}, {"$unset": {"closed_at": ""}})
    clock.advance(days=400)
    await swept(api, raw, 7)
    assert session_of(raw, run)["closed_at"] == clock.now
    clock.advance(days=7)
    await swept(api, raw, 7)
    assert session_of(raw, run)["counts_only"]


async def test_closings_are_dated_once_a_day(api: Client, raw: Raw, clock: Clock) -> None:
    store = api.app[STORE]
    await store.retention.sweep(None)
    run = await content_run(api, raw)
    await voted(api, run, 42)
    await close(api, run)
    raw.sessions.update_many({}, {"$unset": {"closed_at": ""}})
    await store.retention.sweep(None)
    assert "closed_at" not in session_of(raw, run)
    clock.advance(seconds=DATE_EVERY.total_seconds())
    await store.retention.sweep(None)
    assert session_of(raw, run)["closed_at"] == clock.now


@pytest.mark.parametrize("again", [["open"], ["open", "close"]], ids=" and ".join)
async def test_a_session_that_is_opened_while_it_is_found_to_be_due_keeps_its_votes(
    api: Client, raw: Raw, clock: Clock, monkeypatch: pytest.MonkeyPatch, again: list[str]
) -> None:
    run = await content_run(api, raw)
    await voted(api, run, 42)
    await close(api, run)
    clock.advance(days=7)
    find = Retention._find_due

    async def find_and_open(self: Retention, *of: Any) -> Any:
        found = await find(self, *of)
        for action in again if found else ():
            await answered(await api.put(f"{run.url}/{action}"))
        return found

    monkeypatch.setattr(Retention, "_find_due", find_and_open)
    await swept(api, raw, 7)
    assert tally(raw, run) == {"1": 1}
    assert not session_of(raw, run).get("counts_only")


async def test_a_mark_of_being_closed_at_an_open_session_is_removed_and_not_believed(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    await voted(api, run, 42)
    raw.sessions.update_many({}, {"$set": {"closed_at": clock.now}})
    clock.advance(days=7)
    await swept(api, raw, 7)
    assert "closed_at" not in session_of(raw, run)
    assert tally(raw, run) == {"1": 1}


async def test_an_erased_users_ballot_in_a_session_of_counts_does_not_change_these(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    await voted(api, run, 42)
    await close(api, run)
    ballots = list(raw.ballots.find())
    clock.advance(days=7)
    await swept(api, raw, 7)
    # As if they were not removed yet.
    raw.ballots.insert_many(ballots)
    await erased(api, 42, "withdraw")
    assert raw.ballots.count_documents({}) == 0
    assert session_of(raw, run)["results"] == {"1": 1, "2": 0, "3": 0}


async def test_votes_that_are_still_to_be_removed_are_shown_to_nobody(
    api: Client, raw: Raw, clock: Clock
) -> None:
    content = await content_run(
        api, raw, saveParticipantNames=True, resultsVisibility="afterVote", retention=7
    )
    course = await course_run(api, raw, retention=7)
    await voted(api, content, 42, 43)
    await answered(await submit(api, course, 1, acting=42))
    for run in (content, course):
        await close(api, run)
    ballots = list(raw.ballots.find())
    clock.advance(days=7)
    await swept(api, raw, None)
    raw.ballots.insert_many(ballots)  # as if there were very many

    acting = {"as_user_id": "42"}
    expanded = {**content.query, **acting, "expand": "results,vote"}
    [poll] = await answered(await api.get("/rest", params=expanded))
    assert (poll["vote"], poll["hasVoted"]) == (None, False)
    assert "results" not in poll
    for params in (content.votes, {**content.votes, **acting}):
        assert await answered(await api.get("/rest", params=params)) == []
    for run in (content, course):
        for params in ({}, acting):
            [session] = (await answered(await api.get(run.url, params=params)))["poll_sessions"]
            assert (session["has_submitted"], session["poll_submissions"]) == (False, [])
        listed = await answered(await api.get(run.submissions))
        assert listed["poll_submissions"] == []
    for one in ballots:
        run = content if one["session_id"] == content.session else course
        await refused(await api.get(f"{run.submissions}/{one['number']}"), 404)
    answer = await api.get("/users/42/data")
    assert '"vote"' not in await answer.text()
    choices = await answered(await api.get(f"{course.poll_url}/poll_choices", params=acting))
    assert "is_correct" not in choices["poll_choices"][0]
