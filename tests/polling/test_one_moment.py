"""The results and the submissions of an answer are those of one moment, while votes come in."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest

from service.polling.sessions import MAX_SUBMISSIONS
from service.web.store_key import STORE
from storage.embedded.engines import Secantus
from tests.casting.test_casting_guards import once_before
from tests.conftest import Client, Raw, TokenMaker
from tests.support import engine
from tests.support.casting import (
    COURSE,
    Headers,
    Run,
    answered,
    content_run,
    course_run,
    enroll,
    seed_ballots,
    shown,
    submitted,
)
from tests.support.seeds import Json, refused

LOOKS = 40
snapshots = pytest.mark.skipif(
    engine.chosen().name == Secantus.name,
    reason="What SecantusDB reads in an aggregate is not always of one moment.",
)

Look = Callable[[Client, Run], Awaitable[Json]]


@asynccontextmanager
async def voting(api: Client, run: Run, who: Headers | None = None) -> AsyncIterator[None]:
    """Votes, of new users or of one that changes it again and again, until the block ends."""
    cast = asyncio.Event()

    async def vote() -> None:
        for number in count(100):
            how = {"who": who} if who else {"acting": number}
            await submitted(api, run, 1 + number % 2, **how)
            cast.set()

    voters = [asyncio.create_task(vote())]
    await cast.wait()
    yield
    for voter in voters:
        assert not voter.done(), voter.exception()
        voter.cancel()
    await asyncio.wait(voters)


async def _get(api: Client, run: Run) -> Json:
    return dict(await answered(await api.get(run.url)))


async def _list(api: Client, run: Run) -> Json:
    query = {"include[]": "poll_submissions"}
    return dict(await answered(await api.get(f"{run.poll_url}/poll_sessions", params=query)))


async def _change(api: Client, run: Run) -> Json:
    body = {"poll_sessions": [{"has_public_results": True}]}
    return dict(await answered(await api.put(run.url, json=body)))


@snapshots
@pytest.mark.parametrize("look", [_get, _list, _change])
async def test_results_count_the_submissions_that_are_shown_with_them(
    api: Client, raw: Raw, look: Look
) -> None:
    run = await course_run(api, raw)
    async with voting(api, run):
        answers = [await look(api, run) for _ in range(LOOKS)]
    for answer in answers:
        [session] = answer["poll_sessions"]
        counted = Counter(str(one["poll_choice_id"]) for one in session["poll_submissions"])
        assert {"1": 0, "2": 0, "3": 0, **counted} == session["results"]


@snapshots
async def test_results_count_the_own_submission_that_is_shown_with_them(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowRevote=True, saveParticipantNames=True)
    who = await make_token(user_id=8, actions=["read", "vote"])
    async with voting(api, run, who):
        answers = [await answered(await api.get(run.url, headers=who)) for _ in range(LOOKS)]
    for answer in answers:
        [session] = answer["poll_sessions"]
        [own] = session["poll_submissions"]
        assert session["results"] == {"1": 0, "2": 0, "3": 0, str(own["poll_choice_id"]): 1}


@pytest.mark.parametrize(("what", "status"), [("moved", 403), ("deleted", 404)])
async def test_a_session_that_goes_while_it_is_read_is_not_shown_any_more(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    status: int,
) -> None:
    gone, other = await course_run(api, raw, public=True), await course_run(api, raw, public=True)
    await enroll(api, 8)
    who = await make_token(user_id=8)

    async def go() -> None:
        if what == "deleted":
            await answered(await api.delete(gone.url), 204)
        else:
            body = {"poll_sessions": [{"course_id": COURSE + 1}]}
            await answered(await api.put(gone.url, json=body))

    sessions = api.app[STORE].sessions
    once_before(monkeypatch, sessions, "with_ballots", go)
    query = {"include[]": "poll_submissions"}
    answer = await api.get("/api/v1/poll_sessions/opened", params=query, headers=who)
    assert [one["id"] for one in (await answered(answer))["poll_sessions"]] == [other.session]
    if what == "moved":
        raw.sessions.update_one({"_id": gone.session}, {"$set": {"course_id": COURSE}})
        once_before(monkeypatch, sessions, "with_ballots", go)
        await refused(await api.get(gone.url, headers=who), status)
    else:
        once_before(monkeypatch, sessions, "with_ballots", lambda: api.delete(other.url))
        await refused(await api.get(other.url, headers=who), status)


async def test_a_voter_has_submitted_also_when_the_submissions_become_too_many_to_be_read(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw, public=True)
    await enroll(api, 8)
    who = await make_token(user_id=8)
    await submitted(api, run, 1, who=who)
    raw.ballots.update_one({"user_id": 8}, {"$set": {"number": 10**15 - 1}})  # the last of all
    seed_ballots(raw, run, MAX_SUBMISSIONS - 1)

    async def one_more() -> None:
        seed = {"_id": f"{run.session}:one more", "session_id": run.session, "number": 1_000_004}
        raw.ballots.insert_one(seed)
        raw.sessions.update_one({"_id": run.session}, {"$inc": {"participants": 1}})

    once_before(monkeypatch, api.app[STORE].sessions, "with_ballots", one_more)
    seen = await shown(api, run, who)
    assert (seen["poll_submissions"], seen["has_submitted"]) == (None, True)
