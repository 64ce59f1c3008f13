"""Choices of a poll: every route by what it does (docs/api.md, section 4)."""

import asyncio
from typing import Any

import pytest

from tests.conftest import Client, Raw, TokenMaker
from tests.support.polling import (
    API,
    call,
    listed,
    make_choice,
    make_poll,
    make_session,
    seed_votes,
    stored_poll,
    stored_session,
    teacher_of,
)

PLACE = {"type": "polls", "workspace": "PLAT", "content": "PLAT-254604"}
LARGEST = 2**53 - 1


async def test_a_new_choice_is_shown_with_all_members_and_is_stored_as_an_option(
    api: Client, raw: Raw
) -> None:
    poll = await make_poll(api)
    path = f"{API}/polls/{poll['id']}/poll_choices"
    body = {"poll_choices": [{"text": "yes", "is_correct": True, "position": 3}]}
    made = await call(api, "POST", path, json=body)
    shown = {"id": 1, "poll_id": poll["id"], "text": "yes", "position": 3, "is_correct": True}
    assert made == {"poll_choices": [shown]}
    assert await call(api, "GET", f"{path}/1") == made
    assert await call(api, "GET", path) == made
    assert stored_poll(raw, poll["id"])["options"] == [
        {"id": "1", "title": "yes", "order": 3, "is_correct": True}
    ]


async def test_a_choice_is_last_and_not_correct_by_default(api: Client, raw: Raw) -> None:
    poll = await make_poll(api)
    assert (await make_choice(api, poll["id"], text="a"))["position"] == 1
    await make_choice(api, poll["id"], text="b", position=-5)
    await make_choice(api, poll["id"], text="c", position=40)
    last = await make_choice(api, poll["id"], text="d")
    assert (last["position"], last["is_correct"]) == (41, False)
    await make_choice(api, poll["id"], text="e", position=2**31 - 1)
    assert (await make_choice(api, poll["id"], text="f"))["position"] == 2**31 - 1
    choices = await listed(api, f"{API}/polls/{poll['id']}/poll_choices")
    assert [choice["text"] for choice in choices] == ["b", "a", "c", "d", "e", "f"]
    assert stored_poll(raw, poll["id"])["highest_option"] == 6


async def test_choices_are_sorted_by_position_and_equal_ones_by_number(api: Client) -> None:
    options = [{"id": name, "title": name, "order": 1} for name in ("10", "9", "x", "100", "0")]
    body = {"title": "Tea?", "options": [*options, {"id": "1", "title": "1", "order": 2}]}
    content = await call(api, "POST", "/rest", params=PLACE, json=body)
    choices = await listed(api, f"{API}/polls/{content['id']}/poll_choices")
    assert [choice["id"] for choice in choices] == ["0", "x", 9, 10, 100, 1]


async def test_a_choice_id_is_an_integer_exactly_where_every_client_reads_it_as_one(
    api: Client,
) -> None:
    shown_as: dict[str, int | str] = {
        "1": 1,
        str(LARGEST): LARGEST,
        str(LARGEST + 1): str(LARGEST + 1),
        "9" * 64: "9" * 64,
        "0": "0",
        "007": "007",
        "a-b": "a-b",
        "-1": "-1",
        "1_0": "1_0",
    }
    options = [{"id": name, "title": name} for name in shown_as]
    content = await call(
        api, "POST", "/rest", params=PLACE, json={"title": "Tea?", "options": options}
    )
    path = f"{API}/polls/{content['id']}/poll_choices"
    choices = await listed(api, path)
    assert [choice["id"] for choice in choices] == list(shown_as.values())
    for name, shown in shown_as.items():
        one = await call(api, "GET", f"{path}/{name}")
        assert one["poll_choices"][0]["id"] == shown
        assert one["poll_choices"][0]["text"] == name
    text = {"Accept": "application/json+canvas-string-ids"}
    assert [choice["id"] for choice in await listed(api, path, headers=text)] == list(shown_as)


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": "x" * 256}, "text"),
        ({"text": "yes", "position": 2**31}, "position"),
        ({"text": "yes", "position": "first"}, "position"),
        ({"text": "yes", "is_correct": "maybe"}, "is_correct"),
        ({"text": "yes", "is_correct": 1}, "is_correct"),
    ],
)
async def test_a_choice_that_is_not_valid_is_refused_and_not_stored(
    api: Client, raw: Raw, choice: dict[str, Any], field: str
) -> None:
    await make_poll(api)
    path = f"{API}/polls/1/poll_choices"
    problem = await call(api, "POST", path, 400, json={"poll_choices": [choice]})
    assert [fault["field"] for fault in problem["errors"]] == [f"poll_choices[0].{field}"]
    problem = await call(api, "POST", path, 400, json={"choices": [choice]})
    assert problem["detail"] == "poll_choices is missing"
    assert stored_poll(raw, 1)["options"] == []


