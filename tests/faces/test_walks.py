"""Walking a list page by page while it changes: no row is repeated, none is skipped."""

from collections.abc import Callable
from typing import Any

from yarl import URL

from service.web.store_key import STORE
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import answered, content_run, seed_ballots, submitted
from tests.support.polling import API, call, enroll, make_choice, make_poll, make_session


async def walk(
    api: Client, path: str, per_page: int, between: Callable[[int, Any], Any]
) -> list[Any]:
    """All ids of a list by ``next``; ``between(page, last id)`` is awaited after each page."""
    seen: list[Any] = []
    url = URL(path).with_query(per_page=per_page)
    for page in range(200):
        async with api.get(url) as answer:
            assert answer.status == 200, await answer.text()
            (rows,) = (await answer.json()).values()
            assert len(rows) == per_page or "next" not in answer.links
            seen += [row["id"] for row in rows]
            if "next" not in answer.links:
                return seen
            url = URL(answer.links["next"]["url"]).relative()
        await between(page, seen[-1])
    raise AssertionError("This list has no end.")


def require_exact(seen: list[Any], stayed: set[Any]) -> None:
    assert len(seen) == len(set(seen)), "a row is repeated"
    assert stayed <= set(seen), "a row is skipped"


async def make_sessions(api: Client, raw: Raw, count: int) -> dict[str, Any]:
    """``count`` sessions of one poll with even ids; returns what one looks like."""
    await make_poll(api, "yes")
    await make_session(api, 1)
    one = raw.sessions.find_one({"_id": 1})
    assert one is not None
    raw.sessions.delete_one({"_id": 1})
    raw.sessions.insert_many([{**one, "_id": 2 * n} for n in range(1, count + 1)])
    return one


async def test_a_walk_over_a_thousand_sessions_that_come_and_go_is_exact(
    api: Client, raw: Raw
) -> None:
    one = await make_sessions(api, raw, 1000)
    gone: set[int] = set()

    async def between(page: int, last: int) -> None:
        """Takes away and adds on both sides of the place that the walk has reached."""
        for session_id in (last, last - 4, last + 6):
            gone.add(session_id)
            raw.sessions.delete_one({"_id": session_id})
        for session_id in (last - 3, last - 5, last + 3, 3001 + 2 * page):
            raw.sessions.insert_one({**one, "_id": session_id})

    seen = await walk(api, f"{API}/polls/1/poll_sessions", 40, between)
    require_exact(seen, {2 * n for n in range(1, 1001)} - gone)
    assert seen == sorted(seen)
    assert len(gone) > 70


