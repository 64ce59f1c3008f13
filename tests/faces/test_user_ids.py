"""Users whose ids are numbers, and users whose ids are strings: all is alike, nothing is shared."""

import csv
import io
import json
from typing import Any
from urllib.parse import quote

import pytest

from service.polling.spreadsheets import harmless
from service.web.store_key import STORE
from storage.documents import UserId
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import Run, answered, content_run, tally, vote
from tests.support.linking import VOTE, look, make_link, send
from tests.support.polling import API, TEACHER, call, enroll, make_poll, make_session
from tests.support.seeds import Json, a_poll, refused
from tests.support.watching import got, of_content, watching

TEXT_IDS = {"Accept": "application/json+canvas-string-ids"}
USERS: list[UserId] = [
    *(42, "u42", "042", "AB-1", "=1+1", "a b&c=d#e?f+g%2F", "../tokens/{name}"),
    *('\'; DROP "users" --', "$user_id", "".join(map(chr, range(0x1F300, 0x1F380)))),
]
LOOKALIKES: list[UserId] = [42, "u42", "042", "4\N{FULLWIDTH DIGIT TWO}", "+42", "42.0", "'42'"]
every_user = pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user)[:20])


async def token_of(api: Client, user: UserId, **token: Any) -> dict[str, str]:
    """Headers of a token that was made over HTTP."""
    wanted = {"name": f"of {len(str(user))}", "userId": user, "workspaces": ["PLAT"], **token}
    made = await call(api, "POST", "/tokens", json=wanted)
    assert made["userId"] == user
    return {"Authorization": f"Bearer {made['secret']}"}


@every_user
async def test_a_user_makes_a_poll_votes_and_sees_the_vote_in_the_content_api(
    api: Client, raw: Raw, anonymous: Client, user: UserId
) -> None:
    who = await token_of(api, user)
    shown = {"id": user, "name": f"User {user}"}
    assert await call(api, "GET", f"{API}/users/self", headers=who) == shown
    run = await content_run(
        api,
        raw,
        who=who,
        saveParticipantNames=True,
        allowRevote=True,
        resultsVisibility="afterVote",
    )
    reader = await token_of(api, "a reader", name="reader", actions=["read"])
    await refused(await got(api, of_content(run), reader), 403)
    for option in ("1", "2"):
        cast = await answered(await vote(api, run, option, who=who, key="k"[: int(option) - 1]))
        assert (cast["userId"], cast["optionIds"]) == (user, [option])
    acted = await answered(await vote(api, run, "3", acting=user))
    assert (acted["userId"], acted["optionIds"]) == (user, ["3"])
    assert tally(raw, run) == {"3": 1}
    assert [(one["user_id"], one["choices"]) for one in raw.ballots.find()] == [(user, ["3"])]

    [own] = await answered(await api.get("/rest", params=run.votes, headers=who))
    assert (own["userId"], own["optionIds"]) == (user, ["3"])
    results = await answered(await got(api, of_content(run), who))
    assert results["results"]["participants"] == 1
    created = {"workspace": "PLAT", "createdBy": str(user)}
    listed = await answered(await api.get("/rest/polls", params=created, headers=who))
    assert [poll["createdBy"] for poll in listed["polls"]] == [user]

    link = await make_link(api, run, VOTE, acting=user)
    assert (await look(anonymous, link)).own == ["3"]
    assert (await send(anonymous, link, "1")).own == ["1"]
    assert tally(raw, run) == {"1": 1}
    await answered(await api.delete("/rest", params=run.votes, headers=who))
    assert tally(raw, run) == {}


