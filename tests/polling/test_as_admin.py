"""``as_admin=true``: the rows of all users, for admins (docs/api.md, section 4)."""

import re

import pytest

from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import answered, content_run
from tests.support.polling import (
    API,
    call,
    enroll,
    listed,
    make_poll,
    make_session,
    teacher_of,
)

LISTS = (f"{API}/polls", f"{API}/poll_sessions/opened", f"{API}/poll_sessions/closed")
NEXT = re.compile(r'<(http[^>]+)>; rel="next"')


async def walked(api: Client, path: str) -> list[int]:
    """The ids of all pages, by their links."""
    found: list[int] = []
    while True:
        answer = await api.get(path)
        (rows,) = (await answered(answer)).values()
        found += [row["id"] for row in rows]
        if not (link := NEXT.search(answer.headers["Link"])):
            return found
        path = link[1].removeprefix(str(api.make_url("")).rstrip("/"))


async def test_an_admin_lists_the_polls_of_all_users_newest_first(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    teacher = await teacher_of(api, make_token)
    made = [(await make_poll(api, headers=who))["id"] for who in (teacher, None, teacher)]
    made.append((await content_run(api, raw)).number)
    url = f"{API}/polls?as_admin=true"
    assert await walked(api, f"{url}&per_page=3") == made[::-1]
    assert [poll["id"] for poll in await listed(api, f"{url}&page=2&per_page=3")] == made[:1]
    [*_, first] = await listed(api, url)
    assert (first["user_id"], first["total_results"]) == (7, {})
    for not_asked in ("false", "0", ""):
        assert await walked(api, f"{API}/polls?as_admin={not_asked}") == [made[1]]


async def test_an_admin_lists_the_sessions_of_all_courses(
    api: Client, raw: Raw, clock: Clock
) -> None:
    poll = await make_poll(api, "yes")
    await content_run(api, raw)
    ended = await content_run(api, raw, closePollOnEndDate=True, endDate="2126-01-31T13:00:00Z")
    courses = (3, 1, 2, 1, 3)
    made = [await make_session(api, poll["id"], course_id=course) for course in courses]
    ids = [session["id"] for session in made]
    over = await make_session(api, ended.number, course_id=2)
    for poll_id, number in ((poll["id"], ids[1]), (poll["id"], ids[0]), (ended.number, over["id"])):
        await call(api, "PUT", f"{API}/polls/{poll_id}/poll_sessions/{number}/open")
    opened, closed = (f"{path}?as_admin=true&per_page=1" for path in LISTS[1:])
    assert await walked(api, opened) == [ids[1], over["id"], ids[0]]
    clock.advance(hours=1)
    assert await walked(api, opened) == [ids[1], ids[0]]
    assert await walked(api, closed) == [ids[3], ids[2], over["id"], ids[4]]
    for shown in await listed(api, f"{LISTS[2]}?as_admin=true"):
        assert not shown["is_published"]


@pytest.mark.parametrize("path", LISTS)
async def test_all_rows_are_for_admins(api: Client, make_token: TokenMaker, path: str) -> None:
    await enroll(api, 7, 1)
    teacher = await teacher_of(api, make_token)
    for who in (teacher, await make_token(user_id=9)):
        await call(api, "GET", f"{path}?as_admin=true", 403, headers=who)
        await call(api, "GET", f"{path}?as_admin=false", headers=who)
    await call(api, "GET", f"{path}?as_admin=true&as_user_id=7", 403)
    problem = await call(api, "GET", f"{path}?as_admin=yes", 400)
    assert [fault["field"] for fault in problem["errors"]] == ["as_admin"]
    if "sessions" in path:
        await call(api, "GET", f"{path}?as_admin=true&page=bookmark:MQ", 400)