async def test_a_form_gives_a_choice_in_words(api: Client, raw: Raw) -> None:
    await make_poll(api)
    form = {"poll_choice[text]": "yes", "poll_choice[is_correct]": "TRUE"}
    fields = {**form, "poll_choice[position]": "-2"}
    made = await call(api, "POST", f"{API}/polls/1/poll_choices", data=fields)
    assert made["poll_choices"][0]["is_correct"] is True
    assert made["poll_choices"][0]["position"] == -2
    changed = await call(
        api, "PUT", f"{API}/polls/1/poll_choices/1", data={"poll_choices[][is_correct]": "0"}
    )
    assert changed["poll_choices"][0] == {**made["poll_choices"][0], "is_correct": False}
    assert stored_poll(raw, 1)["options"][0]["is_correct"] is False


async def test_a_put_changes_what_it_names_and_nothing_else(api: Client, raw: Raw) -> None:
    poll = await make_poll(api, "yes", "no")
    path = f"{API}/polls/{poll['id']}/poll_choices"
    before = stored_poll(raw, poll["id"])
    changed = await call(api, "PUT", f"{path}/1", json={"poll_choice": {"position": 9, "id": 7}})
    assert changed["poll_choices"] == [
        {"id": 1, "poll_id": poll["id"], "text": "yes", "position": 9, "is_correct": False}
    ]
    assert stored_poll(raw, poll["id"])["options"] == [
        {**before["options"][0], "order": 9},
        before["options"][1],
    ]
    for wrong in ({"text": ""}, {"text": "\u200b"}, {"position": True}):
        await call(api, "PUT", f"{path}/1", 400, json={"poll_choice": wrong})
    nothing = {"text": None, "position": None, "is_correct": None}
    await call(api, "PUT", f"{path}/1", json={"poll_choice": nothing})
    assert stored_poll(raw, poll["id"])["options"][0] == {**before["options"][0], "order": 9}


async def test_a_deleted_choice_is_gone_and_its_id_never_comes_again(api: Client, raw: Raw) -> None:
    poll = await make_poll(api, "yes", "no")
    session = await make_session(api, poll["id"])
    path = f"{API}/polls/{poll['id']}/poll_choices"
    await call(api, "DELETE", f"{path}/2", 204)
    for method in ("GET", "PUT", "DELETE"):
        body = {"poll_choices": [{"text": "x"}]}
        await call(api, method, f"{path}/2", 404, json=body)
    assert stored_session(raw, session["id"])["results"] == {"1": 0}
    assert (await make_choice(api, poll["id"], text="maybe"))["id"] == 3
    assert stored_session(raw, session["id"])["results"] == {"1": 0, "3": 0}
    assert stored_session(raw, session["id"])["rules"]["options"] == ["1", "3"]


