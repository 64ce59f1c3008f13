"""Several objects in one body: all are made, in their order, in one transaction, or none."""

import uuid
from typing import Any

import pytest

from schemas.polling import NEW_POLL
from storage.courses import AnyTeacher
from storage.documents import PollDefinition
from storage.errors import IdTaken
from storage.store import Store
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import course_run
from tests.support.polling import (
    API,
    call,
    enroll,
    make_choice,
    make_poll,
    make_session,
    stored_poll,
    teacher_of,
)
from tests.support.seeds import Json, refused

COURSE = f"{API}/courses/1/enrollments"


async def post(api: Client, path: str, *objects: Any, **request: Any) -> Any:
    """The objects of the answer to a POST of ``objects``, as JSON."""
    name = path.rpartition("/")[2]
    made = await call(api, "POST", path, json={name: [*objects]}, **request)
    return made[name] if isinstance(made, dict) and name in made else made


async def test_polls_are_made_and_answered_in_their_order(api: Client, raw: Raw) -> None:
    questions = [f"{number}?" for number in range(100)]
    made = await post(api, f"{API}/polls", *({"question": question} for question in questions))
    assert [poll["question"] for poll in made] == questions
    ids = [poll["id"] for poll in made]
    assert ids == sorted(set(ids))
    listed = await call(api, "GET", f"{API}/polls", params={"per_page": 100})
    assert listed["polls"] == made[::-1]
    assert raw.addresses.count_documents({}) == 100


async def test_choices_are_made_with_their_members_each_last_by_default(
    api: Client, raw: Raw
) -> None:
    poll = await make_poll(api, "first")
    path = f"{API}/polls/{poll['id']}/poll_choices"
    session = await make_session(api, poll["id"])
    made = await post(
        api,
        path,
        {"text": "a"},
        {"text": "b", "position": 7, "is_correct": True},
        {"text": "c"},
        {"text": "d", "position": -1},
    )
    assert [(one["id"], one["text"], one["position"], one["is_correct"]) for one in made] == [
        (2, "a", 2, False),
        (3, "b", 7, True),
        (4, "c", 8, False),
        (5, "d", -1, False),
    ]
    assert stored_poll(raw, poll["id"])["version"] == 3
    stored = raw.sessions.find_one({"_id": session["id"]})
    assert stored is not None
    assert stored["results"] == dict.fromkeys("12345", 0)


async def test_sessions_are_made_in_their_order(api: Client, raw: Raw) -> None:
    path = f"{API}/polls/{(await make_poll(api, 'yes'))['id']}/poll_sessions"
    made = await post(
        api,
        path,
        {"course_id": 3},
        {"course_id": 1, "course_section_id": 9},
        {"course_id": 2, "has_public_results": True},
    )
    assert [
        (one["course_id"], one["course_section_id"], one["has_public_results"]) for one in made
    ] == [(3, None, False), (1, 9, False), (2, None, True)]
    assert [one["_id"] for one in raw.sessions.find().sort("_id")] == [one["id"] for one in made]
    assert (await call(api, "GET", path))["poll_sessions"] == [
        {**one, "poll_submissions": None} for one in made
    ]


async def test_enrollments_are_made_and_answered_as_a_list(api: Client, raw: Raw) -> None:
    known = await enroll(api, 7, 1)
    objects = [{"user_id": user_id} for user_id in (9, 7, 8, 9)]
    made = await call(api, "POST", COURSE, json={"enrollments": objects})
    assert [one["user_id"] for one in made] == [9, 7, 8, 9]
    assert made[1] == known
    assert made[0] == made[3]
    assert raw.enrollments.count_documents({}) == 3
    alone = await call(api, "POST", COURSE, json={"enrollments": objects[:1]})
    assert alone == made[0]


FORMS: list[Any] = [
    [("poll_sessions[][course_id]", "1"), ("poll_sessions[][course_id]", "2")],
    [("poll_session[1][course_id]", "2"), ("poll_session[0][course_id]", "1")],
    [("poll_sessions[course_id][]", "1"), ("poll_sessions[course_id][]", "2")],
]


@pytest.mark.parametrize("fields", FORMS)
async def test_all_objects_of_a_form_are_made(api: Client, fields: Any) -> None:
    path = f"{API}/polls/{(await make_poll(api))['id']}/poll_sessions"
    made = await call(api, "POST", path, data=fields)
    assert [session["course_id"] for session in made["poll_sessions"]] == [1, 2]
    made = await call(api, "POST", path, params=fields)
    assert [session["course_id"] for session in made["poll_sessions"]] == [1, 2]


def everything(raw: Raw) -> list[Json]:
    names = ("containers", "addresses", "sessions", "enrollments", "idempotency")
    return [one for name in names for one in raw[name].find().sort("_id")]


