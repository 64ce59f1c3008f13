"""Privacy: where names are not saved, nothing links a user to a choice (docs/api.md, section 5)."""

import dataclasses
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse
from structlog.testing import capture_logs

from service.telemetry.log import REQUEST_LOG
from service.web.store_key import STORE
from storage.tokens import token_id
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    Headers,
    Run,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    results,
    shown,
    submit,
    submitted,
    tally,
    vote,
)
from tests.support.seeds import ISSUE, Json, refused

USER = 7031999
NAME = "token-of-a-voter"
KEY = "key-of-a-client"

Cast = Callable[..., Awaitable[ClientResponse]]
FACES = pytest.mark.parametrize("cast", [vote, submit], ids=["rest", "api"])


async def a_voter(api: Client, make_token: TokenMaker) -> Headers:
    await enroll(api, USER)
    return await make_token(user_id=USER, name=NAME, actions=["read", "vote"])


def all_documents(raw: Raw) -> str:
    """Every document, except in collections that identify users."""
    names = set(raw.list_collection_names()) - {"tokens", "live_names", "enrollments"}
    assert {"ballots", "sessions", "containers", "idempotency", "attempts"} <= names
    return "\n".join(str(document) for name in sorted(names) for document in raw[name].find())


def lines_of(api: Client, request_lines: io.BytesIO, since: int = 0) -> list[Json]:
    api.app[REQUEST_LOG].flush()
    return [json.loads(line) for line in request_lines.getvalue()[since:].splitlines()]


async def all_answers(
    api: Client, raw: Raw, run: Run, who: Headers | None = None, **query: str
) -> str:
    """The responses of every GET about votes, in both APIs."""
    numbers = [ballot["number"] for ballot in raw.ballots.find({"session_id": run.session})]
    bare = {**run.place, **query}
    urls: list[tuple[str, dict[str, str]]] = [
        ("/rest", {**run.votes, **query}),
        ("/rest", {**run.query, "expand": "results", **query}),
        ("/rest", {**bare, "expand": "results"}),
        (run.poll_url, query),
        (run.url, query),
        (run.submissions, query),
        (f"{run.url}/export", {"format": "csv", **query}),
        (f"{run.url}/export", {"format": "json", **query}),
        (f"{run.poll_url}/poll_choices", query),
        (f"{run.poll_url}/poll_sessions", {"include[]": "poll_submissions", **query}),
        ("/api/v1/poll_sessions/opened", {"include[]": "poll_submissions", **query}),
        ("/api/v1/poll_sessions/closed", {"include[]": "poll_submissions", **query}),
        ("/api/v1/polls", query),
    ]
    texts = []
    for url, params in urls:
        response = await api.get(url, params=params, headers=who)
        texts.append(await response.text())
    for number in numbers:
        one = await api.get(f"{run.submissions}/{number}", params=query, headers=who)
        texts.append(await one.text())
    return "\n".join(texts)


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "with a key"])
async def test_no_stored_document_links_a_user_or_a_token_to_a_choice(
    api: Client, raw: Raw, make_token: TokenMaker, key: str | None
) -> None:
    on_page = await content_run(api, raw, allowRevote=True)
    in_course = await course_run(api, raw, saveParticipantNames=False, allowRevote=True)
    who = await a_voter(api, make_token)
    secret = who["Authorization"].removeprefix("Bearer ")
    for _ in range(2):  # a vote and a revote, or a replay
        for caster in ({"who": who}, {"acting": USER + 1}):
            how: dict[str, Any] = {**caster, "key": key}
            await answered(await vote(api, on_page, "1", **how))
            await answered(await submit(api, on_page, 1, **{**how, "key": key and f"{key}2"}))
            await answered(await submit(api, in_course, 2, **how))
    text = all_documents(raw)
    for trace in (USER, USER + 1, NAME, secret, token_id(secret), KEY):
        assert str(trace) not in text
    assert [ballot["user_id"] for ballot in raw.ballots.find()] == [None] * 4
    assert (tally(raw, on_page), tally(raw, in_course)) == ({"1": 2}, {"2": 2})


