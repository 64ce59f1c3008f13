"""One poll in two APIs: changes through one are seen in both (docs/api.md, sections 3 and 4)."""

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


def place_of(number: int, owner_id: int = 0) -> dict[str, str]:
    """Where ``/rest`` has a poll that was made under ``/api/v1``."""
    place = {"type": "polls", "workspace": "users", "content": str(owner_id)}
    return {**place, "container": str(number)}


async def make_content_poll(api: Client, **poll: Any) -> dict[str, Any]:
    body = {"title": "Tea?", "options": [{"title": "yes"}, {"title": "no"}], **poll}
    made: dict[str, Any] = await call(api, "POST", "/rest", params=PLACE, json=body)
    return made


async def test_a_content_poll_is_reached_by_uuid_and_number_with_its_options_as_choices(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    options = [
        {"title": "last", "order": 9},
        {"id": "a-b", "title": "first", "order": -1},
        {"id": "007", "title": "second", "order": 0},
    ]
    content = await make_content_poll(api, description="hot", options=options)
    number = next(raw.containers.find())["polls"][0]["number"]
    for reference in (content["id"], number):
        seen = await call(api, "GET", f"{API}/polls/{reference}")
        assert seen["polls"][0]["id"] == number
        assert seen["polls"][0]["question"] == "Tea?"
        assert seen["polls"][0]["description"] == "hot"
        choices = await listed(api, f"{API}/polls/{reference}/poll_choices")
        assert [(choice["id"], choice["text"], choice["position"]) for choice in choices] == [
            ("a-b", "first", -1),
            ("007", "second", 0),
            (8, "last", 9),
        ]
    assert await listed(api, f"{API}/polls") == []  # not made here
    reader = await make_token(user_id=5, workspaces=["PLAT"], actions=["read"])
    seen = await call(api, "GET", f"{API}/polls/{number}", headers=reader)
    assert "total_results" not in seen["polls"][0]
    outsider = await make_token(user_id=6, workspaces=["OTHER"])
    await call(api, "GET", f"{API}/polls/{number}", 403, headers=outsider)


async def test_a_poll_made_here_is_on_rest_for_its_owner_and_admins_only(
    api: Client, make_token: TokenMaker
) -> None:
    owner = await teacher_of(api, make_token, user_id=7)
    poll = await make_poll(api, "yes", headers=owner, description="hot")
    place = place_of(poll["id"], 7)
    (seen,) = await call(api, "GET", "/rest", params=place, headers=owner)
    assert await call(api, "GET", "/rest", params=place) == [seen]
    assert seen["title"] == "Tea?"
    assert seen["description"] == "hot"
    assert seen["options"] == [{"id": "1", "title": "yes", "order": 1}]
    assert seen["settings"]["saveParticipantNames"] is True
    stranger = await make_token(user_id=8, workspaces=["*"])
    await call(api, "GET", "/rest", 403, params=place, headers=stranger)
    new = {"title": "Tea?", "options": [{"title": "yes"}]}
    for headers in (owner, None):
        await call(api, "POST", "/rest", 403, params=place, headers=headers, json=new)
    assert await call(api, "GET", "/rest", params=place) == [seen]


async def test_what_rest_changes_of_a_poll_made_here_is_seen_here(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    owner = await teacher_of(api, make_token, user_id=7)
    poll = await make_poll(api, "yes", "no", headers=owner)
    session = await make_session(api, poll["id"], headers=owner)
    (seen,) = await call(api, "GET", "/rest", params=place_of(poll["id"], 7), headers=owner)
    body = {
        **seen,
        "title": "Coffee?",
        "description": "black",
        "options": [{"id": "2", "title": "never", "order": 4}, {"title": "always", "order": 2}],
        "settings": {"allowRevote": True},
    }
    address = {**place_of(poll["id"], 7), "pollId": seen["id"]}
    await call(api, "PUT", "/rest", params=address, headers=owner, json=body)
    shown = await call(api, "GET", f"{API}/polls/{poll['id']}", headers=owner)
    assert shown["polls"] == [
        {
            **poll,
            "question": "Coffee?",
            "description": "black",
            "total_results": {"2": 0, "3": 0},
        }
    ]
    choices = await listed(api, f"{API}/polls/{poll['id']}/poll_choices", headers=owner)
    assert [(one["id"], one["text"], one["position"]) for one in choices] == [
        (3, "always", 2),
        (2, "never", 4),
    ]
    stored = stored_session(raw, session["id"])
    assert stored["results"] == {"2": 0, "3": 0}
    assert stored["rules"]["options"] == ["2", "3"]
    assert stored["rules"]["settings"]["allowRevote"] is True


async def test_a_choice_added_changed_and_removed_here_is_the_option_there(
    api: Client, raw: Raw
) -> None:
    content = await make_content_poll(api)
    address = {**PLACE, "pollId": content["id"]}
    path = f"{API}/polls/{content['id']}/poll_choices"
    made = await make_choice(api, content["id"], text="maybe")
    await call(api, "PUT", f"{path}/1", json={"poll_choices": [{"text": "aye", "position": 7}]})
    await call(api, "DELETE", f"{path}/2", 204)
    (seen,) = await call(api, "GET", "/rest", params=address)
    assert seen["options"] == [
        {"id": str(made["id"]), "title": "maybe", "order": 2},
        {"id": "1", "title": "aye", "order": 7},
    ]
    assert raw.sessions.distinct("rules.options") == ["1", "3"]


async def test_the_entity_tag_on_rest_moves_with_each_change_made_here(
    api: Client, raw: Raw
) -> None:
    content = await make_content_poll(api)
    address = {**PLACE, "pollId": content["id"]}
    path = f"{API}/polls/{content['id']}"

    async def tag() -> str:
        answer = await api.get("/rest", params=address)
        assert answer.status == 200
        return answer.headers["ETag"]

    tags = [await tag()]
    await make_choice(api, content["id"], text="maybe")
    tags.append(await tag())
    await call(api, "PUT", f"{path}/poll_choices/1", json={"poll_choices": {"is_correct": True}})
    tags.append(await tag())
    await call(api, "DELETE", f"{path}/poll_choices/2", 204)
    tags.append(await tag())
    await call(api, "PUT", path, json={"polls": {"question": "Coffee?"}})
    tags.append(await tag())
    assert len(set(tags)) == 5

    session = await make_session(api, content["id"])
    seed_votes(raw, session["id"], {"1": 1}, 1)
    assert await tag() == tags[-1]  # the version of the definition alone
    stale = {"If-Match": tags[-2]}
    await call(api, "DELETE", "/rest", 412, params=address, headers=stale)
    assert stored_poll(raw, 1)["title"] == "Coffee?"
    await call(api, "DELETE", "/rest", params=address, headers={"If-Match": tags[-1]})
    await call(api, "GET", path, 404)
    assert raw.sessions.count_documents({}) == 0


async def test_a_put_on_rest_keeps_is_correct_of_the_options_that_keep_their_id(
    api: Client, raw: Raw
) -> None:
    poll = await make_poll(api)
    for text in ("yes", "no"):
        await make_choice(api, poll["id"], text=text, is_correct=True)
    (seen,) = await call(api, "GET", "/rest", params=place_of(poll["id"]))
    assert all("is_correct" not in option for option in seen["options"])
    body = {**seen, "options": [seen["options"][0], {"id": "new", "title": "new"}]}
    address = {**place_of(poll["id"]), "pollId": seen["id"]}
    await call(api, "PUT", "/rest", params=address, json=body)
    choices = await listed(api, f"{API}/polls/{poll['id']}/poll_choices")
    assert {choice["id"]: choice["is_correct"] for choice in choices} == {1: True, "new": False}
    assert [option["is_correct"] for option in stored_poll(raw, 1)["options"]] == [True, False]


async def test_an_option_with_votes_is_dropped_by_neither_face(api: Client, raw: Raw) -> None:
    poll = await make_poll(api, "yes", "no")
    session = await make_session(api, poll["id"])
    seed_votes(raw, session["id"], {"1": 1}, 1)
    (seen,) = await call(api, "GET", "/rest", params=place_of(poll["id"]))
    address = {**place_of(poll["id"]), "pollId": seen["id"]}
    before = stored_poll(raw, poll["id"]), stored_session(raw, session["id"])
    path = f"{API}/polls/{poll['id']}/poll_choices"
    await call(api, "DELETE", f"{path}/1", 409)
    await call(
        api, "PUT", "/rest", 409, params=address, json={**seen, "options": seen["options"][1:]}
    )
    assert (stored_poll(raw, poll["id"]), stored_session(raw, session["id"])) == before
    # Its text may change, and choices without votes may go.
    changed = {**seen, "options": [{**seen["options"][0], "title": "aye"}]}
    await call(api, "PUT", "/rest", params=address, json=changed)
    assert stored_session(raw, session["id"])["results"] == {"1": 1}


UNSEEN = ["", " \u3000", "\u200b\ufeff", "\u3164", "\u202e", "a\nb", "a\x00", "\x9b"]


@pytest.mark.parametrize("text", UNSEEN)
async def test_what_cannot_be_seen_is_no_title_question_or_text(
    api: Client, raw: Raw, text: str
) -> None:
    content = await make_content_poll(api)
    poll = await make_poll(api, "yes")
    before = list(raw.containers.find().sort("_id"))
    body: Any = {"title": text, "options": [{"title": "yes"}]}
    query = {**PLACE, "pollId": content["id"]}
    await call(api, "POST", "/rest", 400, params=PLACE, json=body)
    await call(api, "PUT", "/rest", 400, params=query, json=body)
    path = f"{API}/polls/{poll['id']}"
    body = {"polls": [{"question": text}]}
    await call(api, "POST", f"{API}/polls", 400, json=body)
    await call(api, "PUT", path, 400, json=body)
    body = {"poll_choices": [{"text": text}]}
    await call(api, "POST", f"{path}/poll_choices", 400, json=body)
    await call(api, "PUT", f"{path}/poll_choices/1", 400, json=body)
    form = {"poll_choice[text]": text}
    await call(api, "POST", f"{path}/poll_choices", 400, data=form)
    assert list(raw.containers.find().sort("_id")) == before