async def test_a_choice_with_votes_in_any_session_stays(api: Client, raw: Raw) -> None:
    poll = await make_poll(api, "yes", "no")
    await make_session(api, poll["id"])
    voted = await make_session(api, poll["id"])
    seed_votes(raw, voted["id"], {"2": 1}, 1)
    path = f"{API}/polls/{poll['id']}/poll_choices"
    before = stored_poll(raw, poll["id"]), stored_session(raw, voted["id"])
    await call(api, "DELETE", f"{path}/2", 409)
    assert (stored_poll(raw, poll["id"]), stored_session(raw, voted["id"])) == before
    await call(api, "DELETE", f"{path}/1", 204)
    assert [choice["id"] for choice in await listed(api, path)] == [2]


async def test_the_101st_choice_is_refused_also_when_many_come_at_once(
    api: Client, raw: Raw
) -> None:
    options = [{"title": str(place)} for place in range(97)]
    content = await call(
        api, "POST", "/rest", params=PLACE, json={"title": "Tea?", "options": options}
    )
    path = f"{API}/polls/{content['id']}/poll_choices"

    async def add(text: str) -> int:
        answer = await api.post(path, json={"poll_choices": [{"text": text}]})
        return answer.status

    statuses = await asyncio.gather(*(add(f"more {place}") for place in range(6)))
    assert sorted(statuses) == [200, 200, 200, 409, 409, 409]
    assert len(stored_poll(raw, 1)["options"]) == 100
    await call(api, "POST", path, 409, json={"poll_choices": [{"text": "the 101st"}]})
    assert len(stored_poll(raw, 1)["options"]) == 100
    assert len(stored_session(raw, 1)["results"]) == 100


async def test_choices_added_at_once_are_all_there_under_ids_of_their_own(
    api: Client, raw: Raw
) -> None:
    poll = await make_poll(api)
    session = await make_session(api, poll["id"])
    made = await asyncio.gather(
        *(make_choice(api, poll["id"], text=f"text {place}") for place in range(8))
    )
    assert sorted(choice["id"] for choice in made) == list(range(1, 9))
    stored = {option["id"]: option["title"] for option in stored_poll(raw, 1)["options"]}
    assert stored == {str(choice["id"]): choice["text"] for choice in made}
    assert set(stored_session(raw, session["id"])["results"]) == set(stored)


async def test_choices_are_changed_by_managers_and_read_by_readers_without_the_answer(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    owner = await teacher_of(api, make_token, user_id=7)
    poll = await make_poll(api, "yes", headers=owner)
    colleague = await teacher_of(api, make_token, user_id=8)
    path = f"{API}/polls/{poll['id']}/poll_choices"
    await call(api, "GET", path, 403, headers=colleague)
    await make_session(api, poll["id"], headers=owner)
    shown = {"id": 1, "poll_id": poll["id"], "text": "yes", "position": 1}
    assert await listed(api, path, headers=colleague) == [shown]
    assert await listed(api, f"{path}/1", headers=colleague) == [shown]
    assert await listed(api, path, headers=owner) == [{**shown, "is_correct": False}]
    before = stored_poll(raw, poll["id"])
    body = {"poll_choices": [{"text": "no"}]}
    await call(api, "POST", path, 403, headers=colleague, json=body)
    await call(api, "PUT", f"{path}/1", 403, headers=colleague, json=body)
    await call(api, "DELETE", f"{path}/1", 403, headers=colleague)
    assert stored_poll(raw, poll["id"]) == before


@pytest.mark.parametrize("reference", ["2", "01", "1.0", "x", str(2**70), "%00", "a" * 65])
async def test_a_path_that_names_no_choice_is_a_404(api: Client, raw: Raw, reference: str) -> None:
    await make_poll(api, "yes")
    before = stored_poll(raw, 1)
    for method in ("GET", "PUT", "DELETE"):
        body = {"poll_choices": [{"text": "no"}]}
        await call(api, method, f"{API}/polls/1/poll_choices/{reference}", 404, json=body)
    assert stored_poll(raw, 1) == before