@FACES
async def test_the_log_line_of_a_cast_leaves_out_the_voter(
    api: Client,
    raw: Raw,
    clock: Clock,
    make_token: TokenMaker,
    request_lines: io.BytesIO,
    cast: Cast,
) -> None:
    run = await content_run(api, raw)
    who = await a_voter(api, make_token)
    lines_of(api, request_lines)
    start = len(request_lines.getvalue())
    statuses = [(await cast(api, run, "1", who=who, key=KEY)).status]
    # Refused: twice, unknown, too many, none.
    refusals = [await cast(api, run, *options, who=who) for options in ("1", "9", "12", "")]
    statuses += [response.status for response in refusals]
    statuses.append((await cast(api, run, "1", acting=USER)).status)
    statuses.append((await cast(api, run, "1", who={**who, "Idempotency-Key": ""})).status)
    await api.get(f"{run.url}/close")
    statuses.append((await cast(api, run, "1", who=who)).status)
    clock.advance(days=1)
    statuses.append((await cast(api, run, "1", who=who)).status)
    statuses.append((await api.delete("/rest", params=run.votes, headers=who)).status)
    statuses.append((await api.get("/rest", params=run.votes, headers=who)).status)
    lines = [line for line in lines_of(api, request_lines, start) if "close" not in line["route"]]
    assert [line["status"] for line in lines] == statuses
    assert statuses.count(200) == 2
    for line in lines:
        assert (line["user"], line["token"], line["remote"]) == (None, None, None)
        assert not {str(USER), NAME, run.poll_id} & set(json.dumps(line).split('"'))
        assert "?" not in json.dumps(line)


@FACES
async def test_the_log_line_of_a_cast_has_an_id_that_no_caller_was_told(
    api: Client, raw: Raw, make_token: TokenMaker, request_lines: io.BytesIO, cast: Cast
) -> None:
    """Callers send one id with all requests of a user, and keep those that they are given."""
    run = await content_run(api, raw, allowRevote=True)
    who = await a_voter(api, make_token)
    told: list[str] = []
    for sent in ({}, {"X-Request-Id": "id-of-a-voter"}):
        response = await cast(api, run, "1", who={**who, **sent})
        told.append(response.headers["X-Request-Id"])
        assert response.status == 200
    assert told[1] == "id-of-a-voter"
    lines = lines_of(api, request_lines)[-2:]
    assert not {line["id"] for line in lines} & set(told)
    # Ids that are told are counted: the beginning is that of the process.
    assert not {line["id"][:20] for line in lines} & {one[:20] for one in told}
    named = await content_run(api, raw, saveParticipantNames=True)
    response = await cast(api, named, "1", who={**who, "X-Request-Id": "id-of-a-voter"})
    assert lines_of(api, request_lines)[-1]["id"] == "id-of-a-voter"


