"""Submissions under ``/api/v1`` (docs/api.md, sections 4 and 5): casting, and the right to."""

import os
from typing import Any

import pytest
from aiohttp import FormData

from service import casting
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    CLOSED,
    SECOND,
    another_session,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    shown,
    submit,
    submitted,
    tally,
)
from tests.support.seeds import refused

NOON = "2126-01-31T12:00:00Z"
CHOICE = "poll_submissions[0].poll_choice_id"
SECOND_CHOICE = "poll_submissions[1].poll_choice_id"

FORMS: list[dict[str, Any]] = [
    {"json": {"poll_submissions": [{"poll_choice_id": 2}]}},
    {"json": {"poll_submissions": {"poll_choice_id": "2"}}},
    {"json": {"poll_submission": {"poll_choice_id": 2, "user_id": 99, "id": 1}}},
    {"data": {"poll_submissions[][poll_choice_id]": "2"}},
    {"data": {"poll_submission[][poll_choice_id]": "2"}},
    {"data": {"poll_submissions[0][poll_choice_id]": "2"}},
    {"data": {"poll_submissions[poll_choice_id][]": "2"}},
    {"data": {"poll_submissions[poll_choice_id]": "2", "other": "x"}},
    {"json": {"poll_submissions": [{"poll_choice_ids": [2]}]}},
    {"json": {"poll_submission": {"poll_choice_ids": ["2"], "poll_choice_id": 2}}},
    {"json": {"poll_submission": {"poll_choice_ids": None, "poll_choice_id": 2}}},
    {"data": {"poll_submissions[][poll_choice_ids][]": "2"}},
    {"data": {"poll_submission[poll_choice_ids][]": "2"}},
    {"params": {"poll_submission[poll_choice_id]": "2"}},
    {"params": {"poll_submissions[0][poll_choice_ids][]": "2"}},
]


async def test_every_form_of_a_body_casts(api: Client, raw: Raw, make_token: TokenMaker) -> None:
    run = await course_run(api, raw)
    multipart = FormData(default_to_multipart=True)
    multipart.add_field("poll_submissions[][poll_choice_id]", "2")
    for place, body in enumerate([*FORMS, {"data": multipart}]):
        await enroll(api, 7 + place)
        who = await make_token(user_id=7 + place, workspaces=[])
        given = await answered(await api.post(run.submissions, headers=who, **body))
        [submission] = given["poll_submissions"]
        assert submission == {
            "id": submission["id"],
            "poll_session_id": run.session,
            "poll_choice_id": 2,
            "user_id": 7 + place,
            "created_at": NOON,
        }
        assert 1 <= submission["id"] < 10**15
        assert tally(raw, run) == {"2": place + 1}
    assert len(raw.ballots.distinct("number")) == len(FORMS) + 1