async def test_one_bad_object_refuses_all_and_every_fault_is_named(api: Client, raw: Raw) -> None:
    poll = f"{API}/polls/{(await make_poll(api, 'yes'))['id']}"
    before = everything(raw)
    for path, good, bad, member in (
        (f"{API}/polls", {"question": "?"}, {"question": ""}, "question"),
        (f"{poll}/poll_choices", {"text": "a"}, {}, "text"),
        (f"{poll}/poll_sessions", {"course_id": 1}, {"course_id": 0}, "course_id"),
        (COURSE, {"user_id": 1}, {"user_id": " x"}, "user_id"),
    ):
        name = path.rpartition("/")[2]
        response = await api.post(path, json={name: [good, bad, good, bad]})
        await refused(response, 400, [f"{name}[1].{member}", f"{name}[3].{member}"])
        most = 1_000 if path == COURSE else 100
        response = await api.post(path, json={name: [good] * (most + 1)})
        await refused(response, 400, [name])
    assert everything(raw) == before


async def test_choices_beyond_the_hundredth_refuse_all_of_them(api: Client, raw: Raw) -> None:
    poll = await make_poll(api)
    path = f"{API}/polls/{poll['id']}/poll_choices"
    await post(api, path, *[{"text": "a"}] * 98)
    before = everything(raw)
    response = await api.post(path, json={"poll_choices": [{"text": "b"}] * 3})
    problem = await refused(response, 409)
    assert problem["code"] == "limit_reached"
    assert everything(raw) == before
    assert [one["id"] for one in await post(api, path, *[{"text": "c"}] * 2)] == [99, 100]


