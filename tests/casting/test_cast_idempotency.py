"""``Idempotency-Key`` on casts: kept on the ballot, as keyed hashes, and nowhere else."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse

from service.web.store_key import STORE
from storage.tokens import token_id
from storage.voting import MAX_KEYS, MAX_REQUESTS, vote_key
from tests.conftest import ADMIN, SECRET, Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    CLOSED,
    Run,
    answered,
    content_run,
    course_run,
    submit,
    tally,
    vote,
)
from tests.support.seeds import refused

Cast = Callable[..., Awaitable[ClientResponse]]
KEY = "the-key-of-a-client"


@pytest.fixture(params=["rest", "api"])
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cast(face: str) -> Cast:
    """Casts through the face of this test."""
    return vote if face == "rest" else submit


async def a_run(api: Client, raw: Raw, face: str, **settings: Any) -> Run:
    """A session that this face can cast in."""
    make = content_run if face == "rest" else course_run
    return await make(api, raw, **settings)


async def close(api: Client, run: Run) -> None:
    await answered(await api.get(f"{run.url}/close"))


async def test_twenty_requests_at_once_under_one_key_make_one_ballot(
    api: Client, raw: Raw, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face)
    responses = await asyncio.gather(*(cast(api, run, "2", key=KEY) for _ in range(20)))
    first, *others = [await answered(response) for response in responses]
    assert all(other == first for other in others)
    assert tally(raw, run) == {"2": 1}
    session = raw.sessions.find_one({"_id": run.session})
    assert session is not None
    [ballot] = raw.ballots.find()
    assert len(ballot["requests"]) == 1


async def test_a_key_gets_the_first_answer_after_a_revote_and_a_close(
    api: Client, raw: Raw, clock: Clock, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face, allowRevote=True)
    first = await answered(await cast(api, run, "1", key=KEY))
    clock.advance(minutes=1)
    second = await answered(await cast(api, run, "2", key="another"))
    assert second != first
    assert await answered(await cast(api, run, "1", key=KEY)) == first
    await close(api, run)
    clock.advance(hours=23)
    assert await answered(await cast(api, run, "1", key=KEY)) == first
    assert await answered(await cast(api, run, "2", key="another")) == second
    await refused(await cast(api, run, "1", key="new"), 409 if face == "rest" else 403)
    assert tally(raw, run) == {"2": 1}


async def test_another_request_under_the_same_key_is_a_conflict_also_after_a_close(
    api: Client, raw: Raw, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face, allowRevote=True, allowComment=True)
    await answered(await cast(api, run, "1", key=KEY))
    for _ in range(2):
        await refused(await cast(api, run, "2", key=KEY), 409)
        await refused(await cast(api, run, "1", key=KEY, comment=None), 409)
        await close(api, run)
    assert tally(raw, run) == {"1": 1}


async def test_after_24_hours_a_key_is_a_new_one(
    api: Client, raw: Raw, clock: Clock, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face)
    await answered(await cast(api, run, "1", key=KEY))
    clock.advance(hours=24, seconds=-1)
    await answered(await cast(api, run, "1", key=KEY))
    clock.advance(seconds=1)
    await refused(await cast(api, run, "1", key=KEY), 409 if face == "rest" else 400)
    assert tally(raw, run) == {"1": 1}


async def test_no_key_within_its_24_hours_moves_a_newer_vote(
    api: Client, raw: Raw, clock: Clock, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face, allowRevote=True)
    for number in range(MAX_REQUESTS + 1):
        await answered(await cast(api, run, "1" if number == 0 else "2", key=f"key {number}"))
    clock.advance(hours=24, seconds=-1)
    for option in ("1", "2", "3"):
        await refused(await cast(api, run, option, key="key 0"), 409)
    assert tally(raw, run) == {"2": 1}
    await answered(await cast(api, run, "2", key="key 1"))
    clock.advance(seconds=1)
    await answered(await cast(api, run, "3", key="key 0"))
    assert tally(raw, run) == {"3": 1}


async def test_a_vote_with_200_keys_takes_no_other_within_their_24_hours(
    api: Client, raw: Raw, clock: Clock, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face, allowRevote=True)
    await answered(await cast(api, run, "1", key="the first"))
    [ballot] = raw.ballots.find()
    [request] = ballot["requests"]
    others = [{**request, "key": f"{number}"} for number in range(MAX_KEYS - 2)]
    raw.ballots.update_one({}, {"$push": {"requests": {"$each": others}}})
    await answered(await cast(api, run, "2", key="the last"))
    assert MAX_KEYS == 200
    problem = await refused(await cast(api, run, "3", key="one more"), 409)
    assert problem["code"] == "limit_reached"
    problem = await refused(await cast(api, run, "1", key="the first"), 409)
    assert problem["code"] == "idempotency_key_outdated"
    assert tally(raw, run) == {"2": 1}
    [ballot] = raw.ballots.find()
    assert len(ballot["requests"]) == MAX_KEYS
    await answered(await cast(api, run, "3"))
    clock.advance(hours=24)
    await answered(await cast(api, run, "1", key="one more"))
    assert tally(raw, run) == {"1": 1}


async def test_the_key_of_a_withdrawn_vote_does_not_cast_it_again(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await answered(await vote(api, run, "1", key=KEY))
    await answered(await api.delete("/rest", params=run.votes))
    await refused(await vote(api, run, "1", key=KEY), 409)
    assert tally(raw, run) == {}
    await answered(await vote(api, run, "2"))
    await refused(await vote(api, run, "1", key=KEY), 409)
    assert tally(raw, run) == {"2": 1}
    [record] = raw.idempotency.find()
    assert record.keys() == {"_id", "requests", "created_at"}
    assert KEY not in str(record)
    await answered(await api.delete("/rest", params=run.votes))
    await refused(await vote(api, run, "1", key=KEY), 409)


async def test_votes_and_withdrawals_in_one_batch_keep_their_keys(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    ballots = api.app[STORE].ballots
    batch: list[Any] = []
    cast_all = ballots._casts._run

    async def keep(votes: Any) -> Any:
        batch.extend(votes)
        return await cast_all(votes)

    monkeypatch.setattr(ballots._casts, "_run", keep)
    await answered(await vote(api, run, "1", key=KEY))
    await answered(await api.delete("/rest", params=run.votes))
    await answered(await vote(api, run, "2", key="another"))
    await answered(await api.delete("/rest", params=run.votes))
    first, withdrawal, second = batch[:3]
    raw.idempotency.delete_many({})
    outcomes = await ballots._cast_all([first, withdrawal, second, first, withdrawal, first])
    assert [type(one).__name__ for one in outcomes] == ["Cast"] * 3 + [
        "KeyOutdated",
        "Cast",
        "KeyOutdated",
    ]
    assert tally(raw, run) == {}
    await refused(await vote(api, run, "1", key=KEY), 409)


async def test_a_key_belongs_to_the_token_and_to_the_user_acted_for(
    api: Client, raw: Raw, make_token: TokenMaker, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face)
    for user in (7, 8):
        await answered(await cast(api, run, "1", key=KEY, acting=user))
    first, second = [await make_token(user_id=0, admin=True) for _ in range(2)]
    own = await answered(await cast(api, run, "2", key=KEY, who=first))
    assert await answered(await cast(api, run, "2", key=KEY, who=first)) == own
    # The same user with another token sends another request.
    await refused(await cast(api, run, "2", key=KEY, who=second), 409 if face == "rest" else 400)
    assert tally(raw, run) == {"1": 2, "2": 1}


async def test_rights_are_checked_each_time(
    api: Client, raw: Raw, make_token: TokenMaker, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face)
    who = await make_token(user_id=7, admin=True, name="clerk")
    await answered(await cast(api, run, "1", key=KEY, who=who))
    raw.tokens.update_one({"name": "clerk"}, {"$set": {"admin": False, "actions": ["read"]}})
    api.app[STORE].tokens._known.clear()
    await refused(await cast(api, run, "1", key=KEY, who=who), 403)


async def test_a_refused_cast_is_not_remembered(
    api: Client, raw: Raw, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face)
    await close(api, run)
    problem = await refused(await cast(api, run, "1", key=KEY), 409 if face == "rest" else 403)
    assert problem["detail"] == CLOSED
    await answered(await api.get(f"{run.url}/open"))
    await answered(await cast(api, run, "2", key=KEY))
    assert tally(raw, run) == {"2": 1}


async def test_nothing_but_keyed_hashes_is_kept_of_a_key(
    api: Client, raw: Raw, face: str, cast: Cast
) -> None:
    run = await a_run(api, raw, face)
    before = list(raw.idempotency.find())
    await answered(await cast(api, run, "1", key=KEY))
    assert list(raw.idempotency.find()) == before == []
    [ballot] = raw.ballots.find()
    [kept] = ballot["requests"]
    members = {"key", "fingerprint", "at"}
    assert kept.keys() == (members | {"second"} if face == "rest" else members)
    assert KEY not in str(ballot)
    assert (len(kept["key"]), len(kept["fingerprint"])) == (64, 64)
    # Keyed: who knows the key and the token, but not the secret, finds neither.
    known = (KEY, f"{token_id(ADMIN)} {KEY}", f"request:{token_id(ADMIN)} {KEY}")
    guesses = {hashlib.sha256(guess.encode()).hexdigest() for guess in known}
    assert not guesses & {kept["key"], kept["fingerprint"]}
    expected = vote_key(SECRET.encode(), ballot["_id"], f"{token_id(ADMIN)} {KEY}", "")
    assert kept["key"] == expected.key


async def test_a_key_that_is_sent_for_several_voters_and_sessions_joins_no_ballots(
    api: Client, raw: Raw, face: str, cast: Cast
) -> None:
    runs = [await a_run(api, raw, face), await content_run(api, raw, saveParticipantNames=True)]
    for run in runs:
        for user in (7, 8):
            await answered(await cast(api, run, "1", key=KEY, acting=user))
    requests = [request for ballot in raw.ballots.find() for request in ballot["requests"]]
    assert len(requests) == 4
    for member in ("key", "fingerprint"):
        assert len({request[member] for request in requests}) == 4


async def test_a_key_that_is_none_is_refused(api: Client, raw: Raw, face: str, cast: Cast) -> None:
    run = await a_run(api, raw, face)
    for key in ("", "k" * 256, "é"):
        who = {"Idempotency-Key": key}
        await refused(await cast(api, run, "1", who=who), 400, ["Idempotency-Key"])
    assert tally(raw, run) == {}