async def test_with_string_ids_every_id_is_a_string(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    who = {"Accept": "application/json+canvas-string-ids"}
    submission = await submitted(api, run, "2", who=who)
    assert submission["poll_choice_id"] == "2"
    assert submission["poll_session_id"] == str(run.session)
    assert submission["user_id"] == "0"
    assert submission["id"].isdigit()


async def test_a_second_submission_is_refused_and_the_first_stays(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    await enroll(api, 7)
    who = await make_token(user_id=7)
    await submitted(api, run, 1, who=who)
    for choice in (1, 2):
        problem = await refused(await submit(api, run, choice, who=who), 400)
        assert problem["errors"] == [{"field": None, "message": SECOND}]
    assert tally(raw, run) == {"1": 1}
    again = await another_session(api, run)
    await submitted(api, again, 3, who=who)
    assert (tally(raw, run), tally(raw, again)) == ({"1": 1}, {"3": 1})


async def test_a_revote_keeps_id_and_date_of_birth(api: Client, raw: Raw, clock: Clock) -> None:
    run = await course_run(api, raw, allowRevote=True)
    first = await submitted(api, run, 1)
    clock.advance(minutes=1)
    assert await submitted(api, run, 3) == {**first, "poll_choice_id": 3}
    assert tally(raw, run) == {"3": 1}
    [ballot] = raw.ballots.find()
    assert (ballot["created_at"], ballot["updated_at"]) == (clock.now.replace(minute=0), clock.now)


async def test_a_session_that_is_not_open_takes_nothing(
    api: Client, raw: Raw, clock: Clock
) -> None:
    end: dict[str, Any] = {"closePollOnEndDate": True, "endDate": "2126-01-31T13:00:00Z"}
    run = await course_run(api, raw, opened=False, allowRevote=True, **end)

    async def is_refused() -> None:
        for acting in (None, 7):
            problem = await refused(await submit(api, run, 1, acting=acting), 403)
            assert problem["detail"] == CLOSED
        assert tally(raw, run) == {}

    await is_refused()
    await answered(await api.get(f"{run.url}/open"))
    await answered(await api.get(f"{run.url}/close"))
    await is_refused()
    await answered(await api.get(f"{run.url}/open"))
    clock.advance(hours=1)
    await is_refused()
    assert (await shown(api, run))["is_published"] is False
    clock.advance(seconds=-1)
    await is_refused()


async def test_a_choice_that_the_poll_does_not_have_is_not_found(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    for choice in (4, "4", "x", "01", 2**53 - 1, "$a.b", ""):
        await refused(await submit(api, run, choice), 404, [CHOICE])
    assert tally(raw, run) == {}


async def test_an_invalid_choice_is_refused_by_name(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    bodies: list[tuple[Any, str]] = [
        ({}, "poll_submissions"),
        ({"poll_submissions": []}, "poll_submissions"),
        ({"poll_submissions": [{}]}, CHOICE),
        ({"poll_submissions": [{"poll_choice_id": None}]}, CHOICE),
        ({"poll_submissions": [{"poll_choice_id": [1]}]}, CHOICE),
        ({"poll_submissions": [{"poll_choice_id": True}]}, CHOICE),
        ({"poll_submissions": [{"poll_choice_id": 1.5}]}, CHOICE),
        ({"poll_submissions": [{"poll_choice_id": 1}, {"poll_choice_id": 2}]}, SECOND_CHOICE),
        ({"poll_submissions": [{"poll_choice_id": 1}, {"poll_choice_id": "1"}]}, SECOND_CHOICE),
        (
            {"poll_submissions": [{"poll_choice_id": 1, "comment": "x"}]},
            "poll_submissions[0].comment",
        ),
    ]
    for body, field in bodies:
        await refused(await api.post(run.submissions, json=body), 400, [field])
    await refused(await api.post(run.submissions), 400, ["poll_submissions"])
    assert tally(raw, run) == {}


async def test_a_multiple_choice_poll_takes_all_objects(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw, allowSelectionOfMultipleOptions=True, allowRevote=True)
    first = await submitted(api, run, 3, "1")
    assert (first["poll_choice_id"], first["poll_choice_ids"]) == (3, [3, 1])
    assert tally(raw, run) == {"1": 1, "3": 1}
    for choices in ((1, 1), (1, "1"), tuple(range(1, 101))):
        response = await submit(api, run, *choices)
        is_unknown = len(choices) > 3
        assert response.status == (404 if is_unknown else 400)
        field = f"poll_submissions[{3 if is_unknown else 1}].poll_choice_id"
        await refused(response, response.status, [field])
    await refused(await submit(api, run, *range(1, 102)), 400, ["poll_submissions"])
    data = [
        ("poll_submissions[][poll_choice_id]", "1"),
        ("poll_submissions[][poll_choice_id]", "2"),
    ]
    given = await answered(await api.post(run.submissions, data=data))
    assert given["poll_submissions"][0] == {**first, "poll_choice_id": 1, "poll_choice_ids": [1, 2]}
    assert tally(raw, run) == {"1": 1, "2": 1}
    one = await submitted(api, run, 2)
    assert one["poll_choice_ids"] == [2]


async def test_choices_are_taken_as_they_are_shown(api: Client, raw: Raw) -> None:
    run = await course_run(
        api, raw, allowSelectionOfMultipleOptions=True, allowRevote=True, allowComment=True
    )

    async def cast(*objects: Any) -> Any:
        return await answered(await api.post(run.submissions, json={"poll_submissions": objects}))

    first = await cast({"poll_choice_ids": [3, "1"], "comment": "so"})
    [shown] = first["poll_submissions"]
    assert (shown["poll_choice_id"], shown["poll_choice_ids"]) == (3, [3, 1])
    assert await cast(shown) == first
    assert await cast({"poll_choice_ids": [3]}, {"poll_choice_id": 1, "comment": "so"}) == first
    form = [
        ("poll_submission[poll_choice_ids][]", "2"),
        ("poll_submission[poll_choice_ids][]", "3"),
    ]
    [shown] = (await answered(await api.post(run.submissions, data=form)))["poll_submissions"]
    assert shown["poll_choice_ids"] == [2, 3]
    assert tally(raw, run) == {"2": 1, "3": 1}


async def test_choices_that_contradict_each_other_are_refused(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw, allowSelectionOfMultipleOptions=True, allowComment=True)
    ids = "poll_submissions[0].poll_choice_ids"
    one, other = [{"poll_choice_id": number, "comment": f"{number}"} for number in (1, 2)]
    for objects, field in (
        ([{"poll_choice_ids": [2, 3], "poll_choice_id": 1}], CHOICE),
        ([{"poll_choice_ids": []}], ids),
        ([{"poll_choice_ids": 1}], ids),
        ([{"poll_choice_ids": [1.5]}], f"{ids}[0]"),
        ([{"poll_choice_ids": [1] * 101}], ids),
        ([{"poll_choice_ids": [1, 2, 1]}], f"{ids}[2]"),
        (
            [{"poll_choice_id": 3}, {"poll_choice_ids": [1, 3]}],
            "poll_submissions[1].poll_choice_ids[1]",
        ),
        ([{"poll_choice_id": 1}, {}], "poll_submissions[1].poll_choice_id"),
        ([one, other], "poll_submissions[1].comment"),
    ):
        body: dict[str, Any] = {"poll_submissions": objects}
        await refused(await api.post(run.submissions, json=body), 400, [field])
    assert tally(raw, run) == {}
    await change(api, run, saveParticipantNames=True)
    body = {"poll_submissions": [{"poll_choice_ids": [1, 2]}]}
    await refused(await api.post(run.submissions, json=body), 400, [f"{ids}[1]"])
    body = {"poll_submissions": [{"poll_choice_id": 1}, {"poll_choice_ids": [1], "comment": "so"}]}
    await change(api, run, allowSelectionOfMultipleOptions=True)
    body["poll_submissions"][1]["poll_choice_ids"] = [2]
    response = await api.post(run.submissions, json=body)
    await refused(response, 400, ["poll_submissions[1].comment"])
    assert tally(raw, run) == {}


async def test_a_comment_is_kept_where_it_is_allowed(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw, allowComment=True, allowRevote=True)
    for comment in ("é" * 1000, "", None):
        assert (await submitted(api, run, 1, comment=comment))["comment"] == comment
        [ballot] = raw.ballots.find()
        assert ballot["comment"] == comment
    response = await submit(api, run, 1, comment="é" * 1001)
    await refused(response, 400, ["poll_submissions[0].comment"])
    assert tally(raw, run) == {"1": 1}
    await change(api, run, allowRevote=True, saveParticipantNames=True)
    assert "comment" not in await submitted(api, run, 1)


@pytest.mark.parametrize("section", [None, 3], ids=["no section", "a section"])
async def test_readers_of_an_open_session_may_vote(
    api: Client, raw: Raw, make_token: TokenMaker, section: int | None
) -> None:
    run = await course_run(api, raw, section=section)
    await enroll(api, 10)
    await enroll(api, 11, section=3)
    await enroll(api, 12, section=4)
    await enroll(api, 13, kind="TeacherEnrollment")
    await enroll(api, 14, kind="TaEnrollment", section=4)
    everybody = {10, 11, 12, 13, 14}
    may = everybody if section is None else {11, 13}
    for user in (*sorted(everybody), 15):
        who = await make_token(user_id=user)
        response = await submit(api, run, 1, who=who)
        if user in may:
            assert (await answered(response))["poll_submissions"][0]["user_id"] == user
        else:
            await refused(response, 403)
    assert tally(raw, run) == {"1": len(may)}
    await submitted(api, run, 2)
    assert tally(raw, run) == {"1": len(may), "2": 1}


@pytest.mark.parametrize("section", [None, 3], ids=["no section", "a section"])
async def test_a_vote_for_a_user_needs_what_the_users_own_would(
    api: Client, raw: Raw, section: int | None
) -> None:
    run = await course_run(api, raw, section=section)
    await enroll(api, 10)
    await enroll(api, 11, section=3)
    may = {10, 11} if section is None else {11}
    for user in (10, 11, 12):
        response = await submit(api, run, 1, acting=user, enrolls=False)
        if user in may:
            assert (await answered(response))["poll_submissions"][0]["user_id"] == user
        else:
            problem = await refused(response, 403)
            assert problem["detail"] == "You do not have access to this poll session."
    assert tally(raw, run) == {"1": len(may)}
    standing = await content_run(api, raw, saveParticipantNames=True)
    await submitted(api, standing, 1, acting=12)


async def test_submissions_need_the_action_vote(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    await enroll(api, 7)
    for actions in (["read"], ["read", "write"]):
        response = await submit(api, run, 1, who=await make_token(user_id=7, actions=actions))
        await refused(response, 403)
    assert tally(raw, run) == {}
    await submitted(api, run, 1, who=await make_token(user_id=7, actions=["vote"]))
    assert tally(raw, run) == {"1": 1}


async def test_voting_in_a_standing_session_needs_vote_on_the_workspace(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    who = await make_token(user_id=7, workspaces=["PLAT"], actions=["vote"])
    assert (await submitted(api, run, 1, who=who))["user_id"] == 7
    tokens: list[dict[str, Any]] = [{"workspaces": ["OTHER"]}, {"actions": ["read", "write"]}]
    for token in [*tokens, {"workspaces": []}]:
        await refused(await submit(api, run, 1, who=await make_token(user_id=8, **token)), 403)
    assert tally(raw, run) == {"1": 1}
    # One vote for each user, in both APIs together.
    body = {"optionIds": ["1"]}
    await refused(await api.post("/rest", params=run.votes, json=body, headers=who), 409)


async def test_submissions_to_what_is_not_there_are_not_found(api: Client, raw: Raw) -> None:
    run, other = await course_run(api, raw), await course_run(api, raw)
    for url in (
        f"{run.poll_url}/poll_sessions/{other.session}/poll_submissions",
        f"{run.poll_url}/poll_sessions/999/poll_submissions",
        f"{run.poll_url}/poll_sessions/x/poll_submissions",
        f"/api/v1/polls/999/poll_sessions/{run.session}/poll_submissions",
    ):
        await refused(await api.post(url, json={"poll_submissions": [{"poll_choice_id": 1}]}), 404)
    assert list(raw.ballots.find()) == []
    by_uuid = f"/api/v1/polls/{run.poll_id.upper()}/poll_sessions/{run.session}/poll_submissions"
    await answered(await api.post(by_uuid, json={"poll_submissions": [{"poll_choice_id": 1}]}))
    assert tally(raw, run) == {"1": 1}


async def test_ids_of_submissions_have_at_most_15_digits_and_are_not_0(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spreadsheets keep no more digits."""
    run = await course_run(api, raw)
    drawn = [2**50 - 1, 10**15, 0, 10**15 - 1, 10**15 + 1, 1]
    block = b"".join((number << 6).to_bytes(7) for number in drawn)
    random = os.urandom
    monkeypatch.setattr(os, "urandom", lambda size: block if size > 1_000 else random(size))
    monkeypatch.setattr(casting, "_numbers", casting._make_numbers())
    for user, expected in ((7, 10**15 - 1), (8, 1)):
        await enroll(api, user)
        who = await make_token(user_id=user, workspaces=[])
        assert (await submitted(api, run, 1, who=who))["id"] == expected
