"""The order of checks (docs/api.md, section 1): route, token, query, rights, body, the rest."""

import pytest

from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import answered, content_run, course_run, vote
from tests.support.seeds import ISSUE, UNKNOWN, a_poll, document, everything, refused, seed

POLL = document(1)
QUERY = {**ISSUE, "pollId": POLL["id"]}
NO_QUERY = ["type", "workspace", "content"]


@pytest.mark.parametrize(
    "path", ["/index.html", "/rest//", "/rest/x", "/x1", "/x1/", "/x1/a/b", "/REST", "/rest%2F"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
async def test_an_unknown_route_is_not_found_even_without_a_token(
    anonymous: Client, method: str, path: str
) -> None:
    await refused(await anonymous.request(method, path), 404)


@pytest.mark.parametrize("path", ["/rest", "/x1/name"])
@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_another_method_is_not_allowed_even_without_a_token(
    anonymous: Client, method: str, path: str
) -> None:
    response = await anonymous.request(method, path)
    await refused(response, 405)
    allowed = {name.strip() for name in response.headers["Allow"].split(",")}
    assert allowed == {"GET", "HEAD", "POST", "PUT", "DELETE"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_the_token_comes_before_the_query(anonymous: Client, method: str) -> None:
    await refused(await anonymous.request(method, "/rest?type=nonsense"), 403)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_the_query_comes_before_the_rights(
    api: Client, make_token: TokenMaker, method: str
) -> None:
    headers = await make_token(actions=[], workspaces=[])
    missing: list[str | None] = [*NO_QUERY]
    if method in ("PUT", "DELETE"):
        missing.append("pollId")
    await refused(await api.request(method, "/rest", headers=headers), 400, missing)


async def test_the_query_comes_before_the_body(api: Client) -> None:
    await refused(await api.post("/rest", data=b"no json"), 400, [*NO_QUERY])
    await refused(await api.put("/rest", params=ISSUE, data=b"no json"), 400, ["pollId"])


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
async def test_the_rights_come_before_the_poll(
    api: Client, make_token: TokenMaker, method: str
) -> None:
    headers = await make_token(workspaces=["DOCS"])
    query = {**ISSUE, "pollId": UNKNOWN}
    await refused(await api.request(method, "/rest", params=query, headers=headers), 403)


@pytest.mark.parametrize("media", ["application/json", "text/plain"])
async def test_the_rights_come_before_the_body(
    api: Client, raw: Raw, make_token: TokenMaker, media: str
) -> None:
    seed(raw, ISSUE, POLL)
    headers = {**await make_token(workspaces=["DOCS"]), "Content-Type": media}
    for method in ("POST", "PUT"):
        response = await api.request(
            method, "/rest", params=QUERY, headers=headers, data=b"no json"
        )
        await refused(response, 403)


@pytest.mark.parametrize("media", ["application/json", "text/plain"])
async def test_the_poll_comes_before_the_body(api: Client, raw: Raw, media: str) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    query = {**ISSUE, "pollId": UNKNOWN}
    headers = {"Content-Type": media}
    await refused(await api.put("/rest", params=query, headers=headers, data=b"no json"), 404)
    assert everything(raw) == before


async def test_the_owner_comes_before_the_body(api: Client, raw: Raw) -> None:
    seed(raw, ISSUE, POLL)
    query = {**QUERY, "as_user_id": "8"}
    await refused(await api.put("/rest", params=query, data=b"no json"), 403)


async def test_the_body_comes_before_the_conflict(api: Client, raw: Raw) -> None:
    seed(raw, ISSUE, POLL)
    body = a_poll(id=POLL["id"], title="")
    await refused(await api.post("/rest", params=ISSUE, json=body), 400, ["title"])
    body["title"] = "Tea?"
    await refused(await api.post("/rest", params=ISSUE, json=body), 409)


async def test_a_bad_vote_comes_before_what_the_poll_contradicts(api: Client, raw: Raw) -> None:
    closed = await content_run(api, raw)
    await answered(await api.get(f"{closed.url}/close"))
    without_votes = await course_run(api, raw)
    for run in (closed, without_votes):
        for body in (b"no json", b'{"optionIds": 1}'):
            headers = {"Content-Type": "application/json"}
            response = await api.post("/rest", params=run.votes, data=body, headers=headers)
            assert (response.status, response.content_type) == (400, "application/problem+json")
        response = await api.post(
            "/rest", params=run.votes, data=b"x", headers={"Content-Type": "a/b"}
        )
        await refused(response, 415)
    for run in (closed, without_votes):
        await refused(await vote(api, run, "1"), 409)


async def test_a_bad_body_comes_before_if_match(api: Client, raw: Raw) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    outdated = {"If-Match": '"9-9"'}
    for body, field in (
        (a_poll(title=""), "title"),
        (a_poll(id=UNKNOWN), "id"),
        (a_poll(settings={"closePollOnEndDate": True}), "settings.closePollOnEndDate"),
    ):
        response = await api.put("/rest", params=QUERY, json=body, headers=outdated)
        await refused(response, 400, [field])
    await refused(await api.put("/rest", params=QUERY, json=a_poll(), headers=outdated), 412)
    assert everything(raw) == before


@pytest.mark.parametrize("name", ["as_user_id", "page", "per_page", "token", "access_token"])
@pytest.mark.parametrize("kind", ["polls", "votes", "results"])
async def test_a_parameter_that_is_given_twice_is_refused(
    api: Client, raw: Raw, name: str, kind: str
) -> None:
    seed(raw, ISSUE, POLL)
    pairs = [*{**QUERY, "type": kind}.items(), (name, "1"), (name, "1")]
    await refused(await api.get("/rest", params=pairs), 400, [name])
