"""``POST /rest/copies``: the same poll without its votes, in the same or another place."""

from typing import Any

import pytest

from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import answered, content_run, course_run, vote
from tests.support.seeds import ISSUE, PAGE, Json, refused

TARGET = {name: value for name, value in PAGE.items() if name != "type"}


async def copy(api: Client, query: dict[str, str], body: Json | None = None, **options: Any) -> Any:
    query = {name: value for name, value in query.items() if name != "type"}
    return await api.post("/rest/copies", params=query, json=body or {}, **options)


async def test_a_copy_is_the_same_poll_with_another_id_and_without_votes(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowComment=True, resultsVisibility="private")
    await answered(await vote(api, run, "2"))
    [original] = await answered(await api.get("/rest", params=run.query))
    made = await answered(await copy(api, run.query))
    assert made.pop("id") != original.pop("id")
    assert made == original
    source, copied = (poll for one in raw.containers.find() for poll in one["polls"])
    assert copied["number"] != source["number"]
    session = raw.sessions.find_one({"_id": copied["standing_session"]})
    assert session is not None
    assert (session["participants"], session["is_published"]) == (0, True)
    assert raw.ballots.count_documents({}) == 1


async def test_a_copy_goes_where_the_body_says(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    made = await answered(await copy(api, run.query, TARGET))
    listed = await answered(await api.get("/rest", params=PAGE))
    assert [poll["id"] for poll in listed] == [made["id"]]
    assert len(await answered(await api.get("/rest", params=ISSUE))) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"workspace": "DOCS"}, "content"),
        ({"workspace": "DOCS", "content": "98765"}, "container"),
        ({"workspace": "DOCS", "content": "A-1", "container": "x"}, "container"),
        ({"pollId": "x"}, "pollId"),
    ],
)
async def test_a_place_that_is_not_whole_is_refused(
    api: Client, raw: Raw, body: Json, field: str
) -> None:
    run = await content_run(api, raw)
    await refused(await copy(api, run.query, body), 400, [field])
    assert raw.addresses.count_documents({}) == 1


async def test_a_copy_needs_read_on_the_source_and_write_on_the_target(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    for grants in (
        {"workspaces": ["PLAT"]},
        {"workspaces": ["DOCS"]},
        {"actions": ["read", "vote"]},
        {"actions": ["write"]},
        {"polls": [run.poll_id]},
    ):
        who = await make_token(**grants)
        await refused(await copy(api, run.query, TARGET, headers=who), 403)
    assert raw.addresses.count_documents({}) == 1
    who = await make_token(workspaces=["DOCS", "PLAT"], actions=["read", "write"])
    await answered(await copy(api, run.query, TARGET, headers=who))


async def test_a_poll_of_a_user_is_copied_to_content_and_no_poll_to_users(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw)
    made = await answered(await copy(api, run.query, TARGET))
    assert [option["title"] for option in made["options"]] == ["red", "green", "blue"]
    await refused(await copy(api, run.query), 403)
    users = {"workspace": "users", "content": "7", "container": "1"}
    await refused(await copy(api, {**PAGE, "pollId": made["id"]}, users), 403)


async def test_which_choices_are_correct_is_copied_for_managers_alone(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    right = {"poll_choices": [{"is_correct": True}]}
    await answered(await api.put(f"{run.poll_url}/poll_choices/2", json=right))
    both = ["DOCS", "PLAT"]
    manager = await make_token(workspaces=both)
    # A user who is acted for manages the polls that they made, and no others.
    service = await make_token(workspaces=both, actions=["act", "read", "write"])
    expected = []
    for query, who in ((run.query, manager), ({**run.query, "as_user_id": "42"}, service)):
        made = await answered(await copy(api, query, TARGET, headers=who))
        expected.append((made["id"], who is manager))
    polls = {poll["id"]: poll for one in raw.containers.find() for poll in one["polls"]}
    for poll_id, knows in expected:
        correct = [option["id"] for option in polls[poll_id]["options"] if option["is_correct"]]
        assert correct == (["2"] if knows else [])


async def test_a_repeated_copy_is_made_once(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    key = {"Idempotency-Key": "once"}
    first = await answered(await copy(api, run.query, headers=key))
    assert await answered(await copy(api, run.query, headers=key)) == first
    await refused(await copy(api, run.query, TARGET, headers=key), 409)
    assert raw.addresses.count_documents({}) == 2


async def test_an_unknown_poll_has_no_copy(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    await refused(await copy(api, {**run.query, "pollId": run.poll_id[::-1]}), 404)
    await refused(await copy(api, {**PAGE, "pollId": run.poll_id}), 404)
