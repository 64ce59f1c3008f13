"""``DELETE /users/:id/data``: nothing tells of the user any more, and every count is exact."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from service.web.store_key import STORE
from storage import erasures, handovers, user_data
from storage.documents import UserId
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.people.conftest import PATIENCE_SECONDS, Live, counted_exactly, erase, erased
from tests.support.casting import (
    COURSE,
    answered,
    content_run,
    course_run,
    enroll,
    submit,
    tally,
    vote,
)
from tests.support.seeds import PAGE, UNKNOWN, a_poll, refused

ANN, NUMBER = "ann:557058:f58131cb", 7_391_846_205
DAY = datetime(2126, 1, 31, tzinfo=UTC)


def traces(raw: Raw, user_id: UserId) -> list[str]:
    """The collections with a document that holds the id, in whatever member."""
    return [
        name
        for name in raw.list_collection_names()
        for one in raw[name].find()
        if str(user_id) in str(one)
    ]


@pytest.mark.parametrize(("user_id", "votes"), [(ANN, "anonymize"), (NUMBER, "withdraw")])
async def test_afterwards_no_document_of_any_collection_holds_the_id(
    api: Client, raw: Raw, live: Live, user_id: UserId, votes: str
) -> None:
    await live(user_id)
    assert {*traces(raw, user_id)} >= {
        *("containers", "addresses", "sessions", "ballots", "enrollments"),
        *("tokens", "live_names", "idempotency", "audit", "deleted_polls", "deleted_sessions"),
    }
    entries = raw.audit.count_documents({})
    told = await erased(api, user_id, votes)
    assert traces(raw, user_id) == []
    assert (told["votes"], told["step"]) == (votes, None)
    assert told["counts"] == {
        "enrollments": 2,
        "tokens": 2,
        "polls": 5,
        "sessions": raw.sessions.count_documents({}) + raw.deleted_sessions.count_documents({}),
        "votes": 5,
    }
    assert await counted_exactly(api)
    assert raw.audit.count_documents({}) == entries + 1
    [entry] = raw.audit.find({"action": "user.erased"})
    assert entry.keys() == {"_id", "at", "action", "user_id", "token_name"}


async def test_anonymized_votes_count_without_name_comment_and_time_and_take_no_second_one(
    api: Client, raw: Raw, live: Live
) -> None:
    life = await live(ANN)
    before = {run.session: tally(raw, run) for run in life.runs}
    ids = {run.session: api.app[STORE].ballots.id_of(run.session, ANN) for run in life.runs}
    numbers = {one["_id"]: one["number"] for one in raw.ballots.find()}
    of_others = {"_id": {"$nin": [*ids.values()]}, "session_id": {"$ne": life.gone.session}}
    others = [*raw.ballots.find(of_others)]
    await erased(api, ANN, "anonymize")
    assert {run.session: tally(raw, run) for run in life.runs} == before
    for run in life.runs:
        [ballot] = raw.ballots.find({"_id": ids[run.session]})
        assert (ballot["user_id"], ballot["comment"]) == (None, None)
        assert {ballot["created_at"], ballot["updated_at"]} == {DAY}
        assert all(one["at"] == DAY and one["fingerprint"] is None for one in ballot["requests"])
        is_same = numbers[ballot["_id"]] == ballot["number"]
        assert is_same == (run is life.unnamed)
    assert [*raw.ballots.find(of_others)] == others
    again = await submit(api, life.course, 1, acting=ANN)
    assert (await refused(again, 400))["code"] == "already_voted"
    repeated = await vote(api, life.named, "2", key="k2", comment="because", acting=ANN)
    assert repeated.status == 200  # another token: a change, which the poll allows
    assert await counted_exactly(api)


async def test_withdrawn_votes_are_gone_with_their_counts_in_closed_sessions_too(
    api: Client, raw: Raw, live: Live
) -> None:
    life = await live(ANN)
    await erased(api, ANN, "withdraw")
    assert [tally(raw, run) for run in life.runs] == [{"2": 1}, {"1": 1}, {"3": 1}, {"2": 1}]
    for run in life.runs:
        ballot_id = api.app[STORE].ballots.id_of(run.session, ANN)
        assert raw.ballots.find_one({"_id": ballot_id}) is None
    [closed] = raw.sessions.find({"_id": life.closed.session})
    assert closed["is_published"] is False


async def test_polls_that_the_user_made_are_managed_by_admins_and_by_no_other_user_0(
    api: Client, raw: Raw, live: Live, make_token: TokenMaker
) -> None:
    life = await live(ANN)
    [before] = (await answered(await api.get(life.own)))["polls"]
    tag = (await api.get(life.own)).headers["ETag"]
    await erased(api, ANN, "anonymize")
    answer = await api.get(life.own)
    [poll] = (await answered(answer))["polls"]
    assert poll == {**before, "user_id": 0}
    assert answer.headers["ETag"] != tag
    [address] = raw.addresses.find({"number": poll["id"]})
    assert address["container"] == f"users\x1f0\x1f{poll['id']}"
    assert {one["owner_id"] for one in raw.sessions.find()} == {0}
    place = {"workspace": "users", "content": "0", "container": str(poll["id"])}
    nobody = await make_token(user_id=0, courses=["*"])
    await refused(await api.put(life.own, json={"poll": {"question": "?"}}, headers=nobody), 403)
    await refused(await api.get("/rest/polls", params=place, headers=nobody), 403)
    listed = await answered(await api.get("/rest/polls", params=PAGE))
    assert len(listed) == 2
    await answered(await api.put(life.own, json={"poll": {"question": "Whose?"}}))


async def test_tokens_of_the_user_stop_at_once_and_their_names_are_free(
    api: Client, live: Live, make_token: TokenMaker
) -> None:
    life = await live(ANN)
    await answered(await api.get("/api/v1/polls", headers=life.token))
    await erased(api, ANN, "anonymize")
    problem = await refused(await api.get("/api/v1/polls", headers=life.token), 403)
    assert problem["code"] == "bad_token"
    await make_token(name=f"the token of {ANN}")


async def test_the_audit_names_no_token_of_the_user_whoever_used_or_made_it(
    api: Client, raw: Raw
) -> None:
    body = {"actions": ["read", "write", "act"], "workspaces": ["*"], "courses": ["*"]}
    for user, name in ((ANN, f"service of {ANN}"), (8, "forum")):
        new = {**body, "name": name, "userId": user}
        secret = (await answered(await api.post("/tokens", json=new)))["secret"]
        for acting in (8, 9):
            params = {**PAGE, "as_user_id": str(acting)}
            bearer = {"Authorization": f"Bearer {secret}"}
            await answered(await api.post("/rest", params=params, json=a_poll(), headers=bearer))
    short = {"name": f"page, user {ANN}", "userId": ANN, "expiresIn": 900}
    await answered(await api.post("/tokens", json=short))
    # As the database leaves it a day after the expiry.
    raw.tokens.delete_one({"name": short["name"]})
    raw.live_names.delete_one({"_id": short["name"]})
    entries = raw.audit.count_documents({})
    await erased(api, ANN, "anonymize")
    assert traces(raw, ANN) == []
    assert raw.audit.count_documents({}) == entries + 1
    made = [one.get("subject_token") for one in raw.audit.find({"action": "token.created"})]
    assert sorted(made, key=str) == [None, None, "forum"]
    used = [one["token_name"] for one in raw.audit.find({"action": "poll.created"})]
    assert sorted(used, key=str) == [None, None, "forum", "forum"]


async def test_a_name_that_another_took_over_stays_taken(
    api: Client, make_token: TokenMaker, raw: Raw
) -> None:
    await make_token(name="n", user_id=42)
    await answered(await api.delete("/tokens/n"))
    await make_token(name="n", user_id=43)
    await erased(api, 42, "anonymize")
    assert [one["_id"] for one in raw.live_names.find()] == ["n"]


async def test_polls_and_votes_wait_until_what_the_tokens_began_has_ended(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasures, "SETTLE_SECONDS", 10.0)
    who = await make_token(user_id=42, workspaces=["DOCS"])
    place = await erase(api, 42, "anonymize")
    erasing = api.app[STORE].erasures
    await eventually_step(api, place, "polls")
    # As a process does it that has read the token before.
    assert raw.tokens.count_documents({"user_id": 42}) == 0
    await answered(await api.post("/rest", params={**PAGE, "as_user_id": "42"}, json=a_poll()))
    clock.advance(seconds=9)
    assert not await erasing.erase_one()
    assert raw.addresses.count_documents({"owner_id": 42}) == 1
    clock.advance(seconds=1)
    await eventually_step(api, place, None)
    assert traces(raw, "owner_id': 42") == []
    assert (await api.get("/rest", params=PAGE, headers=who)).status == 403


async def eventually_step(api: Client, place: str, step: str | None) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (await answered(await api.get(place)))["step"] != step:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_many_sessions_votes_and_polls_are_erased_in_many_steps(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_data, "SESSIONS_AT_A_TIME", 3)
    monkeypatch.setattr(erasures, "VOTES_AT_A_TIME", 2)
    monkeypatch.setattr(handovers, "POLLS_AT_A_TIME", 2)
    runs = []
    for number in range(7):
        place = {**PAGE, "as_user_id": "42", "container": f"m{number % 2}"}
        run = await content_run(api, raw, place=place, saveParticipantNames=True)
        await answered(await vote(api, run, "1", acting=42))
        runs.append(run)
    told = await erased(api, 42, "withdraw")
    assert told["counts"] == {
        "enrollments": 0,
        "tokens": 0,
        "polls": 7,
        "sessions": 7,
        "votes": 7,
    }
    assert [tally(raw, run) for run in runs] == [{}] * 7
    polls = [poll for one in raw.containers.find() for poll in one["polls"]]
    assert {(poll["owner_id"], poll["version"]) for poll in polls} == {(0, 2)}


async def test_a_user_is_erased_again_and_votes_that_were_anonymized_can_be_withdrawn(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=42))
    for votes, left in (("anonymize", {"1": 1}), ("withdraw", {}), ("withdraw", {})):
        await erased(api, 42, votes)
        assert tally(raw, run) == left


async def test_ballots_of_a_session_that_is_being_purged_are_removed(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    await answered(await submit(api, run, 1, acting=ANN))
    [ballot] = raw.ballots.find()
    # As a process leaves it that was killed before it removed the ballots.
    raw.purges.insert_one({"_id": run.session, "leased_until": datetime(2200, 1, 1, tzinfo=UTC)})
    raw.sessions.delete_one({"_id": run.session})
    told = await erased(api, ANN, "anonymize")
    assert told["counts"]["votes"] == 1
    assert raw.ballots.find_one({"_id": ballot["_id"]}) is None


async def test_what_becomes_of_the_votes_has_to_be_said(api: Client, raw: Raw) -> None:
    for params in ({}, {"votes": ""}, {"votes": "delete"}):
        await refused(await api.delete("/users/42/data", params=params), 400, ["votes"])
    twice = "/users/42/data?votes=anonymize&votes=withdraw"
    await refused(await api.delete(twice), 400, ["votes"])
    for user in ("0", "self", "%01"):
        params = {"votes": "withdraw"}
        await refused(await api.delete(f"/users/{user}/data", params=params), 404)
    for erasure in (UNKNOWN, "x"):
        await refused(await api.get(f"/erasures/{erasure}"), 404)
    assert raw.erasures.count_documents({}) == 0


async def test_while_a_user_is_being_erased_the_same_request_is_the_same_erasure(
    api: Client, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(erasures, "SETTLE_SECONDS", 10.0)
    await make_token(user_id=42)
    first = await erase(api, 42, "anonymize")
    assert await erase(api, 42, "anonymize") == first
    assert await erase(api, 42, "withdraw") != first
    assert await erase(api, "042", "anonymize") != first
    clock.advance(seconds=10)
    await eventually_step(api, first, None)
    assert await erase(api, 42, "anonymize") != first


async def test_a_vote_that_is_cast_while_its_voter_loses_the_poll_is_checked_again(
    api: Client, raw: Raw
) -> None:
    """The owner of a poll may vote in its sessions; who it passes from may not."""
    run = await course_run(api, raw)
    before = raw.sessions.find_one({"_id": run.session})
    raw.addresses.update_one({"_id": run.poll_id}, {"$set": {"owner_id": 42}})
    await erased(api, 42, "anonymize")
    after = raw.sessions.find_one({"_id": run.session})
    assert before is not None
    assert after is not None
    assert after["rights_changes"] == before.get("rights_changes", 0) + 1
    assert after["casts"] > before["casts"]
    await enroll(api, 8)
    assert raw.enrollments.count_documents({"course_id": COURSE}) == 1