@every_user
async def test_a_user_teaches_submits_and_is_exported_in_the_polling_api(
    api: Client, user: UserId
) -> None:
    who = await token_of(api, user, workspaces=[])
    assert (await enroll(api, user, 1, TEACHER))["user_id"] == user
    poll = await make_poll(api, "yes", "no", headers=who)
    assert poll["user_id"] == user
    session = await make_session(api, poll["id"], headers=who)
    url = f"{API}/polls/{poll['id']}/poll_sessions/{session['id']}"
    await call(api, "GET", f"{url}/open", headers=who)
    ballot = {"poll_submissions": [{"poll_choice_id": 1}]}
    [mine] = (await call(api, "POST", f"{url}/poll_submissions", headers=who, json=ballot))[
        "poll_submissions"
    ]
    assert mine["user_id"] == user
    text = {**who, **TEXT_IDS}
    [same] = (await call(api, "GET", f"{url}/poll_submissions", headers=text))["poll_submissions"]
    assert (same["user_id"], same["id"]) == (str(user), str(mine["id"]))
    path = f"{API}/users/{quote(str(user), safe='')}"
    for headers in (who, None):  # an admin, too
        assert (await call(api, "GET", path, headers=headers))["id"] == user
    acting = {"as_user_id": str(user)}
    [listed] = (await call(api, "GET", f"{API}/polls", params=acting))["polls"]
    assert (listed["id"], listed["user_id"]) == (poll["id"], user)
    assert [one["user_id"] for one in await call(api, "GET", f"{API}/courses/1/enrollments")] == [
        user
    ]

    exported = await call(api, "GET", f"{url}/export", params={"format": "json"}, headers=who)
    assert [one["user_id"] for one in exported["poll_submissions"]] == [user]
    async with api.get(f"{url}/export", params={"format": "csv"}, headers=who) as answer:
        rows = list(csv.DictReader(io.StringIO((await answer.read()).decode("utf-8-sig"))))
    cell = harmless(user) if isinstance(user, str) else "42"
    assert [row["user_id"] for row in rows if row["record"] == "submission"] == [cell]

    # The same poll on /rest is its owner's alone.
    place = {"workspace": "users", "content": str(user), "container": str(poll["id"])}
    [shown] = await answered(await api.get("/rest/polls", params=place, headers=who))
    assert shown["title"] == "Tea?"
    query = {"polls": [place]}
    [[found]] = await answered(await api.post("/rest/query", json=query, headers=who))
    assert found["id"] == shown["id"]
    await call(api, "DELETE", f"{API}/polls/{poll['id']}", 204, headers=who)


@pytest.mark.parametrize(
    "user", ["=1+1", "042", "+42", "-1", str(2**53), "4\N{FULLWIDTH DIGIT TWO}"]
)
def test_a_spreadsheet_shows_the_id_as_it_is(user: str) -> None:
    assert harmless(user) == f"'{user}"


