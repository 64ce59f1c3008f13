"""``GET /users/:id/data``: all that is held of a user, for that user and admins alone."""

import json

import pytest

from storage import user_data
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    Headers,
    answered,
    content_run,
    course_run,
    enroll,
    submit,
    vote,
)
from tests.support.seeds import PAGE, Json, a_poll, refused

ANN = "ann:557058"
DAY, NOON = "2126-01-31T00:00:00Z", "2126-01-31T12:00:00Z"


async def data_of(api: Client, user: str, who: Headers | None = None, **params: str) -> list[Json]:
    async with api.get(f"/users/{user}/data", headers=who, params=params) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "application/x-ndjson"
        return [json.loads(line) for line in (await answer.text()).splitlines()]


def of_kind(lines: list[Json], kind: str) -> list[Json]:
    return [
        {name: value for name, value in line.items() if name != "kind"}
        for line in lines
        if line["kind"] == kind
    ]


async def test_it_has_the_enrollments_tokens_polls_and_votes_of_the_user_and_of_no_other(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    ann = await make_token(user_id=ANN, name="ann's", workspaces=["DOCS"])
    await make_token(user_id=8, name="another's")
    await enroll(api, ANN, section=3)
    await enroll(api, 8)
    named = await content_run(api, raw, saveParticipantNames=True, allowComment=True)
    unnamed = await content_run(api, raw)
    course = await course_run(api, raw)
    made = await answered(await api.post("/rest", params=PAGE, json=a_poll(), headers=ann))
    await answered(await vote(api, named, "2", acting=ANN, comment="hot"))
    for acting in (ANN, 8):
        await answered(await vote(api, unnamed, "1", acting=acting))
        await answered(await submit(api, course, 3, acting=acting))
    lines = await data_of(api, ANN, ann)
    assert [line["kind"] for line in lines] == [
        *("user", "enrollment", "enrollment", "token", "poll", "vote", "vote", "vote")
    ]
    assert of_kind(lines, "user") == [{"userId": ANN}]
    assert of_kind(lines, "enrollment")[0] == {
        "courseId": COURSE,
        "courseSectionId": 3,
        "type": "StudentEnrollment",
        "createdAt": NOON,
    }
    [token] = of_kind(lines, "token")
    assert (token["name"], token["revokedAt"]) == ("ann's", None)
    assert not {"_id", "secret"} & token.keys()
    [poll] = of_kind(lines, "poll")
    place = {name: PAGE[name] for name in ("workspace", "content", "container")}
    assert poll == {**made, **place, "createdAt": NOON, "deletedAt": None}
    votes = [
        (one["sessionId"], one["pollId"], one["courseId"], one["optionIds"], one["comment"])
        for one in of_kind(lines, "vote")
    ]
    assert votes == [
        (named.session, named.poll_id, None, ["2"], "hot"),
        (unnamed.session, unnamed.poll_id, None, ["1"], None),
        (course.session, course.poll_id, COURSE, ["3"], None),
    ]
    assert [one["createdAt"] for one in of_kind(lines, "vote")] == [NOON, DAY, NOON]


async def test_a_number_and_a_string_are_two_users(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", who=await make_token(user_id=42)))
    assert len(of_kind(await data_of(api, "42"), "vote")) == 1
    assert [line["kind"] for line in await data_of(api, "042")] == ["user"]


async def test_tokens_that_have_ended_are_listed_while_they_are_stored(
    api: Client, make_token: TokenMaker
) -> None:
    for number in range(120):
        await make_token(user_id=9, name=f"n{number}")
    await answered(await api.delete("/tokens/n7"))
    tokens = {one["name"]: one["revokedAt"] for one in of_kind(await data_of(api, "9"), "token")}
    assert len(tokens) == 120
    assert {name: at for name, at in tokens.items() if at} == {"n7": NOON}


async def test_every_page_of_sessions_and_polls_is_looked_through(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_data, "SESSIONS_AT_A_TIME", 2)
    monkeypatch.setattr("service.people.AT_A_TIME", 2)
    who = await make_token(user_id=42, workspaces=["PLAT"])
    runs = [await content_run(api, raw, who=who) for _ in range(5)]
    for run in runs[::2]:
        await answered(await vote(api, run, "1", who=who))
    lines = await data_of(api, "42", who)
    assert [one["id"] for one in of_kind(lines, "poll")] == [run.poll_id for run in runs]
    assert [one["sessionId"] for one in of_kind(lines, "vote")] == [
        run.session for run in runs[::2]
    ]


async def test_a_vote_without_a_name_is_shown_to_its_voter_and_to_admins_only_that_it_exists(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowComment=True)
    who = await make_token(user_id=42)
    await answered(await vote(api, run, "2", who=who, comment="secret"))
    admin = await make_token(user_id=1, admin=True, actions=[], workspaces=[])
    for lines in (
        await data_of(api, "42"),
        await data_of(api, "42", admin),
        await data_of(api, "self", as_user_id="42"),
    ):
        [shown] = of_kind(lines, "vote")
        assert shown["userId"] == 42
        hidden = {shown[name] for name in ("optionIds", "comment", "createdAt", "updatedAt")}
        assert hidden == {None}
    [own] = of_kind(await data_of(api, "self", who), "vote")
    assert (own["optionIds"], own["comment"], own["createdAt"]) == (["2"], "secret", DAY)


async def test_the_user_of_tokens_that_belong_to_nobody_has_no_data(api: Client) -> None:
    for user in ("0", "self", "%01"):
        await refused(await api.get(f"/users/{user}/data"), 404)


async def test_the_audit_tells_that_data_were_exported_by_whom_and_not_whose(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    who = await make_token(user_id=1, name="the admin's", admin=True, actions=[], workspaces=[])
    await data_of(api, "42", who)
    await refused(await api.get("/users/43/data", headers=await make_token(user_id=42)), 403)
    [entry] = raw.audit.find({"action": "user.exported"})
    assert entry.keys() == {"_id", "at", "action", "user_id", "token_name"}
    assert (entry["user_id"], entry["token_name"]) == (1, "the admin's")


async def test_deleted_polls_and_votes_in_them_are_listed_while_they_can_be_restored(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    who = await make_token(user_id=42, workspaces=["PLAT"])
    run = await content_run(api, raw, who=who)
    await answered(await vote(api, run, "1", who=who))
    await answered(await api.delete("/rest", params=run.query, headers=who))
    lines = await data_of(api, "42", who)
    assert [(one["id"], one["deletedAt"]) for one in of_kind(lines, "poll")] == [
        (run.poll_id, NOON)
    ]
    assert [one["pollId"] for one in of_kind(lines, "vote")] == [run.poll_id]
    await answered(await api.post("/rest/restore", params={"pollId": run.poll_id}))
    lines = await data_of(api, "42", who)
    assert [one["deletedAt"] for one in of_kind(lines, "poll")] == [None]
    assert len(of_kind(lines, "vote")) == 1
