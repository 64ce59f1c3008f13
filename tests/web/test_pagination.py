"""Pagination: valid parameters, and the links to other pages (docs/api.md, section 4)."""

import base64

import pytest
from yarl import URL

from tests.conftest import Client, Raw, TokenMaker
from tests.support.polling import API, call, enroll, listed, make_poll, make_session

ENROLLMENTS = f"{API}/courses/5/enrollments"
LISTS = (
    f"{API}/polls",
    f"{API}/polls/1/poll_choices",
    f"{API}/polls/1/poll_sessions",
    f"{API}/poll_sessions/opened",
    f"{API}/poll_sessions/closed",
    ENROLLMENTS,
)


async def links_of(
    api: Client, path: str, query: list[tuple[str, str]] | None = None, **headers: str
) -> dict[str, URL]:
    """The ``Link`` header of an answer, by ``rel``."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.get(path, params=query, headers=names) as answer:
        assert answer.status == 200, await answer.text()
        return {str(rel): URL(link["url"]) for rel, link in answer.links.items()}


async def rows_of(api: Client, path: str, **query: str) -> int:
    body = await call(api, "GET", path, params=query)
    return len(body if isinstance(body, list) else next(iter(body.values())))


def cursor(text: str) -> str:
    return "bookmark:" + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


async def make_enrollments(api: Client, raw: Raw, count: int) -> None:
    """One poll is created by the service, the others are copies of its document."""
    await enroll(api, 1, 5)
    one = raw.enrollments.find_one()
    assert one is not None
    raw.enrollments.insert_many(
        [{**one, "_id": f"5:{n}", "number": n, "user_id": n} for n in range(2, count + 1)]
    )


async def test_a_page_has_ten_rows_unless_asked_and_a_hundred_at_most(
    api: Client, raw: Raw
) -> None:
    await make_enrollments(api, raw, 105)
    sizes = {"": 10, "1": 1, "25": 25, "100": 100, "101": 100, "1000": 100, "9" * 30: 100}
    for asked, size in sizes.items():
        assert await rows_of(api, ENROLLMENTS, per_page=asked) == size
    assert await rows_of(api, ENROLLMENTS) == 10
    assert await rows_of(api, ENROLLMENTS, per_page="100", page="2") == 5


@pytest.mark.parametrize("path", LISTS)
async def test_a_page_that_cannot_be_is_refused_by_name(api: Client, path: str) -> None:
    await make_poll(api)
    wrong = [
        *[("per_page", size) for size in ("0", "00", "abc", "-1", "1.5", " 1", "٣", "1e2")],
        *[("page", page) for page in ("0", "abc", "-1", "1.5", "٣", str(2**53), "9" * 400)],
    ]
    for name, value in wrong:
        problem = await call(api, "GET", path, 400, params={name: value})
        assert [fault["field"] for fault in problem["errors"]] == [name]


@pytest.mark.parametrize("path", LISTS)
async def test_an_invalid_cursor_is_refused_on_every_list(api: Client, path: str) -> None:
    await make_poll(api, "yes")
    texts = ["", "null", "true", "0", "-1", "1.5", '"1"', "[]", "{}", "[1]", "nan", "[[1]]"]
    texts += [str(2**53), str(2**63), str(2**64), "9" * 400, "1e400", "[" * 5000, '["a", 1, 1]']
    texts += ['{"$gt": 0}', "[1, 1, 1]", "[1, 1, null]", '[1, "1", "1"]', "[1, 1, {}]"]
    other_lists = "5" if path.endswith("choices") else '[1, 1, "1"]'
    marks = [cursor(text) for text in [*texts, other_lists]]
    for mark in [*marks, "bookmark:", "bookmark:%", "bookmark:é", "bookmark:\udcff", "BOOKMARK:MQ"]:
        problem = await call(api, "GET", path, 400, params={"page": mark})
        assert [fault["field"] for fault in problem["errors"]] == ["page"]


@pytest.mark.parametrize("path", LISTS)
async def test_past_the_end_there_is_an_empty_list(api: Client, path: str) -> None:
    await make_poll(api, "yes")
    await make_session(api, 1, course_id=5)
    await enroll(api, 9, 5)
    # The newest poll comes first, so its list ends with number 1; choices go by position.
    after = {LISTS[0]: "1", LISTS[1]: '[2147483647, 1, "1"]'}.get(path, str(2**53 - 1))
    for page in ("2", "1000000", str(2**53 - 1), cursor(after)):
        for per_page in ("1", "100"):
            assert await rows_of(api, path, page=page, per_page=per_page) == 0


async def test_the_last_of_a_repeated_parameter_counts(api: Client, raw: Raw) -> None:
    await make_enrollments(api, raw, 12)
    query = [("per_page", "0"), ("per_page", "5"), ("page", "x"), ("page", "3")]
    body = await call(api, "GET", ENROLLMENTS, params=query)
    assert [one["id"] for one in body] == [11, 12]
    await call(api, "GET", ENROLLMENTS, 400, params=[*query, ("per_page", "0")])


async def test_links_lead_to_the_neighbours_as_far_as_they_exist(api: Client, raw: Raw) -> None:
    await make_enrollments(api, raw, 25)
    base = f"http://{api.host}:{api.port}{ENROLLMENTS}"
    first = await links_of(api, ENROLLMENTS)
    assert set(first) == {"current", "next", "first"}
    assert all(str(url).startswith(base) for url in first.values())
    assert all(url.query["per_page"] == "10" for url in first.values())
    assert first["current"] == first["first"] == URL(f"{base}?page=1&per_page=10")

    seen: list[int] = []
    url = first["first"]
    while True:
        answer = await api.get(url.relative())
        seen += [one["id"] for one in await answer.json()]
        if "next" not in answer.links:
            break
        url = URL(answer.links["next"]["url"])
    assert seen == list(range(1, 26))
    assert url == URL(answer.links["last"]["url"]) == URL(answer.links["current"]["url"])

    middle = await links_of(api, ENROLLMENTS, [("page", "2")])
    assert set(middle) == {"current", "next", "prev", "first"}
    assert (middle["prev"].query["page"], middle["current"].query["page"]) == ("1", "2")
    last = await links_of(api, ENROLLMENTS, [("page", "3")])
    assert set(last) == {"current", "prev", "first", "last"}
    assert last["last"].query["page"] == "3"
    assert "next" not in await links_of(api, ENROLLMENTS, [("page", "4")])


@pytest.mark.parametrize("path", LISTS)
async def test_every_list_has_links(api: Client, path: str) -> None:
    await make_poll(api)
    links = await links_of(api, path)
    assert {"current", "first"} <= set(links)
    assert links["current"].path == path


async def test_links_keep_the_other_parameters_and_drop_the_token(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    await make_enrollments(api, raw, 3)
    admin = await make_token(admin=True, user_id=3)
    secret = admin["Authorization"].removeprefix("Bearer ")
    query = [
        ("a", "1"),
        ("token", secret),
        ("include[]", "x & y=é"),
        ("access_token", secret),
        ("a", "2"),
        ("empty", ""),
        ("per_page", "1"),
    ]
    answer = await api.get(ENROLLMENTS, params=query, headers={"Authorization": ""})
    assert answer.status == 200
    assert secret not in answer.headers["Link"]
    for link in answer.links.values():
        kept = URL(link["url"]).query
        assert set(kept) == {"a", "include[]", "empty", "page", "per_page"}
        assert kept.getall("a") == ["1", "2"]
        assert kept["include[]"] == "x & y=é"
        assert kept.getall("per_page") == ["1"]


async def test_a_query_cannot_put_links_of_its_own_into_the_header(api: Client) -> None:
    evil = 'x>; rel="next",<http://evil.example/>; rel="next"\r\nX-Evil: 1'
    for name, value in ((evil, "1"), ("a", evil)):
        links = await links_of(api, ENROLLMENTS, [(name, value)])
        assert set(links) == {"current", "first"}
        assert {url.host for url in links.values()} == {api.host}
        assert (name, value) in links["current"].query.items()
    answer = await api.get(URL(f"{ENROLLMENTS}?a=%ff%fe", encoded=True))
    assert answer.status == 200
    assert "a=%FF%FE" in answer.headers["Link"]


async def test_the_links_of_an_acting_caller_keep_as_user_id(
    api: Client, make_token: TokenMaker
) -> None:
    await enroll(api, 7, 5, "TeacherEnrollment")
    teacher = await make_token(user_id=7)
    polls = [await make_poll(api, headers=teacher) for _ in range(2)]
    links = await links_of(api, f"{API}/polls", [("as_user_id", "7"), ("per_page", "1")])
    body = await call(api, "GET", str(links["next"].relative()))
    assert [poll["id"] for poll in body["polls"]] == [polls[0]["id"]]
    assert await listed(api, f"{API}/polls") == []