async def test_a_course_that_the_caller_does_not_teach_refuses_all_sessions(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    teacher = await teacher_of(api, make_token, course_id=1)
    poll = await make_poll(api, headers=teacher)
    path = f"{API}/polls/{poll['id']}/poll_sessions"
    body = {"poll_sessions": [{"course_id": 1}, {"course_id": 2}]}
    await refused(await api.post(path, json=body, headers=teacher), 403)
    assert raw.sessions.count_documents({}) == 0


async def test_more_than_one_object_in_a_put_is_refused(api: Client, raw: Raw) -> None:
    poll = await make_poll(api)
    path = f"{API}/polls/{poll['id']}"
    await make_choice(api, poll["id"], text="yes")
    session = await make_session(api, poll["id"])
    before = everything(raw)
    for target, name, member in (
        (path, "polls", {"question": "new?"}),
        (f"{path}/poll_choices/1", "poll_choices", {"text": "new"}),
        (f"{path}/poll_sessions/{session['id']}", "poll_sessions", {"has_public_results": True}),
    ):
        await refused(await api.put(target, json={name: [member] * 2}), 400, [name])
        [(key, value)] = member.items()
        fields = [(f"{name}[][{key}]", str(value))] * 2
        await refused(await api.put(target, data=fields), 400, [name])
    assert everything(raw) == before


async def test_a_key_covers_all_objects(api: Client, raw: Raw) -> None:
    poll = f"{API}/polls/{(await make_poll(api, 'yes'))['id']}"
    for number, (path, one, other) in enumerate(
        (
            (f"{API}/polls", {"question": "a?"}, {"question": "b?"}),
            (f"{poll}/poll_choices", {"text": "a"}, {"text": "b"}),
            (f"{poll}/poll_sessions", {"course_id": 1}, {"course_id": 2}),
            (COURSE, {"user_id": 1}, {"user_id": 2}),
        )
    ):
        key = {"Idempotency-Key": f"key-{number}"}
        made = await post(api, path, one, other, headers=key)
        assert len(made) == 2
        before = everything(raw)
        assert await post(api, path, one, other, headers=key) == made
        name = path.rpartition("/")[2]
        for objects in ([one], [other, one], [one, other, one]):
            await refused(await api.post(path, json={name: objects}, headers=key), 409)
        assert everything(raw) == before


async def test_where_one_of_several_polls_cannot_be_stored_none_is(
    store: Store, clock: Clock, raw: Raw
) -> None:
    def definitions(*ids: str) -> list[PollDefinition]:
        loaded: list[PollDefinition] = NEW_POLL.load([{"question": "?"}] * len(ids), many=True)
        for one, poll_id in zip(loaded, ids, strict=True):
            one["id"] = poll_id
        return loaded

    one, other, third = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
    teacher = AnyTeacher(7, lambda _: None)
    await store.polls.add_own(definitions(other), teacher, owner_id=7, now=clock())
    before = everything(raw)
    with pytest.raises(IdTaken):
        await store.polls.add_own(definitions(one, other, third), teacher, owner_id=7, now=clock())
    assert everything(raw) == before
    await store.polls.add_own(definitions(one, third), teacher, owner_id=7, now=clock())
    assert raw.containers.count_documents({}) == raw.addresses.count_documents({}) == 3


# Parameters of the URL ---------------------------------------------------------------------------


async def test_the_query_of_a_post_or_put_is_read_like_a_form_and_the_body_wins(
    api: Client,
) -> None:
    polls = f"{API}/polls"
    made = await call(api, "POST", polls, params={"polls[][question]": "Tea?"})
    path = f"{polls}/{made['polls'][0]['id']}"

    async def put(query: Json, **request: Any) -> tuple[str, str]:
        [poll] = (await call(api, "PUT", path, params=query, **request))["polls"]
        return poll["question"], poll["description"]

    both = {"poll[question]": "URL?", "poll[description]": "URL"}
    assert await put(both) == ("URL?", "URL")
    assert await put(both, json={"poll": {"question": "JSON?"}}) == ("JSON?", "URL")
    assert await put(both, json={"polls": [{"question": None}]}) == ("URL?", "URL")
    form = {"polls[][description]": "form"}
    assert await put(both, data=form) == ("URL?", "form")
    assert await put({"poll[description]": "", "poll[question]": ""}) == ("URL?", "")
    json_without_body = {"Content-Type": "application/json"}
    assert await put(both, headers=json_without_body) == ("URL?", "URL")


async def test_one_object_of_the_query_completes_each_of_the_body(api: Client) -> None:
    poll = f"{API}/polls/{(await make_poll(api))['id']}"
    query = {"poll_choices[][text]": "URL", "poll_choices[][position]": "7"}
    objects = [{"is_correct": True}, {"text": "b"}, {"position": 9, "text": None}]
    made = await post(api, f"{poll}/poll_choices", *objects, params=query)
    assert [(one["text"], one["position"], one["is_correct"]) for one in made] == [
        ("URL", 7, True),
        ("b", 7, False),
        ("URL", 9, False),
    ]
    several = [("poll_sessions[][course_id]", "1"), ("poll_sessions[][course_id]", "2")]
    sections = [{"course_section_id": 5}, {"course_id": 3}, {"course_id": 4}]
    made = await post(api, f"{poll}/poll_sessions", *sections, params=several)
    assert [(one["course_id"], one["course_section_id"]) for one in made] == [
        (1, 5),
        (3, None),
        (4, None),
    ]


async def test_choices_in_the_body_win_over_both_forms_of_them_in_the_query(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, allowSelectionOfMultipleOptions=True, allowRevote=True)
    one, many = "poll_submission[poll_choice_id]", "poll_submission[poll_choice_ids][]"
    for query, objects, chosen in (
        ({one: "1"}, [{"poll_choice_ids": [2, 3]}], [2, 3]),
        ({many: "1"}, [{"poll_choice_id": 2}], [2]),
        ({one: "1"}, [{"poll_choice_ids": [2]}, {"poll_choice_id": 3}, {}], [2, 3, 1]),
    ):
        [shown] = await post(api, run.submissions, *objects, params=query)
        assert shown["poll_choice_ids"] == chosen


async def test_empty_items_of_a_form_are_absent(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw, allowSelectionOfMultipleOptions=True)
    ids = "poll_submission[poll_choice_ids][]"
    response = await api.post(run.submissions, data=[(ids, "")])
    await refused(response, 400, ["poll_submissions[0].poll_choice_id"])
    fields = [
        ("poll_submissions[]", ""),
        ("poll_submission[]", ""),
        (ids, ""),
        (ids, "2"),
        (ids, ""),
    ]
    made = await call(api, "POST", run.submissions, data=fields)
    assert made["poll_submissions"][0]["poll_choice_ids"] == [2]
    sessions = f"{run.poll_url}/poll_sessions"
    for name in ("poll_sessions[]", "poll_session", "poll_sessions[0]", "poll_sessions[][]"):
        await refused(await api.post(sessions, data=[(name, "")]), 400, ["poll_sessions"])
        bad = await api.post(sessions, data=[(name, "1")])
        assert bad.status == 400
        made = await call(
            api, "POST", sessions, data=[(name, ""), ("poll_session[course_id]", "1")]
        )
        assert len(made["poll_sessions"]) == 1


async def test_a_bad_parameter_is_refused_like_a_bad_field(api: Client, raw: Raw) -> None:
    polls = f"{API}/polls"
    for query, field in (
        ({"polls[][question]": ""}, "polls[0].question"),
        ({"polls[question": "a"}, "polls[question"),
        ({"poll": "a"}, "poll"),
        ({"other[question]": "a"}, "polls"),
    ):
        await refused(await api.post(polls, params=query), 400, [field])
    for query_string in ("polls[][question]=%ff", "polls[][%ff]=a"):
        await refused(await api.post(f"{polls}?{query_string}"), 400, ["query"])
    assert everything(raw) == []
