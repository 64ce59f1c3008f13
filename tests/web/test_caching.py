"""Caches and conditional requests: what may be kept, and 304 exactly where nothing has changed."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientResponse

from service.rules import views
from service.web import conditional
from service.web.store_key import STORE
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    OPTIONS,
    Run,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    seed_ballots,
    submit,
    vote,
)
from tests.support.seeds import ISSUE, UNKNOWN, a_poll, refused

STRING_IDS = {"Accept": "application/json+canvas-string-ids"}
HIDDEN: dict[str, Any] = {"resultsVisibility": "private", "allowRevote": True}
END = "2126-01-31T13:00:00Z"
AFTER_CLOSE: dict[str, Any] = {
    "resultsVisibility": "afterClose",
    "closePollOnEndDate": True,
    "endDate": END,
}

Headers = dict[str, str]


class Place(NamedTuple):
    """One of the GETs whose answers carry a tag."""

    path: str
    query: dict[str, str]


def places(run: Run) -> dict[str, Place]:
    with_results = {"expand": "results"}
    return {
        "all polls": Place("/rest", run.place),
        "all polls with results": Place("/rest/polls", {**run.place, **with_results}),
        "one poll": Place("/rest/polls", run.query),
        "one poll with results": Place("/rest", {**run.query, **with_results}),
        "results": Place("/rest", {**run.query, "type": "results"}),
        "a poll": Place(run.poll_url, {}),
        "choices": Place(f"{run.poll_url}/poll_choices", {"per_page": "2"}),
        "a choice": Place(f"{run.poll_url}/poll_choices/1", {}),
        "a session": Place(run.url, {}),
    }


async def get(api: Client, place: Place, who: Headers | None = None, tag: str = "") -> Any:
    headers = {**(who or {}), **({"If-None-Match": tag} if tag else {})}
    return await api.get(place.path, params=place.query, headers=headers)


async def tags(api: Client, run: Run, who: Headers | None = None) -> dict[str, str]:
    """The tag of every place that this caller may read."""
    found = {}
    for name, place in places(run).items():
        answer = await get(api, place, who)
        if answer.status == 200:
            found[name] = answer.headers["ETag"]
    return found


def moved(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize("kind", places(Run("", 0, 0, {})))
async def test_an_unchanged_answer_is_a_304_without_a_body_and_without_rendering(
    api: Client, raw: Raw, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1"))
    place = places(run)[kind]
    first = await get(api, place)
    assert first.status == 200
    tag = first.headers["ETag"]
    bare = tag.strip('"')
    if kind == "results":  # which are made to know their revision, and not encoded
        monkeypatch.delattr(conditional, "json_response")
    else:
        for name in ("content_poll", "content_results", "poll", "choice", "session"):
            monkeypatch.delattr(views, name)
    for sent in (tag, f"W/{tag}", f'"{bare}-gzip"', f'"x", W/"{bare}--gzip"', f'"{bare}-br"', "*"):
        for method in (api.get, api.head):
            answer = await method(place.path, params=place.query, headers={"If-None-Match": sent})
            assert answer.status == 304
            assert await answer.read() == b""
            assert answer.headers["ETag"] == tag
            assert answer.headers["Cache-Control"] == "private, no-cache"
            assert answer.headers["Vary"] == "Accept, Authorization"
            assert not {"Content-Type", "Content-Length"} & answer.headers.keys()
    monkeypatch.undo()
    for sent in ('"x"', f"{bare}", f'"{bare}x"', f'"{bare}', '""'):
        again = await get(api, place, tag=sent)
        assert (again.status, await again.read()) == (200, await first.read())


async def test_rights_come_before_a_304(api: Client, raw: Raw, make_token: TokenMaker) -> None:
    run = await content_run(api, raw, **HIDDEN)
    nobody = await make_token(user_id=8, workspaces=["OTHER"])
    for place in places(run).values():
        await refused(await get(api, place, nobody, "*"), 403)
        await refused(await get(api, place, {"Authorization": "Bearer x"}, "*"), 403)
    reader = await make_token(user_id=8, actions=["read"])
    await refused(await get(api, places(run)["results"], reader, "*"), 403)
    await answered(await api.delete("/rest", params=run.query))
    for kind in ("one poll", "results", "a poll", "choices", "a choice", "a session"):
        await refused(await get(api, places(run)[kind], tag="*"), 404)


Change = Callable[[Client, Run, Clock], Awaitable[Any]]

OF_RESULTS = {"all polls with results", "one poll with results", "results", "a session"}
OF_POLLS = {"all polls", "all polls with results", "one poll", "one poll with results"}
OF_CHOICES = {"choices", "a choice"}


async def _redefine(api: Client, run: Run, _: Clock) -> None:
    body = a_poll(options=OPTIONS, title="Coffee?", settings={"allowRevote": True})
    await answered(await api.put("/rest", params=run.query, json=body))


async def _close(api: Client, run: Run, _: Clock) -> None:
    await answered(await api.get(f"{run.url}/close"))


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "a vote": (lambda api, run, _: vote(api, run, "2"), OF_RESULTS | {"a poll"}),
    "another vote": (lambda api, run, _: vote(api, run, "3", acting=9), OF_RESULTS | {"a poll"}),
    "a close": (_close, OF_RESULTS),
    "an edit": (_redefine, OF_POLLS | OF_CHOICES | {"a poll"}),
    "a setting": (
        lambda api, run, _: change(api, run, hideAbsoluteNumbers=True),
        OF_POLLS | OF_CHOICES | {"a poll"},
    ),
    "another poll": (
        lambda api, run, _: api.post("/rest", params=run.place, json=a_poll()),
        {"all polls", "all polls with results"},
    ),
    "nothing": (lambda api, run, _: get(api, places(run)["a session"]), set()),
}


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_change_moves_the_tags_of_the_answers_that_show_it(
    api: Client, raw: Raw, clock: Clock, kind: str
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    before = await tags(api, run)
    assert before.keys() == places(run).keys()
    make, expected = CHANGES[kind]
    await make(api, run, clock)
    assert moved(before, await tags(api, run)) == expected


async def test_an_end_date_that_passes_moves_the_tags_of_what_it_closes(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, **AFTER_CLOSE)
    reader = await make_token(user_id=8, actions=["read"])
    managed, read = await tags(api, run), await tags(api, run, reader)
    clock.advance(minutes=59, seconds=59)
    assert await tags(api, run, reader) == read
    clock.advance(seconds=1)
    assert moved(managed, await tags(api, run)) == OF_RESULTS
    assert moved(read, await tags(api, run, reader)) == OF_RESULTS


async def test_a_tag_does_not_move_with_votes_that_its_caller_is_not_shown(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    """It would tell how many there are, and when each was cast."""
    run = await content_run(api, raw, **HIDDEN)
    reader = await make_token(user_id=8, actions=["read"])
    managed, read = await tags(api, run), await tags(api, run, reader)
    await answered(await vote(api, run, "1", acting=9))
    assert moved(managed, await tags(api, run)) == OF_RESULTS | {"a poll"}
    assert await tags(api, run, reader) == read


async def test_where_counts_are_hidden_a_tag_moves_with_the_shares_alone(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, hideAbsoluteNumbers=True)
    reader = await make_token(user_id=8, actions=["read"])
    await answered(await vote(api, run, "1", acting=9))
    managed, read = await tags(api, run), await tags(api, run, reader)
    await answered(await vote(api, run, "1", acting=10))
    assert moved(managed, await tags(api, run)) == OF_RESULTS | {"a poll"}
    assert await tags(api, run, reader) == read
    await answered(await vote(api, run, "2", acting=11))
    assert moved(read, await tags(api, run, reader)) == OF_RESULTS


async def test_callers_that_are_shown_other_things_have_other_tags(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw, public=True, saveParticipantNames=False)
    place = places(run)["a session"]
    callers = []
    for user_id in (8, 9, 10):
        await enroll(api, user_id)
        callers.append(await make_token(user_id=user_id))
    first, second, none = callers
    await answered(await submit(api, run, 1, who=first))
    await answered(await submit(api, run, 1, who=second))
    seen = [await (await get(api, place, who)).text() for who in callers]
    assert len(set(seen)) == 3  # each is shown which submission is their own
    assert len({(await get(api, place, who)).headers["ETag"] for who in callers}) == 3
    tag = (await get(api, place, none)).headers["ETag"]
    assert (await get(api, place, none, tag)).status == 304
    assert (await get(api, place, first, tag)).status == 200
    poll = places(run)["a poll"]
    assert (await get(api, poll)).headers["ETag"] != (await get(api, poll, none)).headers["ETag"]


async def test_a_revote_of_the_same_count_changes_the_tag_where_submissions_are_shown(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, public=True, allowRevote=True)
    await enroll(api, 8)
    await answered(await submit(api, run, 1, acting=8))
    await answered(await submit(api, run, 2, acting=9))
    before = await tags(api, run)
    await answered(await submit(api, run, 2, acting=8))
    await answered(await submit(api, run, 1, acting=9))
    assert moved(before, await tags(api, run)) == {"a session"}


@pytest.mark.parametrize("named", [False, True])
async def test_a_session_that_looks_the_same_after_revotes_has_the_same_tag(
    api: Client, raw: Raw, make_token: TokenMaker, named: bool
) -> None:
    """Else its readers would learn of revotes that nothing shows, and count them."""
    run = await course_run(api, raw, public=True, allowRevote=True, saveParticipantNames=named)
    await enroll(api, 8)
    who = await make_token(user_id=8)
    await answered(await submit(api, run, 2, acting=9))
    for place in (places(run)["a session"], places(run)["a poll"]):
        before = [await get(api, place), await get(api, place, who)]
        for choice in (2, 1, 2):
            await answered(await submit(api, run, choice, acting=9))
        after = [await get(api, place), await get(api, place, who)]
        assert [await one.text() for one in before] == [await one.text() for one in after]
        assert [one.headers["ETag"] for one in before] == [one.headers["ETag"] for one in after]


async def test_a_session_with_too_many_submissions_to_show_has_the_tag_of_its_results(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, public=True, allowRevote=True)
    seed_ballots(raw, run, 1001)
    await answered(await submit(api, run, 2, acting=8))
    before = await tags(api, run)
    await answered(await submit(api, run, 2, acting=8))
    assert await tags(api, run) == before
    await answered(await submit(api, run, 3, acting=8))
    assert moved(before, await tags(api, run)) == {"a session", "a poll"}


async def test_string_ids_are_another_answer_with_another_tag(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    for kind in ("a poll", "choices", "a choice", "a session"):
        place = places(run)[kind]
        tag = (await get(api, place)).headers["ETag"]
        other = await get(api, place, STRING_IDS, tag)
        assert other.status == 200
        assert other.headers["ETag"] != tag
        assert (await get(api, place, STRING_IDS, other.headers["ETag"])).status == 304


async def test_an_answer_of_another_store_is_not_taken_for_the_same(api: Client, raw: Raw) -> None:
    """As after a store was thrown away: numbers and versions begin again, and ids may be kept."""
    seen: list[dict[str, str]] = []
    for title, poll_id in (("Tea?", UNKNOWN), ("Coffee?", UNKNOWN), ("Coffee?", None)):
        body = a_poll(title=title, **({"id": poll_id} if poll_id else {}))
        poll = await answered(await api.post("/rest", params=ISSUE, json=body))
        run = Run(poll["id"], 1, 1, ISSUE)
        seen.append(await tags(api, run))
        for name in ("containers", "addresses", "sessions", "sequences", "attempts"):
            raw[name].delete_many({})
    same_id, other_id = moved(*seen[:2]), moved(*seen[1:])
    assert same_id == OF_POLLS | OF_CHOICES | {"a poll"}  # the others are the same to the letter
    assert other_id == OF_POLLS | OF_CHOICES | {"a poll", "results"}


async def test_counts_and_shares_of_the_same_number_have_other_tags(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    reader = await make_token(user_id=8, actions=["read"])
    seed_ballots(raw, run, 100)
    before = await tags(api, run, reader)
    await change(api, run, hideAbsoluteNumbers=True)
    assert moved(before, await tags(api, run, reader)) >= OF_RESULTS


async def test_an_answer_without_a_tag_is_kept_by_nobody(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    made = await answered(await api.post("/api/v1/polls", json={"poll": {"question": "?"}}))
    own = f"/api/v1/polls/{made['polls'][0]['id']}"
    for answer in (
        await vote(api, run, "1"),
        await api.put("/rest", params=run.query, json=a_poll(options=OPTIONS)),
        await api.get("/rest", params=run.votes),
        await api.get("/api/v1/polls"),
        await api.get(run.submissions),
        await api.get(f"{run.url}/export", params={"format": "csv"}),
        await api.get(f"{run.url}/close"),
        await api.delete(own),
        await api.get("/api/v1/users/self"),
        *[await anonymous.get(path) for path in ("/healthz", "/readyz", "/metrics")],
    ):
        assert answer.status in (200, 204)
        require_common(answer)
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Vary" not in answer.headers
    for status, path in ((403, "/rest"), (404, "/nowhere"), (404, "/docs/nothing")):
        answer = await anonymous.get(path)
        assert (answer.status, answer.headers["Cache-Control"]) == (status, "no-store")
        require_common(answer)
    for path in ("/docs", "/docs/start.js", "/openapi.json"):
        answer = await anonymous.get(path)
        assert answer.headers["Cache-Control"] in ("no-cache", "public, max-age=86400")
        require_common(answer)


def require_common(answer: ClientResponse) -> None:
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "polls"


async def test_a_session_whose_submissions_are_not_shown_does_not_read_them(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await course_run(api, raw)
    await enroll(api, 8)
    who = await make_token(user_id=8)
    await answered(await submit(api, run, 1, who=who))
    monkeypatch.delattr(type(api.app[STORE].sessions), "with_ballots")
    tag = (await get(api, places(run)["a session"], who)).headers["ETag"]
    assert (await get(api, places(run)["a session"], who, tag)).status == 304
