"""``POST /rest/import``: what each line makes, and that it makes it once."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import answered
from tests.support.moving import (
    CREATED_AT,
    POLL_ID,
    a_ballot,
    a_line,
    answers_to,
    body_of,
    exported,
    forget,
    imported,
    outcome,
    require_counted,
    send,
    shown,
    vote,
)
from tests.support.seeds import ISSUE, UNKNOWN, Json, a_poll, refused, stored_polls

NAMED = {"settings": {"saveParticipantNames": True, "allowComment": True}}
MOMENT = datetime(2014, 1, 7, 15, 16, 18, tzinfo=UTC)
DAY = datetime(2014, 1, 7, tzinfo=UTC)
USERS = {"workspace": "users", "content": "7", "container": "101"}


def users_line(*sessions: Json, **members: Any) -> Json:
    """A poll of user 7 under ``/api/v1``, with these sessions."""
    return a_line(**{**USERS, "sessions": [*sessions], **members})


async def test_a_line_keeps_ids_times_owner_and_votes(api: Client, raw: Raw) -> None:
    line = a_line(1, a_ballot(42, "1", comment="Earl Grey", id=77), a_ballot("u43", "2"), **NAMED)
    [answer] = await answers_to(api, body_of([line]))
    ids = {"id": POLL_ID, "number": 101, "result": "created"}
    assert answer == {"line": 1, "status": 200, **ids}
    [poll] = stored_polls(raw)
    assert (poll["number"], poll["owner_id"], poll["created_at"]) == (101, 7, MOMENT)
    assert [one["is_correct"] for one in poll["options"]] == [False, True]
    [session] = raw.sessions.find()
    assert (session["_id"], session["is_published"], session["participants"]) == (201, True, 2)
    ballots = {one["user_id"]: one for one in raw.ballots.find()}
    assert ballots.keys() == {42, "u43"}
    first = ballots[42]
    assert (first["number"], first["comment"], first["created_at"]) == (77, "Earl Grey", MOMENT)
    assert require_counted(raw) == 2
    results = (await shown(api, line, expand="results"))["results"]
    assert {one: part["votes"] for one, part in results["options"].items()} == {"1": 1, "2": 1}
    assert [await vote(api, user, line) for user in (42, "u43", 44)] == [409, 409, 200]


async def test_where_names_are_not_saved_the_user_of_a_line_is_not_stored(
    api: Client, raw: Raw
) -> None:
    line = a_line(1, a_ballot("unmistakable-user", "1"))
    assert await imported(api, line) == ["created"]
    [ballot] = raw.ballots.find()
    assert (ballot["user_id"], ballot["created_at"], ballot["updated_at"]) == (None, DAY, DAY)
    for name in raw.list_collection_names():
        assert "unmistakable-user" not in str([*raw[name].find()])
    assert await vote(api, "unmistakable-user", line) == 409


async def test_a_poll_of_a_user_comes_with_its_sessions(api: Client, raw: Raw) -> None:
    first = {"id": 1023, "courseId": 5, "courseSectionId": 6, "isPublished": True}
    second = {"id": 1024, "courseId": 5, "ballots": [a_ballot(42, "2")]}
    assert await imported(api, users_line(first, second, **NAMED)) == ["created"]
    made = await answered(await api.get("/api/v1/polls/101/poll_sessions"))
    stated = [
        (one["id"], one["course_section_id"], one["is_published"], one["results"])
        for one in made["poll_sessions"]
    ]
    assert stated == [(1023, 6, True, {"1": 0, "2": 0}), (1024, None, False, {"1": 0, "2": 1})]
    [address] = raw.addresses.find()
    assert (address["container"], address["is_open"]) == ("users\x1f7\x1f101", None)
    polls = await answered(await api.get("/api/v1/polls", params={"as_user_id": "7"}))
    assert polls == {"polls": []} or polls["polls"][0]["id"] == 101
    require_counted(raw)


async def test_importing_again_changes_nothing(api: Client, raw: Raw) -> None:
    lines = [
        a_line(1, a_ballot(42, "1")),
        users_line({"id": 300, "courseId": 5, "ballots": [a_ballot(1, "2")]}, id=None, number=109),
        a_line(3, sessions=[]),
    ]
    lines[1]["container"] = "109"
    assert await imported(api, *lines) == ["created"] * 3
    names = ("containers", "addresses", "sessions", "ballots", "sequences")
    before = {name: [*raw[name].find()] for name in names}
    assert await imported(api, *lines) == ["unchanged"] * 3
    assert {name: [*raw[name].find()] for name in names} == before


async def test_votes_that_were_cast_since_do_not_make_a_line_differ(api: Client, raw: Raw) -> None:
    line = a_line(1, a_ballot(42, "1"))
    await imported(api, line)
    assert await vote(api, 43, line, "2") == 200
    assert await imported(api, line) == ["unchanged"]
    assert require_counted(raw) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": "Other?"}, "title"),
        ({"number": 102}, "number"),
        ({"content": "PLAT-2"}, "content"),
        ({"createdBy": "7x"}, "createdBy"),
        ({"createdAt": "2015-01-07T15:16:18Z"}, "createdAt"),
        ({"settings": {"allowRevote": True}}, "settings"),
        ({"options": [{"id": "1", "title": "yes"}]}, "options"),
        ({"highestOption": 3}, "highestOption"),
        ({"sessions": [{"id": 999}]}, "sessions[0].id"),
        ({"sessions": [{"id": 201, "isPublished": False}]}, "sessions[0].isPublished"),
        (
            {"sessions": [{"id": 201, "ballots": [a_ballot(42, "2")]}]},
            "sessions[0].ballots[0]",
        ),
        (
            {"sessions": [{"id": 201, "ballots": [a_ballot(42, "1"), a_ballot(43, "2")]}]},
            "sessions[0].ballots[1]",
        ),
    ],
)
async def test_a_poll_that_is_there_and_differs_is_a_409_and_stays(
    api: Client, raw: Raw, change: Json, field: str
) -> None:
    await imported(api, a_line(1, a_ballot(42, "1")))
    before = [*raw.containers.find(), *raw.sessions.find(), *raw.ballots.find()]
    ballots = change.get("sessions", [{}])[0].get("ballots", [])
    if "options" in change:
        change = {**change, "sessions": [{"id": 201}]}
    line = a_line(1, *(ballots or [a_ballot(42, "1")]), **change)
    assert await imported(api, line) == [f"409 id_taken {field}"]
    assert [*raw.containers.find(), *raw.sessions.find(), *raw.ballots.find()] == before


async def test_numbers_of_others_are_refused_and_what_is_made_later_gets_higher_ones(
    api: Client, raw: Raw
) -> None:
    assert await imported(
        api,
        a_line(1),
        a_line(2, number=101),
        a_line(3, sessions=[{"id": 201}]),
    ) == ["created", "409 id_taken number", "409 id_taken sessions[0].id"]
    made = await answered(await api.post("/rest", params=ISSUE, json=a_poll()))
    poll = next(one for one in stored_polls(raw) if one["id"] == made["id"])
    assert (poll["number"] > 103, poll["standing_session"] > 201) == (True, True)
    # What is lower stays free.
    assert await imported(api, a_line(4, number=2, sessions=[{"id": 3}])) == ["created"]


async def test_a_number_that_was_taken_and_is_not_stored_yet_is_given_to_one_poll_alone(
    api: Client, raw: Raw
) -> None:
    """A poll that is made takes its numbers before it is stored; an import may be faster."""
    # The numbers after the last ones are those that the next poll would get.
    raw.sequences.insert_many([{"_id": "polls", "last": 50}, {"_id": "sessions", "last": 60}])
    assert await imported(api, a_line(1, number=51, sessions=[{"id": 61}])) == ["created"]
    # As a process would that took them before the import.
    raw.sequences.update_one({"_id": "polls"}, {"$set": {"last": 50}})
    raw.sequences.update_one({"_id": "sessions"}, {"$set": {"last": 60}})
    await answered(await api.post("/rest", params=ISSUE, json=a_poll()))
    own = {"polls": [{"question": "Tea?"}]}
    raw.sequences.update_one({"_id": "polls"}, {"$set": {"last": 50}})
    await answered(await api.post("/api/v1/polls", json=own))
    numbers = [poll["number"] for poll in stored_polls(raw)]
    assert numbers == sorted({*numbers})
    assert len(numbers) == 3


async def test_further_ballots_complete_a_session_that_announced_them(
    api: Client, raw: Raw
) -> None:
    line = a_line(1, sessions=[{"id": 201, "participants": 3, "ballots": [a_ballot(1, "1")]}])
    more = {"pollId": POLL_ID, "ballots": [a_ballot(2, "2"), a_ballot("x", "1")]}
    assert await imported(api, line, more) == ["created", "created"]
    assert require_counted(raw) == 3
    assert "awaited" not in (raw.sessions.find_one() or {})
    assert await imported(api, line, more) == ["unchanged", "unchanged"]
    others = {"pollId": POLL_ID, "ballots": [a_ballot(9, "1")]}
    assert await imported(api, others) == ["409 conflict ballots"]
    assert require_counted(raw) == 3


@pytest.mark.parametrize(
    ("ballots", "expected"),
    [
        ([a_ballot(2, "1"), a_ballot(2, "1")], "409 conflict ballots[1]"),
        ([a_ballot(2, "1", id=5), a_ballot(3, "1", id=5)], "409 id_taken ballots[1].id"),
        ([a_ballot(2, "1", id=77)], "409 id_taken ballots[0].id"),
        ([a_ballot(1, "1"), a_ballot(2, "1")], "409 id_taken ballots[1]"),
        ([a_ballot(1, "2")], "409 id_taken ballots[0]"),
        ([a_ballot(2, "9")], "400 unknown_option ballots[0].optionIds"),
    ],
)
async def test_further_ballots_that_contradict_what_is_there_are_refused_together(
    api: Client, raw: Raw, ballots: list[Json], expected: str
) -> None:
    first = a_ballot(1, "1", id=77)
    line = a_line(1, sessions=[{"id": 201, "participants": 9, "ballots": [first]}])
    answers = await imported(api, line, {"pollId": POLL_ID, "sessionId": 201, "ballots": ballots})
    assert answers == ["created", expected]
    assert require_counted(raw) == 1


async def test_further_ballots_are_stored_without_the_one_that_was_cast_here_meanwhile(
    api: Client, raw: Raw
) -> None:
    line = a_line(1, sessions=[{"id": 201, "participants": 3}])
    more = {"pollId": POLL_ID, "ballots": [a_ballot(user, "2") for user in (1, 2, 3)]}
    assert await imported(api, line) == ["created"]
    assert await vote(api, 1, line, "1") == 200
    assert await imported(api, more) == ["409 id_taken ballots[0]"]
    without = {**more, "ballots": [a_ballot(user, "2") for user in (2, 3)]}
    assert await imported(api, without, without) == ["created", "unchanged"]
    assert require_counted(raw) == 3
    assert [one["results"] for one in raw.sessions.find()] == [{"1": 1, "2": 2}]


async def test_further_sessions_join_their_poll(api: Client, raw: Raw) -> None:
    more: Json = {
        "pollId": POLL_ID,
        "sessions": [{"id": 300, "courseId": 5, "ballots": [a_ballot(1, "1")]}],
    }
    assert await imported(api, a_line(1), more, more) == ["created", "created", "unchanged"]
    assert require_counted(raw) == 1
    more["sessions"][0]["courseId"] = 6
    assert await imported(api, more) == ["409 id_taken sessions[0].courseId"]
    unknown = {**more, "pollId": UNKNOWN}
    assert await imported(api, unknown) == ["404 not_found None"]


async def test_a_session_of_a_poll_that_was_deleted_lends_its_number_only_when_it_is_purged(
    api: Client, raw: Raw
) -> None:
    """Its ballots are removed by that number, and would be counted by it."""
    raw.purges.insert_one({"_id": 201, "leased_until": datetime(2200, 1, 1, tzinfo=UTC)})
    raw.purges.find_one({"_id": 201})
    assert await imported(api, a_line(1, a_ballot(1, "1"))) == ["409 id_taken sessions[0].id"]
    raw.purges.delete_many({})
    assert await imported(api, a_line(1, a_ballot(1, "1"))) == ["created"]


async def test_a_deleted_poll_keeps_its_numbers_for_as_long_as_it_can_be_restored(
    api: Client, raw: Raw
) -> None:
    line = a_line(1, a_ballot(1, "1"))
    assert await imported(api, line) == ["created"]
    await answered(await api.delete(f"/api/v1/polls/{POLL_ID}"), 204)
    assert await imported(api, line) == ["409 id_taken number"]
    assert await imported(api, {**line, "number": 102}) == ["409 id_taken sessions[0].id"]
    await answered(await api.post("/rest/restore", params={"pollId": POLL_ID}))
    assert await imported(api, line) == ["unchanged"]
    assert require_counted(raw) == 1


COUNTS = {"id": 300, "courseId": 5, "countsOnly": True, "closedAt": CREATED_AT}


async def test_a_session_of_which_only_counts_are_left_keeps_them(api: Client, raw: Raw) -> None:
    counts = {**COUNTS, "results": {"1": 3, "2": 1}, "participants": 3}
    line = a_line(1, sessions=[{"id": 201}, counts])
    assert await imported(api, line, line) == ["created", "unchanged"]
    session = raw.sessions.find_one({"_id": 300})
    assert session is not None
    assert (session["results"], session["participants"]) == ({"1": 3, "2": 1}, 3)
    assert (session["counts_only"], session["closed_at"]) == (True, MOMENT)
    assert "awaited" not in session
    before = await exported(api)
    forget(raw)
    assert [outcome(one) for one in await answers_to(api, before)] == ["created"]
    assert await exported(api) == before
    counts["results"] = {"1": 2, "2": 2}
    assert await imported(api, line) == ["409 id_taken sessions[1].results"]


async def test_a_session_whose_votes_are_no_longer_kept_is_known_by_its_counts(
    api: Client, raw: Raw
) -> None:
    ballots = [a_ballot(1, "1"), a_ballot(2, "2")]
    line = a_line(1, *ballots)
    session = {**line["sessions"][0], "participants": 3}
    line = {**line, "sessions": [session]}
    more = {"pollId": line["id"], "ballots": [a_ballot(3, "1")]}
    assert await imported(api, line, more) == ["created", "created"]
    raw.sessions.update_many({}, {"$set": {"counts_only": True}})
    raw.ballots.delete_many({})
    whole = {**line, "sessions": [{**session, "ballots": [*ballots, a_ballot(3, "1")]}]}
    other = {**line, "sessions": [{**session, "ballots": [*ballots, a_ballot(3, "2")]}]}
    assert await imported(api, whole) == ["unchanged"]
    for refused_line, field in (
        (other, "sessions[0].ballots"),
        (line, "sessions[0].ballots"),
        (more, "ballots"),
    ):
        [answer] = await answers_to(api, body_of([refused_line]))
        assert answer["detail"] == f"{field} are no longer kept, only their counts are"


INVALID: dict[str, tuple[Json, str]] = {
    "no title": ({"title": None}, "title"),
    "blank title": ({"title": " "}, "title"),
    "no id": ({"id": None, "number": None}, "id"),
    "no uuid": ({"id": "x"}, "id"),
    "unknown member": ({"votes": 1}, "votes"),
    "no container": ({"content": "page"}, "container"),
    "forged number": ({"number": 2**53 - 1}, "number"),
    "zero": ({"number": 0}, "number"),
    "text": ({"number": "x"}, "number"),
    "no option": (
        {"sessions": [{"ballots": [a_ballot(1, "9")]}]},
        "sessions[0].ballots[0].optionIds",
    ),
    "no choice": ({"sessions": [{"ballots": [a_ballot(1)]}]}, "sessions[0].ballots[0].optionIds"),
    "repeated": (
        {"sessions": [{"ballots": [a_ballot(1, "1", "1")]}]},
        "sessions[0].ballots[0].optionIds",
    ),
    "no voter": (
        {"sessions": [{"ballots": [a_ballot(1, "1", userId=None)]}]},
        "sessions[0].ballots[0].userId",
    ),
    "user 0": (
        {"sessions": [{"ballots": [a_ballot(0, "1")]}]},
        "sessions[0].ballots[0].userId",
    ),
    "time": (
        {"sessions": [{"ballots": [a_ballot(1, "1", createdAt="yesterday")]}]},
        "sessions[0].ballots[0].createdAt",
    ),
    "changed before": (
        {"sessions": [{"ballots": [a_ballot(1, "1", updatedAt="2013-01-07T15:16:18Z")]}]},
        "sessions[0].ballots[0].updatedAt",
    ),
    "two standing": ({"sessions": [{"id": 1}, {"id": 2}]}, "sessions[1].courseId"),
    "one id twice": (
        {"sessions": [{"id": 1, "courseId": 1}, {"id": 1, "courseId": 2}]},
        "sessions[1].id",
    ),
    "no session id": ({"sessions": [{"courseId": 1}]}, "sessions[0].id"),
    "section": ({"sessions": [{"courseSectionId": 1}]}, "sessions[0].courseSectionId"),
    "ended": ({"sessions": [{"hasEnded": True}]}, "sessions[0].hasEnded"),
    "fewer": (
        {"sessions": [{"participants": 0, "ballots": [a_ballot(1, "1")]}]},
        "sessions[0].participants",
    ),
    "counts with ballots": (
        {
            "sessions": [
                {**COUNTS, "results": {"1": 1}, "participants": 1, "ballots": [a_ballot(1, "1")]}
            ]
        },
        "sessions[0].ballots",
    ),
    "open counts": (
        {"sessions": [{**COUNTS, "results": {}, "participants": 0, "isPublished": True}]},
        "sessions[0].isPublished",
    ),
    "counts of nothing": (
        {"sessions": [{**COUNTS, "participants": 0}]},
        "sessions[0].results",
    ),
    "counts that differ": (
        {"sessions": [{**COUNTS, "results": {"1": 2}, "participants": 1}]},
        "sessions[0].participants",
    ),
    "users without owner": ({**USERS, "createdBy": None, "sessions": []}, "createdBy"),
    "users elsewhere": ({**USERS, "content": "8", "sessions": []}, "content"),
    "users by another number": ({**USERS, "container": "9", "sessions": []}, "container"),
    "users with a standing session": (USERS, "sessions[0].courseId"),
}


async def test_a_line_is_validated_like_a_post(api: Client, raw: Raw) -> None:
    answers = await imported(api, *(a_line(1, **change) for change, _ in INVALID.values()))
    expected = [f"400 invalid_request {field}" for _, field in INVALID.values()]
    assert dict(zip(INVALID, answers, strict=True)) == dict(zip(INVALID, expected, strict=True))
    assert raw.addresses.count_documents({}) == 0
    assert raw.sessions.count_documents({}) == 0


async def test_two_votes_of_one_user_in_a_line_are_refused(api: Client, raw: Raw) -> None:
    line = a_line(1, a_ballot(1, "1"), a_ballot(1, "2"))
    assert await imported(api, line) == ["409 conflict sessions[0].ballots[1]"]
    twice = a_line(1, a_ballot(1, "1", id=5), a_ballot(2, "2", id=5))
    assert await imported(api, twice) == ["409 id_taken sessions[0].ballots[1].id"]
    assert raw.ballots.count_documents({}) == 0


async def test_an_end_date_that_has_passed_closes_the_session(api: Client, raw: Raw) -> None:
    ends = {"settings": {"closePollOnEndDate": True, "endDate": "2014-02-01T00:00:00Z"}}
    line = a_line(1, **ends)
    assert await imported(api, line) == ["created"]
    assert await vote(api, 1, line) == 409
    [address] = raw.addresses.find()
    assert address["is_open"] is False
    assert await imported(api, line) == ["unchanged"]


async def test_only_admins_that_act_for_nobody_import_and_export(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    every = await make_token(actions=["read", "write", "vote", "act"], workspaces=["*"])
    body = body_of([a_line(1)])
    for options in ({"headers": every}, {"params": {"as_user_id": "7"}}):
        await refused(await send(api, body, **options), 403)
        query = {"pollId": POLL_ID, **options.get("params", {})}
        answer = await api.get("/rest/export", params=query, headers=options.get("headers"))
        await refused(answer, 403)
    assert raw.addresses.count_documents({}) == 0


async def test_a_poll_without_an_owner_belongs_to_the_caller(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    who = await make_token(user_id=9, admin=True, actions=[], workspaces=[])
    line = a_line(1, createdBy=None)
    [answer] = await answers_to(api, body_of([line]), headers=who)
    assert answer["result"] == "created"
    assert [poll["owner_id"] for poll in stored_polls(raw)] == [9]
    assert await imported(api, line) == ["unchanged"]


async def test_copies_imports_and_exports_are_in_the_audit_and_what_changes_nothing_is_not(
    api: Client, raw: Raw
) -> None:
    line = a_line(1, sessions=[{"id": 201, "participants": 1}])
    more = {"pollId": POLL_ID, "ballots": [a_ballot("unmistakable-user", "1")]}
    await imported(api, line, more)
    await imported(api, line, more)
    await exported(api)
    query = {"workspace": "PLAT", "content": "PLAT-1", "pollId": POLL_ID}
    await answered(await api.post("/rest/copies", params=query, json={}))
    entries = [*raw.audit.find().sort("_id")]
    told = sorted(f"{one['action']} {one.get('session_id')}" for one in entries)
    imports = ["poll.imported 201", "poll.imported None"]
    assert told == ["poll.copied None", "poll.exported None", *imports]
    assert "unmistakable-user" not in str(entries)
