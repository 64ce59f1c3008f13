"""Content polls: create, read, replace, delete."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import Client, Clock, Raw
from tests.support.seeds import (
    DEFAULT_SETTINGS,
    ISSUE,
    PAGE,
    STARS,
    UNKNOWN,
    Json,
    a_poll,
    document,
    everything,
    refused,
    seed,
    stored_polls,
)


async def create(api: Client, place: dict[str, str] = ISSUE, **members: Any) -> Json:
    response = await api.post("/rest", params=place, json=a_poll(**members))
    assert response.status == 200, await response.text()
    poll: Json = await response.json()
    return poll


async def test_the_example_of_the_source_api_comes_back_member_for_member(
    api: Client, raw: Raw, clock: Clock
) -> None:
    response = await api.post("/rest", params=ISSUE, json=STARS)
    assert response.status == 200
    assert response.content_type == "application/json"
    created = await response.json()
    assert created == {**STARS, "id": created["id"]}
    [stored] = stored_polls(raw)
    assert stored == {
        **STARS,
        "id": created["id"],
        "options": [{**option, "is_correct": False} for option in STARS["options"]],
        "number": 1,
        "highest_option": 5,
        "closes_at": None,
        "standing_session": 1,
        "owner_id": 0,
        "created_at": clock.now,
        "version": 1,
        "stamp": stored["stamp"],
    }


async def test_polls_of_a_content_are_listed_oldest_first(api: Client, raw: Raw) -> None:
    created = [await create(api, title=f"Poll {letter}") for letter in "CAB"]
    response = await api.get("/rest", params=ISSUE)
    assert response.status == 200
    assert await response.json() == created
    assert [poll["number"] for poll in stored_polls(raw)] == [1, 2, 3]


async def test_a_content_without_polls_has_an_empty_list_and_is_not_stored(
    api: Client, raw: Raw
) -> None:
    response = await api.get("/rest", params=ISSUE)
    assert response.status == 200
    assert await response.json() == []
    assert everything(raw) == []


async def test_one_poll_is_read_as_an_array_of_that_one(api: Client) -> None:
    polls = [await create(api) for _ in range(3)]
    response = await api.get("/rest", params={**ISSUE, "pollId": polls[1]["id"]})
    assert response.status == 200
    assert await response.json() == [polls[1]]


async def test_a_poll_is_found_by_its_id_in_capitals(api: Client) -> None:
    poll = await create(api)
    response = await api.get("/rest", params={**ISSUE, "pollId": poll["id"].upper()})
    assert await response.json() == [poll]


@pytest.mark.parametrize("poll_id", [UNKNOWN, "1", "no uuid", "$id"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_unknown_poll_is_not_found(
    api: Client, raw: Raw, method: str, poll_id: str
) -> None:
    await create(api)
    before = everything(raw)
    query = {**ISSUE, "pollId": poll_id}
    await refused(await api.request(method, "/rest", params=query, json=a_poll()), 404)
    assert everything(raw) == before


async def test_a_head_request_is_answered_as_the_get_without_a_body(api: Client) -> None:
    poll = await create(api)
    query = {**ISSUE, "pollId": poll["id"]}
    got = await api.get("/rest", params=query)
    headed = await api.head("/rest", params=query)
    assert headed.status == 200
    assert headed.headers["ETag"] == got.headers["ETag"]
    assert await headed.read() == b""


async def test_what_a_poll_leaves_out_gets_its_default(api: Client) -> None:
    created = await create(api)
    assert created == {
        "id": created["id"],
        "title": "Tea?",
        "description": "",
        "options": [
            {"id": "1", "title": "yes", "order": 0},
            {"id": "2", "title": "no", "order": 1},
        ],
        "settings": DEFAULT_SETTINGS,
    }


async def test_settings_that_are_partial_are_completed(api: Client) -> None:
    created = await create(api, settings={"allowRevote": True, "resultsVisibility": "private"})
    assert created["settings"] == {
        **DEFAULT_SETTINGS,
        "allowRevote": True,
        "resultsVisibility": "private",
    }


async def test_a_put_replaces_title_and_options_and_keeps_what_is_no_definition(
    api: Client, raw: Raw
) -> None:
    created = await create(api, description="Hot or cold")
    [before] = stored_polls(raw)
    replacement = {
        "title": "Coffee?",
        "description": "",
        "options": [{"id": "2", "title": "never"}],
        "settings": {**DEFAULT_SETTINGS, "allowRevote": True},
    }
    response = await api.put("/rest", params={**ISSUE, "pollId": created["id"]}, json=replacement)
    assert response.status == 200
    options = [{"id": "2", "title": "never", "order": 0}]
    assert await response.json() == {**replacement, "id": created["id"], "options": options}
    [after] = stored_polls(raw)
    assert after["version"] == before["version"] + 1
    for kept in ("id", "number", "owner_id", "created_at", "highest_option"):
        assert after[kept] == before[kept]


async def test_a_put_leaves_the_neighbours_as_they_are(api: Client, raw: Raw) -> None:
    first, second, third = [await create(api, title=f"Poll {n}") for n in "123"]
    query = {**ISSUE, "pollId": second["id"]}
    replaced = await (await api.put("/rest", params=query, json=a_poll(title="New"))).json()
    listed = await (await api.get("/rest", params=ISSUE)).json()
    assert listed == [first, replaced, third]
    assert [poll["title"] for poll in stored_polls(raw)] == ["Poll 1", "New", "Poll 3"]


async def test_a_put_may_leave_a_poll_without_options(api: Client, raw: Raw) -> None:
    created = await create(api)
    query = {**ISSUE, "pollId": created["id"]}
    response = await api.put("/rest", params=query, json=a_poll(options=[]))
    assert response.status == 200
    assert (await response.json())["options"] == []
    assert stored_polls(raw)[0]["options"] == []


async def test_options_that_keep_their_ids_stay_correct_and_others_do_not(
    api: Client, raw: Raw
) -> None:
    created = await create(api)
    raw.containers.update_one({}, {"$set": {"polls.0.options.1.is_correct": True}})
    options = [{"id": "2", "title": "No!"}, {"id": "1", "title": "Yes!"}, {"title": "no"}]
    query = {**ISSUE, "pollId": created["id"]}
    response = await api.put("/rest", params=query, json=a_poll(options=options))
    assert response.status == 200
    assert "is_correct" not in (await response.json())["options"][0]
    [stored] = stored_polls(raw)
    correct = {option["id"]: option["is_correct"] for option in stored["options"]}
    assert correct == {"2": True, "1": False, "3": False}


async def test_an_option_without_an_id_gets_the_number_after_the_highest_ever_used(
    api: Client, raw: Raw
) -> None:
    options = [{"title": "a"}, {"id": "7", "title": "b"}, {"title": "c"}, {"id": "x", "title": "d"}]
    created = await create(api, options=options)
    assert [option["id"] for option in created["options"]] == ["8", "7", "9", "x"]
    query = {**ISSUE, "pollId": created["id"]}
    await api.put("/rest", params=query, json=a_poll(options=[{"id": "7", "title": "b"}]))
    options = [{"id": "7", "title": "b"}, {"title": "new"}]
    response = await api.put("/rest", params=query, json=a_poll(options=options))
    assert [option["id"] for option in (await response.json())["options"]] == ["7", "10"]
    assert stored_polls(raw)[0]["highest_option"] == 10


async def test_option_ids_that_leave_no_higher_number_are_a_conflict(api: Client, raw: Raw) -> None:
    options = [{"id": "9" * 18, "title": "last"}, {"title": "one more"}]
    response = await api.post("/rest", params=ISSUE, json=a_poll(options=options))
    await refused(response, 409)
    assert everything(raw) == []


async def test_options_are_shown_by_order_and_equal_ones_as_they_were_sent(api: Client) -> None:
    options = [
        {"title": "e", "order": 5},
        {"title": "b"},
        {"title": "a", "order": -3},
        {"title": "c", "order": 1},
        {"title": "d", "order": 1},
    ]
    created = await create(api, options=options)
    shown = [(option["title"], option["order"]) for option in created["options"]]
    assert shown == [("a", -3), ("b", 1), ("c", 1), ("d", 1), ("e", 5)]
    [read] = await (await api.get("/rest", params=ISSUE)).json()
    assert read == created


async def test_a_delete_returns_the_poll_and_leaves_its_neighbours(api: Client, raw: Raw) -> None:
    first, second, third = [await create(api, title=f"Poll {n}") for n in "123"]
    query = {**ISSUE, "pollId": second["id"]}
    response = await api.delete("/rest", params=query)
    assert response.status == 200
    assert await response.json() == second
    assert await (await api.get("/rest", params=ISSUE)).json() == [first, third]
    assert [poll["id"] for poll in stored_polls(raw)] == [first["id"], third["id"]]
    await refused(await api.delete("/rest", params=query), 404)


async def test_numbers_of_deleted_polls_are_not_given_again(api: Client, raw: Raw) -> None:
    last = [await create(api) for _ in range(2)][-1]
    await api.delete("/rest", params={**ISSUE, "pollId": last["id"]})
    await create(api)
    assert [poll["number"] for poll in stored_polls(raw)] == [1, 3]


@pytest.mark.parametrize("convert", [str.lower, str.upper], ids=["as is", "in capitals"])
async def test_an_id_that_comes_along_is_kept_in_lower_case(
    api: Client, raw: Raw, convert: Any
) -> None:
    moved = "ee9107b5-5041-4c15-8c76-f14404fa1fad"
    assert (await create(api, id=convert(moved)))["id"] == moved
    assert [poll["id"] for poll in stored_polls(raw)] == [moved]


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(ISSUE, id="same container"),
        pytest.param(PAGE, id="another container"),
        pytest.param({**PAGE, "container": "macro-2"}, id="a new container"),
    ],
)
async def test_an_id_that_a_poll_has_is_a_conflict(
    api: Client, raw: Raw, place: dict[str, str]
) -> None:
    taken = (await create(api))["id"]
    seed(raw, PAGE, document(1000))
    before = everything(raw)
    response = await api.post("/rest", params=place, json=a_poll(id=taken.upper()))
    problem = await refused(response, 409)
    assert taken in problem["detail"]
    assert everything(raw) == before


@pytest.mark.parametrize("place", [ISSUE, PAGE], ids=["same container", "another container"])
@pytest.mark.parametrize("neighbours", [0, 2])
async def test_the_id_of_a_deleted_poll_may_come_again(
    api: Client, raw: Raw, place: dict[str, str], neighbours: int
) -> None:
    poll = await create(api)
    others = [(await create(api))["id"] for _ in range(neighbours)]
    await api.delete("/rest", params={**ISSUE, "pollId": poll["id"]})
    assert (await create(api, place, id=poll["id"]))["id"] == poll["id"]
    assert [stored["id"] for stored in stored_polls(raw)] == [*others, poll["id"]]
    # The others are as unique as before.
    for other in others:
        response = await api.post("/rest", params=PAGE, json=a_poll(id=other))
        await refused(response, 409)


async def test_what_get_returned_is_taken_by_put_with_results_on_top(api: Client, raw: Raw) -> None:
    await api.post("/rest", params=ISSUE, json=STARS)
    [before] = stored_polls(raw)
    [poll] = await (await api.get("/rest", params=ISSUE)).json()
    results = {"options": {"1": {"votes": 0, "percentage": 0}}, "votes": 0, "closed": False}
    for sent in (poll, {**poll, "results": results}, {**poll, "results": None}):
        query = {**ISSUE, "pollId": poll["id"]}
        response = await api.put("/rest", params=query, json=sent)
        assert response.status == 200
        assert await response.json() == poll
    [after] = stored_polls(raw)
    assert after == {**before, "version": 4, "stamp": after["stamp"]}


async def test_the_path_of_the_source_api_is_the_same_endpoint(api: Client, raw: Raw) -> None:
    path = "/x1/xs2i4ODeo611kO2x4adU6sCYcqM"
    created = await (await api.post(path, params=ISSUE, json=STARS)).json()
    query = {**ISSUE, "pollId": created["id"]}
    assert await (await api.get("/rest", params=query)).json() == [created]
    assert await (await api.get("/x1/another", params=ISSUE)).json() == [created]
    assert (await api.put(path, params=query, json=a_poll())).status == 200
    assert (await api.delete(path, params=query)).status == 200
    assert stored_polls(raw) == []


# What a PUT leaves out -------------------------------------------------------------------------

ENDED: Json = {
    "allowSelectionOfMultipleOptions": True,
    "resultsVisibility": "private",
    "endDate": "2026-01-01T00:00:00Z",
    "hideAbsoluteNumbers": True,
    "allowRevote": True,
    "saveParticipantNames": True,
    "closePollOnEndDate": True,
    "allowComment": True,
}


async def replace(api: Client, poll: Json, **members: Any) -> Json:
    """The poll with a mended title, and these members."""
    query = {**ISSUE, "pollId": poll["id"]}
    response = await api.put("/rest", params=query, json=a_poll(title="Mended", **members))
    assert response.status == 200, await response.text()
    replaced: Json = await response.json()
    assert replaced["title"] == "Mended"
    return replaced


@pytest.mark.parametrize("left_out", [{}, {"settings": None, "description": None}])
async def test_a_mended_title_neither_reopens_a_poll_nor_publishes_its_results(
    api: Client, raw: Raw, left_out: Json
) -> None:
    created = await create(api, description="Of old.", settings=ENDED)
    replaced = await replace(api, created, **left_out)
    assert (replaced["description"], replaced["settings"]) == ("Of old.", ENDED)
    [stored] = stored_polls(raw)
    assert stored["closes_at"] is not None
    [session] = raw.sessions.find()
    assert (session["rules"]["settings"], session["rules"]["closes_at"]) == (
        ENDED,
        stored["closes_at"],
    )


@pytest.mark.parametrize("name", ENDED)
async def test_each_setting_that_a_put_leaves_out_stays_as_it_is(api: Client, name: str) -> None:
    created = await create(api, settings=ENDED)
    others = {other: value for other, value in ENDED.items() if other != name}
    for settings in (others, {**others, name: None}):
        assert (await replace(api, created, settings=settings))["settings"] == ENDED
    # Even where the poll has changed since: the one that is stored counts.
    sent = DEFAULT_SETTINGS | {name: ENDED[name]}
    del sent["closePollOnEndDate"]
    await replace(api, created, settings={"closePollOnEndDate": False})
    assert (await replace(api, created, settings=sent))["settings"] == {
        **sent,
        "closePollOnEndDate": False,
    }


async def test_an_end_date_that_is_stored_is_one_to_close_on(api: Client, raw: Raw) -> None:
    created = await create(api, settings={"endDate": "2026-05-01T00:00:00Z"})
    replaced = await replace(api, created, settings={"closePollOnEndDate": True})
    assert replaced["settings"]["endDate"] == "2026-05-01T00:00:00Z"
    before = everything(raw)
    query = {**ISSUE, "pollId": created["id"]}
    body = a_poll(settings={"endDate": ""})
    field: list[str | None] = ["settings.closePollOnEndDate"]
    await refused(await api.put("/rest", params=query, json=body), 400, field)
    assert everything(raw) == before


async def test_in_a_post_null_is_as_if_an_optional_member_were_left_out(api: Client) -> None:
    created = await create(api, id=None, description=None, settings=None)
    assert (created["description"], created["settings"]) == ("", DEFAULT_SETTINGS)
    created = await create(api, settings=dict.fromkeys(DEFAULT_SETTINGS))
    assert created["settings"] == DEFAULT_SETTINGS
    created = await create(api, options=[{"title": "yes", "id": None, "order": None}])
    assert created["options"] == [{"title": "yes", "id": "1", "order": 0}]


@pytest.mark.parametrize("member", DEFAULT_SETTINGS)
async def test_null_for_a_setting_is_as_if_it_were_left_out(
    api: Client, raw: Raw, member: str
) -> None:
    """As Jira sends ``endDate`` where a poll has none."""
    created = await api.post("/rest", params=ISSUE, json=a_poll(settings={member: None}))
    assert created.status == 200
    poll = await created.json()
    assert poll["settings"] == DEFAULT_SETTINGS
    other = {
        name: "private" if name == "resultsVisibility" else value or True
        for name, value in DEFAULT_SETTINGS.items()
    } | {"endDate": "2126-01-31T13:00:00Z"}
    query = {**ISSUE, "pollId": poll["id"]}
    for settings in (other, {**other, member: None}, {member: None}):
        changed = await api.put("/rest", params=query, json=a_poll(settings=settings))
        assert changed.status == 200
        assert (await changed.json())["settings"] == other
    [stored] = stored_polls(raw)
    assert stored["closes_at"] == datetime(2126, 1, 31, 13, tzinfo=UTC)
    null_end = a_poll(settings={"closePollOnEndDate": True, "endDate": None})
    await refused(
        await api.post("/rest", params=ISSUE, json=null_end), 400, ["settings.closePollOnEndDate"]
    )
