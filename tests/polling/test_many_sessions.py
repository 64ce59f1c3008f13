"""A poll with the most sessions that it may have: every request works, and none loads them all."""

import asyncio
from collections.abc import Iterator

import pytest
from pymongo import monitoring

from storage.sessions import MAX_SESSIONS
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import COURSE, Run, answered, content_run, enroll, shown, submit
from tests.support.seeds import Json, a_poll, refused

BIG = [{"id": f"{number:03}-" + "x" * 60, "title": "?"} for number in range(100)]


class Received(monitoring.CommandListener):
    """The largest answer of the database, in characters of its documents."""

    def __init__(self) -> None:
        self.most = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        pass

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self.most = max(self.most, len(repr(event.reply.get("cursor"))))

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
def received() -> Iterator[Received]:
    """What all clients receive that are made from now on."""
    received = Received()
    monitoring.register(received)
    yield received
    monitoring._LISTENERS.command_listeners.remove(received)


def fill(raw: Raw, run: Run, **members: object) -> list[int]:
    """Copies the session of the run, as sessions of the course, until there are no more to come."""
    session = raw.sessions.find_one({"_id": run.session})
    assert session is not None
    numbers = range(run.session + 1_000, run.session + 1_000 + MAX_SESSIONS - 1)
    course = {"course_id": COURSE, "is_published": False, **members}
    raw.sessions.insert_many({**session, **course, "_id": number} for number in numbers)
    return list(numbers)


async def create(api: Client, run: Run, times: int = 1) -> Json:
    body = {"poll_sessions": [{"course_id": COURSE}] * times}
    answer = await api.post(f"{run.poll_url}/poll_sessions", json=body)
    return {"status": answer.status, **(await answer.json())}


async def test_a_poll_has_no_more_sessions_than_it_may_have(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    number, *_ = fill(raw, run)
    full = await create(api, run)
    assert (full["status"], full["detail"]) == (
        409,
        "A poll may have at most 1,000 sessions.",
    )
    assert raw.sessions.count_documents({}) == MAX_SESSIONS
    assert (await api.delete(f"{run.poll_url}/poll_sessions/{number}")).status == 204
    for times in (2, 100):
        assert (await create(api, run, times=times))["status"] == 409
    assert raw.sessions.count_documents({}) == MAX_SESSIONS - 1
    at_once = await asyncio.gather(*(create(api, run) for _ in range(4)))
    assert sorted(one["status"] for one in at_once) == [200, 409, 409, 409]
    assert raw.sessions.count_documents({}) == MAX_SESSIONS


async def test_no_answer_about_a_poll_loads_all_its_sessions(
    received: Received, api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    results = {"1": 2, "2": 1, "3": 0}
    last = Run(run.poll_id, run.number, fill(raw, run, results=results, participants=3)[-1], {})
    await enroll(api, 7)
    who = await make_token(user_id=7, workspaces=[])
    await answered(await api.get(f"{last.url}/open"))
    await answered(await submit(api, last, 2, who=who))
    received.most = 0
    choices = await answered(await api.get(f"{run.poll_url}/poll_choices", headers=who))
    assert "is_correct" not in choices["poll_choices"][0]
    await answered(await api.get(f"{last.url}/close"))
    choices = await answered(await api.get(f"{run.poll_url}/poll_choices", headers=who))
    assert choices["poll_choices"][0]["is_correct"] is False
    [poll] = (await answered(await api.get(run.poll_url)))["polls"]
    others = MAX_SESSIONS - 1
    assert poll["total_results"] == {"1": 2 * others, "2": others + 1, "3": 0}
    # A number of each session at the most; a session has some 600 characters.
    assert 0 < received.most < 30 * MAX_SESSIONS


async def test_a_poll_with_the_most_sessions_is_changed_and_deleted_as_a_whole(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    body = a_poll(options=BIG, settings={"allowRevote": True})
    await answered(await api.put("/rest", params=run.query, json=body))
    numbers = fill(raw, run)
    body = a_poll(options=[*BIG[:-1], {"title": "new"}], settings={"allowComment": True})
    changed = await answered(await api.put("/rest", params=run.query, json=body))
    options = [option["id"] for option in changed["options"]]
    same = {"rules.options": options, "rules.settings": changed["settings"]}
    assert raw.sessions.count_documents(same) == MAX_SESSIONS
    assert raw.sessions.count_documents({f"results.{options[-1]}": 0}) == MAX_SESSIONS
    raw.sessions.update_one(
        {"_id": numbers[500]}, {"$set": {f"results.{options[3]}": 1, "participants": 1}}
    )
    problem = await refused(await api.put("/rest", params=run.query, json=a_poll()), 409)
    assert options[3] in problem["detail"]
    await answered(await api.delete("/rest", params=run.query))
    assert raw.sessions.count_documents({}) == 0


async def test_the_end_of_a_poll_with_the_most_sessions_is_that_of_them_all(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, closePollOnEndDate=True, endDate="2126-01-31T13:00:00Z")
    fill(raw, run, is_published=True)
    clock.advance(hours=1)
    assert (await shown(api, run))["is_published"] is False
    assert raw.sessions.count_documents({"rules.has_ended": True}) == MAX_SESSIONS
