"""What the audit holds: who changed what, written with the change, and never a vote."""

from typing import Any

import pytest

from service.web.store_key import STORE
from storage.audit import Action, Actor
from storage.errors import Conflict, NotFound
from storage.pagination import Window
from storage.store import Store
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.calls import POLL
from tests.support.casting import answered
from tests.support.polling import API, call, enroll, make_poll, make_session
from tests.support.seeds import refused

ISSUE = {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"}
COURSE = 3


def entries(raw: Raw) -> list[dict[str, Any]]:
    """Oldest first, without their ids and times."""
    found = raw.audit.find({}, {"at": 0}).sort("_id", 1)
    return [{name: value for name, value in one.items() if name != "_id"} for one in found]


def actions(raw: Raw) -> list[str]:
    return [one["action"] for one in entries(raw)]


async def test_a_change_of_a_poll_is_noted_with_who_made_it_and_what_changed(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    headers = await make_token(user_id="anna", name="forum")
    raw.audit.delete_many({})
    poll = await answered(await api.post("/rest", params=ISSUE, json=POLL, headers=headers))
    query = {**ISSUE, "pollId": poll["id"]}
    clock.advance(seconds=1)
    changed = {**poll, "title": "Coffee?", "settings": {"allowComment": True}}
    await answered(await api.put("/rest", params=query, json=changed, headers=headers))
    clock.advance(seconds=1)
    await answered(await api.delete("/rest", params=query, headers=headers))

    who = {"user_id": "anna", "token_name": "forum", "poll_id": poll["id"]}
    assert entries(raw) == [
        {**who, "action": "poll.created"},
        {**who, "action": "poll.changed", "changed": ["title", "settings.allowComment"]},
        {**who, "action": "poll.deleted"},
    ]
    assert max(one["at"] for one in raw.audit.find()) == clock()


async def test_what_is_refused_or_repeated_is_not_noted(api: Client, raw: Raw) -> None:
    key = {"Idempotency-Key": "once"}
    poll = await answered(await api.post("/rest", params=ISSUE, json=POLL, headers=key))
    await answered(await api.post("/rest", params=ISSUE, json=POLL, headers=key))
    await refused(await api.post("/rest", params=ISSUE, json={**POLL, "id": poll["id"]}), 409)
    query = {**ISSUE, "pollId": poll["id"]}
    stale = {"If-Match": '"1-7"'}
    await refused(await api.delete("/rest", params=query, headers=stale), 412)
    assert actions(raw) == ["poll.created"]


async def test_votes_are_not_noted(api: Client, raw: Raw) -> None:
    poll = await answered(await api.post("/rest", params=ISSUE, json=POLL))
    query = {**ISSUE, "type": "votes", "pollId": poll["id"]}
    await answered(await api.post("/rest", params=query, json={"optionIds": ["1"]}))
    assert actions(raw) == ["poll.created"]


async def test_the_life_of_a_session_is_noted(api: Client, raw: Raw, clock: Clock) -> None:
    poll = await make_poll(api, "yes")
    session = await make_session(api, poll["id"], course_id=COURSE)
    url = f"{API}/polls/{poll['id']}/poll_sessions/{session['id']}"
    raw.audit.delete_many({})
    for action in ("open", "open", "close"):
        clock.advance(seconds=1)
        await call(api, "PUT", f"{url}/{action}")
    clock.advance(seconds=1)
    await call(api, "PUT", url, json={"poll_sessions": [{"has_public_results": True}]})
    clock.advance(seconds=1)
    await (await api.get(f"{url}/export", params={"format": "json"})).read()
    clock.advance(seconds=1)
    await call(api, "DELETE", url, status=204)

    found = entries(raw)
    assert [one["action"] for one in found] == [
        *("session.opened", "session.closed", "session.changed"),
        *("session.exported", "session.deleted"),
    ]
    assert found[2]["changed"] == ["has_public_results"]
    assert {(one["session_id"], one["course_id"]) for one in found} == {(session["id"], COURSE)}
    assert len({one["poll_id"] for one in found}) == 1


async def test_enrollments_and_tokens_are_noted_without_their_users_and_secrets(
    api: Client, raw: Raw, clock: Clock
) -> None:
    enrollment = await enroll(api, "unmistakable", COURSE)
    await enroll(api, "unmistakable", COURSE)  # which there is already
    clock.advance(seconds=1)
    await call(api, "DELETE", f"{API}/courses/{COURSE}/enrollments/{enrollment['id']}")
    clock.advance(seconds=1)
    token = {"name": "screen", "userId": "unmistakable", "workspaces": ["*"]}
    made = await answered(await api.post("/tokens", json=token))
    clock.advance(seconds=1)
    await answered(await api.delete("/tokens/screen"))

    found = entries(raw)
    assert [one["action"] for one in found] == [
        *("enrollment.created", "enrollment.deleted", "token.created", "token.revoked"),
    ]
    assert found[0]["count"] == 1
    assert found[1]["enrollment_id"] == enrollment["id"]
    assert {one["subject_token"] for one in found[2:]} == {"screen"}
    assert made["secret"] not in str(found)
    # Which an erasure finds the names of tokens by.
    assert [one.pop("token_owner", None) for one in found] == [None, None, *["unmistakable"] * 2]
    shown = await answered(await api.get("/audit"))
    assert "unmistakable" not in str([found, shown])


async def test_several_polls_and_sessions_have_an_entry_each(
    api: Client, raw: Raw, clock: Clock
) -> None:
    polls = [{"question": text} for text in ("Tea?", "Milk?")]
    made = await call(api, "POST", f"{API}/polls", json={"polls": polls})
    clock.advance(seconds=1)
    sessions = [{"course_id": course} for course in (1, 2, 3)]
    url = f"{API}/polls/{made['polls'][0]['id']}/poll_sessions"
    await call(api, "POST", url, json={"poll_sessions": sessions})
    found = entries(raw)
    assert [one["action"] for one in found] == ["poll.created"] * 2 + ["session.created"] * 3
    assert len({one["poll_id"] for one in found[:2]}) == 2
    assert {one["course_id"] for one in found[2:]} == {1, 2, 3}


async def test_an_entry_is_stored_with_its_change_or_not_at_all(
    store: Store, raw: Raw, clock: Clock
) -> None:
    actor = Actor(7, "desk", clock())
    await store.tokens.create("1", name="bot", user_id=7, now=clock(), actor=actor)
    with pytest.raises(Conflict):
        await store.tokens.create("2", name="bot", user_id=7, now=clock(), actor=actor)
    with pytest.raises(NotFound):
        await store.tokens.revoke("other", clock(), actor=actor)
    assert actions(raw) == ["token.created"]


async def test_an_entry_stands_for_the_mark_of_its_transaction(
    store: Store, raw: Raw, clock: Clock
) -> None:
    actor = Actor(7, "desk", clock())
    await store.tokens.create("1", name="bot", user_id=7, now=clock(), actor=actor)
    assert raw.attempts.count_documents({}) == 0
    await store.tokens.revoke("bot", clock())
    assert raw.attempts.count_documents({}) == 1


async def test_entries_are_listed_newest_first_by_poll_and_time(store: Store, clock: Clock) -> None:
    begun = clock()
    for poll_id in ("a", "b", "a", "a"):
        await store.audit.write(Actor(7, "desk", clock()), Action.POLL_EXPORTED, poll_id=poll_id)
        clock.advance(seconds=1)
    first = await store.audit.newest(Window(limit=2), poll_id="a")
    assert [one["at"].second for one in first.rows] == [3, 2]
    rest = await store.audit.newest(Window(first.next_after, limit=2), poll_id="a")
    assert [one["at"] for one in rest.rows] == [begun]
    assert rest.next_after is None
    later = first.rows[1]["at"]
    found = await store.audit.newest(Window(), since=later)
    assert [one["at"].second for one in found.rows] == [3, 2]


async def test_what_no_request_asked_for_has_no_actor(api: Client, raw: Raw, clock: Clock) -> None:
    await api.app[STORE].tokens.create("1", name="bot", user_id=7, now=clock())
    assert entries(raw) == []