async def test_users_whose_ids_look_alike_share_no_vote_and_no_poll(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    headers = {user: await make_token(user_id=user) for user in LOOKALIKES}
    run = await content_run(api, raw, resultsVisibility="afterVote")
    named = await content_run(api, raw, saveParticipantNames=True)
    course = await make_poll(api, "yes")
    session = await make_session(api, course["id"])
    url = f"{API}/polls/{course['id']}/poll_sessions/{session['id']}"
    await call(api, "GET", f"{url}/open")
    ballot = {"poll_submissions": [{"poll_choice_id": 1}]}
    for voters, (user, who) in enumerate(headers.items(), 1):
        voter = await make_token(user_id=user, actions=["read", "vote"])
        await refused(await got(api, of_content(run), voter), 403)
        for one in (run, named):
            assert await answered(await api.get("/rest", params=one.votes, headers=voter)) == []
        for one in (run, named):
            await answered(await vote(api, one, "1", who=who))
            await refused(await vote(api, one, "2", who=who), 409)
            await refused(await vote(api, one, "2", acting=user), 409)
            assert tally(raw, one) == {"1": voters}
        # Rights in a course, and polls of their own, are theirs alone.
        await call(api, "POST", f"{url}/poll_submissions", 403, headers=who, json=ballot)
        await call(api, "POST", f"{API}/polls", 403, headers=who, json={"polls": [{}]})
        await enroll(api, user, 1, TEACHER)
        await call(api, "POST", f"{url}/poll_submissions", headers=who, json=ballot)
        await make_poll(api, headers=who, question=f"Of {user}?")
    assert sorted(map(repr, raw.ballots.distinct("user_id", {"session_id": named.session}))) == (
        sorted(map(repr, LOOKALIKES))
    )
    assert raw.enrollments.count_documents({}) == len(LOOKALIKES)
    for user, who in headers.items():
        polls = (await call(api, "GET", f"{API}/polls", headers=who))["polls"]
        assert [(poll["question"], poll["user_id"]) for poll in polls] == [(f"Of {user}?", user)]
        for other in LOOKALIKES:
            place = {"workspace": "users", "content": str(other), "container": str(polls[0]["id"])}
            answer = await api.get("/rest/polls", params=place, headers=who)
            assert answer.status == (200 if other == user else 403)
            path = f"{API}/polls/{polls[0]['id']}"
            answer = await api.get(path, headers=headers[other])
            assert answer.status == (200 if other == user else 403)


async def test_users_whose_ids_look_alike_share_no_idempotency_key(api: Client, raw: Raw) -> None:
    key = {"Idempotency-Key": "one"}
    place = {"workspace": "PLAT", "content": "PLAT-1"}
    first, *others = LOOKALIKES
    params = {**place, "as_user_id": str(first)}
    made = await answered(await api.post("/rest/polls", params=params, json=a_poll(), headers=key))
    again = await answered(await api.post("/rest/polls", params=params, json=a_poll(), headers=key))
    assert again == made
    for other in others:
        params = {**place, "as_user_id": str(other)}
        answer = await api.post("/rest/polls", params=params, json=a_poll(), headers=key)
        assert (await refused(answer, 409))["code"] == "idempotency_key_reused"
    assert len(raw.containers.find_one({})["polls"]) == 1  # type: ignore[index] # it is there
    # Of votes each voter has keys of their own.
    run = await content_run(api, raw, allowRevote=True)
    for voters, user in enumerate(LOOKALIKES, 1):
        for _ in range(2):
            await answered(await vote(api, run, "1", acting=user, key="one"))
        assert tally(raw, run) == {"1": voters}
    assert raw.sessions.find_one({"_id": run.session})["casts"] == len(LOOKALIKES)  # type: ignore[index] # it is there


async def test_a_stream_shows_a_voter_results_and_not_their_lookalikes(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, resultsVisibility="afterVote", allowRevote=True)
    target = of_content(run)
    await answered(await vote(api, run, "1", acting="u42"))
    for user in LOOKALIKES:
        who = await make_token(user_id=user, actions=["read"])
        assert (await got(api, target, who)).status == (200 if user == "u42" else 403)
    who = await make_token(user_id="u42", actions=["read"])
    async with watching(api, target, who) as stream:
        await stream.results()
        await answered(await vote(api, run, "2", acting="u42"))
        assert (await stream.results())["results"]["options"]["2"]["votes"] == 1
        await answered(await vote(api, run, "3", acting=42))
        assert (await stream.results())["results"]["participants"] == 2


async def test_the_log_names_a_user_as_they_are_and_none_for_votes_without_names(
    api: Client, raw: Raw, request_lines: io.BytesIO
) -> None:
    run = await content_run(api, raw)
    for user in (42, "u42"):
        await call(api, "GET", f"{API}/users/self", params={"as_user_id": str(user)})
        await answered(await vote(api, run, "1", acting=user))
    await api.close()  # writes what is waiting
    lines: list[Json] = [json.loads(line) for line in request_lines.getvalue().splitlines()]
    asked = [line["user"] for line in lines if line["route"] == f"{API}/users/{{id}}"]
    assert asked == [42, "u42"]
    votes = [line["user"] for line in lines if line["route"] == "/rest/votes"]
    assert votes == [None, None]


async def test_a_user_who_is_named_like_an_issue_has_polls_like_any_other(
    api: Client, make_token: TokenMaker
) -> None:
    await enroll(api, "AB-1", 1, TEACHER)
    who = await make_token(user_id="AB-1")
    poll = await make_poll(api, "yes", headers=who)
    place = {"workspace": "users", "content": "AB-1", "container": str(poll["id"])}
    [shown] = await answered(await api.get("/rest/polls", params=place, headers=who))
    run = Run(shown["id"], poll["id"], 0, place)
    body = a_poll(title="Anew?")
    changed = await answered(await api.put("/rest/polls", params=run.query, json=body, headers=who))
    assert changed["title"] == "Anew?"
    del place["container"]
    await refused(await api.get("/rest/polls", params=place, headers=who), 400, ["container"])
    # In any other workspace the same key is an issue.
    place = {"workspace": "PLAT", "content": "AB-1", "container": "1"}
    await refused(await api.get("/rest/polls", params=place), 400, ["container"])


async def test_no_string_reaches_the_polls_of_the_service_user(
    api: Client, make_token: TokenMaker
) -> None:
    """User 0 has a workspace, too: its text is nobody's id."""
    poll = await make_poll(api)
    place = {"workspace": "users", "content": "0", "container": str(poll["id"])}
    assert len(await answered(await api.get("/rest/polls", params=place))) == 1
    for user in ("00", "+0", "\N{FULLWIDTH DIGIT ZERO}"):
        who = await make_token(user_id=user)
        await refused(await api.get("/rest/polls", params=place, headers=who), 403)
    wanted = {"name": "nobody", "userId": "0"}
    await refused(await api.post("/tokens", json=wanted), 400, ["userId"])
    assert await api.app[STORE].tokens.all()


@pytest.mark.parametrize("written", ["42", "042", "u42"])
async def test_text_and_json_name_the_same_user_wherever_ids_are_text(
    api: Client, raw: Raw, written: str
) -> None:
    user = 42 if written == "42" else written
    bodies: list[Json] = [
        {"json": {"enrollment": {"user_id": written}}},
        {"json": {"enrollment": {"user_id": user}}},
        {"data": {"enrollment[user_id]": written}},
        {"params": {"enrollment[user_id]": written}},
    ]
    for body in bodies:
        made = await call(api, "POST", f"{API}/courses/1/enrollments", **body)
        assert (made["id"], made["user_id"]) == (1, user)
    assert [one["user_id"] for one in raw.enrollments.find()] == [user]