async def test_a_walk_over_the_sessions_of_ones_courses_is_exact(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    one = await make_sessions(api, raw, 300)
    await enroll(api, 9, 1)
    student = await make_token(user_id=9)
    api.session.headers.update(student)
    gone: set[int] = set()

    async def between(_: int, last: int) -> None:
        for session_id in (last, last + 2):
            gone.add(session_id)
            raw.sessions.update_one({"_id": session_id}, {"$set": {"is_published": True}})
        raw.sessions.insert_one({**one, "_id": last - 1})

    seen = await walk(api, f"{API}/poll_sessions/closed", 25, between)
    require_exact(seen, {2 * n for n in range(1, 301)} - gone)

    async def shorten(_: int, last: int) -> None:
        raw.sessions.delete_one({"_id": last})

    opened = await walk(api, f"{API}/poll_sessions/opened", 10, shorten)
    assert opened == sorted(gone)


async def test_a_walk_over_polls_from_the_newest_is_exact(api: Client, raw: Raw) -> None:
    await make_poll(api)
    one = raw.containers.find_one()
    assert one is not None
    raw.containers.delete_one({"_id": one["_id"]})

    def poll(number: int) -> dict[str, Any]:
        polls = [{**one["polls"][0], "id": f"poll-{number}", "number": number}]
        key = f"users\x1f0\x1f{number}"
        return {**one, "_id": key, "container": str(number), "number": number, "polls": polls}

    raw.containers.insert_many([poll(2 * n) for n in range(1, 301)])
    gone: set[int] = set()

    async def between(page: int, last: int) -> None:
        for number in (last, last + 4, last - 6):
            gone.add(number)
            raw.containers.delete_one({"number": number})
        for number in (last + 3, last - 3, 1001 + 2 * page):
            raw.containers.insert_one(poll(number))

    seen = await walk(api, f"{API}/polls", 20, between)
    require_exact(seen, {2 * n for n in range(1, 301)} - gone)
    assert seen == sorted(seen, reverse=True)


async def test_a_walk_over_choices_is_exact_also_among_equal_positions(
    api: Client, raw: Raw
) -> None:
    names = [str(n) for n in range(1, 70)] + ["a-b", "007"]
    options = [
        {"id": name, "title": name, "order": (place % 5) - 2} for place, name in enumerate(names)
    ]
    params = {"type": "polls", "workspace": "PLAT", "content": "PLAT-1"}
    await call(api, "POST", "/rest", params=params, json={"title": "Tea?", "options": options})
    path = f"{API}/polls/1/poll_choices"
    gone: set[int | str] = set()

    async def between(page: int, last: int | str) -> None:
        gone.add(last)
        await call(api, "DELETE", f"{path}/{last}", 204)
        for position in (-9, 0, 9):
            await make_choice(api, 1, text=f"new {page}", position=position)

    seen = await walk(api, path, 10, between)
    there: set[int | str] = {int(name) for name in names[:-2]} | {"a-b", "007"}
    require_exact(seen, there - gone)
    stored = raw.containers.find_one({"polls.number": 1})
    assert stored is not None
    assert not {str(choice) for choice in gone} & {
        option["id"] for option in stored["polls"][0]["options"]
    }


async def test_a_walk_over_submissions_is_exact_while_votes_come_change_and_go(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    seed_ballots(raw, run, 300)
    seeded = {ballot["number"]: ballot["_id"] for ballot in raw.ballots.find()}
    one = raw.ballots.find_one({}, {"_id": 0})
    assert one is not None
    for number in list(seeded):  # each with a neighbour
        seeded[number + 1] = f"{run.session}:next to {number}"
        raw.ballots.insert_one({**one, "_id": seeded[number + 1], "number": number + 1})
    early: dict[int, int] = {}
    for user in range(1, 21):
        await submitted(api, run, 1, acting=user)
        own_id = api.app[STORE].ballots.id_of(run.session, user)
        [ballot] = raw.ballots.find({"_id": own_id})
        early[user] = ballot["number"]
    gone: set[int] = set()

    def add(number: int) -> None:
        if raw.ballots.find_one({"number": number}) is None:
            raw.ballots.insert_one({**one, "_id": f"{run.session}:new {number}", "number": number})

    async def between(page: int, last: int) -> None:
        # New votes have random numbers, most of them beyond those that were seeded.
        await submitted(api, run, 2, acting=1_000 + page)
        # A vote that is changed keeps its number; one that is withdrawn takes it along.
        await submitted(api, run, 3, acting=page % 10 + 1)
        if page < 10:
            user = page + 11
            gone.add(early[user])
            params = {**run.votes, "as_user_id": str(user)}
            await answered(await api.delete("/rest", params=params))
        # Close to the place that the walk has reached, on both sides of it.
        after = [number for number in sorted(seeded) if number > last + 1][:1]
        for number in {last, *after} & set(seeded):
            gone.add(number)
            raw.ballots.delete_one({"_id": seeded[number]})
        for number in (last - 1, last + 1, last + 2):
            add(number)

    seen = await walk(api, run.submissions, 15, between)
    require_exact(seen, (set(seeded) | set(early.values())) - gone)
    assert seen == sorted(seen)
    assert len(gone) > 30