@FACES
async def test_the_log_line_of_a_named_cast_names_the_voter(
    api: Client, raw: Raw, make_token: TokenMaker, request_lines: io.BytesIO, cast: Cast
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    who = await a_voter(api, make_token)
    await answered(await cast(api, run, "1", who=who))
    line = lines_of(api, request_lines)[-1]
    assert (line["user"], line["token"], line["remote"]) == (USER, NAME, "127.0.0.1")


async def test_the_log_line_of_a_refused_cast_in_a_known_session_names_the_voter_of_a_named_poll(
    api: Client, raw: Raw, make_token: TokenMaker, request_lines: io.BytesIO
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    who = await a_voter(api, make_token)
    await answered(await vote(api, run, "1", who=who))
    for options, status in (("1", 409), ("9", 400)):
        await answered(await vote(api, run, options, who=who), status)
        assert lines_of(api, request_lines)[-1]["user"] == USER
    await change(api, run, saveParticipantNames=False)
    await answered(await vote(api, run, "9", who=who), 400)
    assert lines_of(api, request_lines)[-1]["user"] is None


async def test_the_request_line_of_a_stranger_to_an_unnamed_course_session_is_anonymous_too(
    api: Client, raw: Raw, make_token: TokenMaker, request_lines: io.BytesIO
) -> None:
    run = await course_run(api, raw, saveParticipantNames=False)
    await refused(await submit(api, run, 1, who=await make_token(user_id=USER)), 403)
    line = lines_of(api, request_lines)[-1]
    assert (line["user"], line["token"], line["remote"]) == (None, None, None)


@FACES
async def test_a_cast_that_is_refused_before_the_poll_is_known_leaves_out_the_voter(
    api: Client, raw: Raw, make_token: TokenMaker, request_lines: io.BytesIO, cast: Cast
) -> None:
    """Its right form may follow a second later, as a vote without a name."""
    run = await content_run(api, raw, saveParticipantNames=True)
    who = {**await a_voter(api, make_token), "X-Request-Id": "id-of-a-voter"}
    reader = {**await make_token(user_id=USER, actions=["read"]), "X-Request-Id": "id-of-a-voter"}
    wrong = dataclasses.replace(run, poll_id="none", session=run.session + 99)
    bad = dataclasses.replace(run, place={"workspace": run.place["workspace"]})
    start = len(request_lines.getvalue())
    refusals = [
        await cast(api, wrong, "1", who=who),
        await cast(api, run, "1", who=reader),
        await cast(api, run, "1", who={**who, "Authorization": "Bearer unknown"}),
        await vote(api, bad, "1", who=who),
        await api.delete("/rest/votes", params=bad.place, headers=who),
        await cast(api, run, "1", who=who, acting=9),
    ]
    assert [one.status for one in refusals] == [404, 403, 403, 400, 400, 403]
    assert {one.headers["X-Request-Id"] for one in refusals} == {"id-of-a-voter"}
    lines = lines_of(api, request_lines, start)[-len(refusals) :]
    assert [line["status"] for line in lines] == [one.status for one in refusals]
    for line in lines:
        assert (line["user"], line["token"], line["remote"]) == (None, None, None)
        assert line["id"] != "id-of-a-voter"


@FACES
@pytest.mark.parametrize("named", [False, True])
async def test_an_internal_error_of_a_cast_is_logged_under_the_id_of_its_line(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    request_lines: io.BytesIO,
    monkeypatch: pytest.MonkeyPatch,
    cast: Cast,
    named: bool,
) -> None:
    run = await content_run(api, raw, saveParticipantNames=named)
    who = {**await a_voter(api, make_token), "X-Request-Id": "id-of-a-voter"}
    monkeypatch.delattr(type(api.app[STORE].ballots), "cast")
    with capture_logs() as events:
        response = await cast(api, run, "1", who=who)
    assert response.status == 500
    assert response.headers["X-Request-Id"] == "id-of-a-voter"
    [event] = [one for one in events if one["event"] == "unhandled error"]
    line = lines_of(api, request_lines)[-1]
    assert event["request_id"] == line["id"]
    assert (line["id"] == "id-of-a-voter") == named
    told = (await response.json())["detail"]
    assert ("under this request id" in told, "not under this" in told) == (True, not named)


@FACES
async def test_no_answer_names_the_voter_to_anybody_else(
    api: Client, raw: Raw, make_token: TokenMaker, cast: Cast
) -> None:
    run = await content_run(api, raw)
    author = await a_voter(api, make_token)
    await answered(await cast(api, run, "1", who=author))
    [ballot] = raw.ballots.find()
    writer = await make_token(user_id=8)
    reader = await make_token(user_id=9, actions=["read", "vote"])
    for other in (None, writer, reader):
        assert str(USER) not in await all_answers(api, raw, run, other)
    for manager in (None, writer):
        [seen] = (await shown(api, run, manager))["poll_submissions"]
        assert (seen["user_id"], seen["created_at"]) == (None, None)
        assert (seen["id"], seen["poll_choice_id"]) == (ballot["number"], 1)
    assert (await shown(api, run, reader))["poll_submissions"] == []
    # The author sees all of their own vote.
    [own] = (await shown(api, run, author))["poll_submissions"]
    assert (own["user_id"], own["created_at"]) == (USER, "2126-01-31T00:00:00Z")
    one = await api.get(f"{run.submissions}/{ballot['number']}", headers=author)
    assert (await one.json())["poll_submissions"] == [own]
    one = await api.get(f"{run.submissions}/{ballot['number']}", headers=reader)
    await refused(one, 404)


@FACES
async def test_saving_names_later_reveals_no_voter_and_allows_no_second_vote(
    api: Client, raw: Raw, make_token: TokenMaker, clock: Clock, cast: Cast
) -> None:
    run = await content_run(api, raw)
    author = await a_voter(api, make_token)
    await answered(await cast(api, run, "1", who=author))
    await change(api, run, saveParticipantNames=True)
    clock.advance(minutes=1)
    for again in (vote, submit):
        response = await again(api, run, "2", who=author)
        await refused(response, 409 if again is vote else 400)
    assert tally(raw, run) == {"1": 1}
    answers = await all_answers(api, raw, run)
    assert str(USER) not in answers
    # The time of the cast would identify the voter.
    [seen] = await answered(await api.get("/rest", params=run.votes))
    assert seen == {
        "pollId": run.poll_id,
        "userId": None,
        "optionIds": ["1"],
        "comment": None,
        "createdAt": None,
        "updatedAt": None,
    }
    [own] = await answered(await api.get("/rest", params=run.votes, headers=author))
    assert (own["userId"], own["createdAt"]) == (USER, "2126-01-31T00:00:00Z")
    assert str(USER) not in all_documents(raw)
    # A revote under the new setting is named.
    await change(api, run, saveParticipantNames=True, allowRevote=True)
    await answered(await cast(api, run, "2", who=author))
    [seen] = await answered(await api.get("/rest", params=run.votes))
    assert (seen["userId"], seen["optionIds"]) == (USER, ["2"])


@FACES
async def test_names_that_are_saved_no_more_are_hidden_and_a_revote_removes_them(
    api: Client, raw: Raw, make_token: TokenMaker, cast: Cast
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True, allowRevote=True)
    author = await a_voter(api, make_token)
    await answered(await cast(api, run, "1", who=author))
    assert str(USER) in await all_answers(api, raw, run)
    await change(api, run, allowRevote=True)
    assert str(USER) not in await all_answers(api, raw, run)
    [seen] = (await shown(api, run))["poll_submissions"]
    assert (seen["user_id"], seen["created_at"]) == (None, None)
    assert (await shown(api, run, author))["poll_submissions"][0]["user_id"] == USER
    assert str(USER) in all_documents(raw)
    await answered(await cast(api, run, "2", who=author))
    assert str(USER) not in all_documents(raw)
    assert tally(raw, run) == {"2": 1}
    await change(api, run, saveParticipantNames=True, allowRevote=True)
    assert str(USER) not in await all_answers(api, raw, run)


@FACES
@pytest.mark.parametrize("owner", [None, USER], ids=["a voter", "the owner of the poll"])
async def test_a_caller_acting_for_a_user_cannot_learn_the_choice_by_any_get(
    api: Client, raw: Raw, clock: Clock, cast: Cast, owner: int | None
) -> None:
    acting = {"as_user_id": str(USER)}
    place = {**ISSUE, "as_user_id": str(owner or 5)}
    run = dataclasses.replace(await content_run(api, raw, place=place), place=ISSUE)
    await answered(await cast(api, run, "2", acting=USER))
    for user, option in ((1, "1"), (2, "2"), (3, "3")):
        clock.advance(minutes=1)
        await answered(await cast(api, run, option, acting=user))
    [own_id] = [
        ballot["number"]
        for ballot in raw.ballots.find()
        if ballot["_id"] == api.app[STORE].ballots.id_of(run.session, USER)
    ]
    for names in (False, True):
        await change(api, run, saveParticipantNames=names)
        votes = await answered(await api.get("/rest", params={**run.votes, **acting}))
        if owner and names:
            # The own ballot looks like all others, and has no special place in the list.
            assert votes == await answered(await api.get("/rest", params=run.votes))
            assert {one["userId"] for one in votes} == {None}
            assert {one["createdAt"] for one in votes} == {None}
        else:
            [hidden] = votes
            assert hidden == dict.fromkeys(hidden, None) | {"pollId": run.poll_id, "userId": USER}
        everything = (await answered(await api.get(run.submissions)))["poll_submissions"]
        assert {(one["user_id"], one["created_at"]) for one in everything} == {(None, None)}
        session = await shown(api, run, None, **acting)
        assert session["has_submitted"] is True
        assert session["poll_submissions"] == (everything if owner else [])
        listed = await api.get(run.submissions, params=acting)
        one = await api.get(f"{run.submissions}/{own_id}", params=acting)
        if owner:
            assert (await answered(listed))["poll_submissions"] == everything
            assert (await answered(one))["poll_submissions"][0]["user_id"] is None
        else:
            await refused(listed, 403)
            await refused(one, 404)
    assert await results(api, run, None, **acting) == await results(api, run)


async def test_a_cast_for_a_user_gives_no_number_under_which_it_is_found_later(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, saveParticipantNames=False, allowRevote=True)
    given = await submitted(api, run, 1, acting=USER)
    assert given == {
        "id": None,
        "poll_session_id": run.session,
        "poll_choice_id": 1,
        "user_id": USER,
        "created_at": None,
    }
    assert tally(raw, run) == {"1": 1}


async def test_a_caller_acting_for_a_user_sees_a_named_submission(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    await enroll(api, USER)
    given = await submitted(api, run, 1, acting=USER)
    assert given["id"] is not None
    assert (await shown(api, run, as_user_id=str(USER)))["poll_submissions"] == [given]


@FACES
@pytest.mark.parametrize("is_replaced", [False, True], ids=["the vote", "an earlier vote"])
@pytest.mark.parametrize("allows", [False, True], ids=["one option", "options and a comment"])
async def test_a_replay_for_a_user_says_no_more_than_get_whatever_its_body(
    api: Client, raw: Raw, cast: Cast, is_replaced: bool, allows: bool
) -> None:
    """A caller that knows the key of a vote could find its choice, guess by guess."""
    run = await content_run(
        api, raw, allowRevote=True, allowComment=allows, allowSelectionOfMultipleOptions=allows
    )
    comment = {"comment": "so"} if allows else {}
    await answered(await cast(api, run, "2", acting=USER, key=KEY, **comment))
    if is_replaced:
        await answered(await cast(api, run, "3", acting=USER, key="another"))
    before = tally(raw, run)
    bodies: list[tuple[list[str], dict[str, str]]] = [
        (["2"], {"comment": "so"}),
        (["2"], {}),
        (["1"], {}),
        (["3"], {}),
        (["9"], {}),
        (["1", "2"], {"comment": "no"}),
    ]
    said = [
        await answered(await cast(api, run, *options, acting=USER, key=KEY, **members))
        for options, members in bodies
    ]
    assert said == said[:1] * len(bodies)
    if cast is vote:
        seen = await api.get("/rest", params={**run.votes, "as_user_id": str(USER)})
        assert await answered(seen) == said[:1]
    else:
        [own] = said[0]["poll_submissions"]
        known = {"poll_session_id": run.session, "user_id": USER}
        assert own == dict.fromkeys(own, None) | known
    assert tally(raw, run) == before


@FACES
async def test_saving_names_later_does_not_make_replays_for_a_user_tell_the_vote(
    api: Client, raw: Raw, cast: Cast
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    await answered(await cast(api, run, "2", acting=USER, key=KEY))
    await change(api, run, allowRevote=True, saveParticipantNames=True)
    said = [await answered(await cast(api, run, one, acting=USER, key=KEY)) for one in "123"]
    assert said == said[:1] * 3
    await answered(await cast(api, run, "1", acting=USER))
    statuses = {(await cast(api, run, one, acting=USER, key=KEY)).status for one in "123"}
    assert statuses == {409}


@FACES
async def test_replays_of_a_named_vote_and_of_ones_own_are_told_from_other_requests(
    api: Client, raw: Raw, make_token: TokenMaker, cast: Cast
) -> None:
    named = await content_run(api, raw, saveParticipantNames=True)
    first = await answered(await cast(api, named, "2", acting=USER, key=KEY))
    assert await answered(await cast(api, named, "2", acting=USER, key=KEY)) == first
    await refused(await cast(api, named, "1", acting=USER, key=KEY), 409)
    who = await make_token(user_id=8, actions=["read", "vote"])
    unnamed = await content_run(api, raw)
    first = await answered(await cast(api, unnamed, "2", who=who, key=KEY))
    assert await answered(await cast(api, unnamed, "2", who=who, key=KEY)) == first
    await refused(await cast(api, unnamed, "1", who=who, key=KEY), 409)


async def test_a_vote_of_version_0_1_is_shown_without_its_time(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1"))
    moments = {"created_at": clock.now, "updated_at": clock.now}
    raw.ballots.update_one({"session_id": run.session}, {"$set": moments})
    [own] = await answered(await api.get("/rest", params=run.votes))
    assert {own["createdAt"], own["updatedAt"]} == {"2126-01-31T00:00:00Z"}
    [own] = (await shown(api, run))["poll_submissions"]
    assert own["created_at"] in (None, "2126-01-31T00:00:00Z")
