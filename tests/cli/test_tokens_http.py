"""Rights on ``/rest``: where tokens are read, actions, workspaces, and acting for users."""

from datetime import timedelta
from typing import Any

import pytest

from service.web.store_key import STORE
from tests.conftest import ADMIN, Client, Clock, Raw, TokenMaker
from tests.support.seeds import (
    ISSUE,
    PAGE,
    a_poll,
    document,
    everything,
    refused,
    seed,
    stored_polls,
)

POLL = document(1, owner_id=7)
USERS = {"type": "polls", "workspace": "users", "content": "7", "container": "1"}
CALLS = [("GET", "read"), ("POST", "write"), ("PUT", "write"), ("DELETE", "write")]


def secret_of(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


async def call(
    client: Client, method: str, place: dict[str, str], headers: dict[str, str], **query: str
) -> Any:
    """The request of ``method``, on the seeded poll where it needs one."""
    params = {**place, **query}
    if method in ("PUT", "DELETE"):
        params["pollId"] = POLL["id"]
    body = a_poll() if method in ("POST", "PUT") else None
    return await client.request(method, "/rest", params=params, headers=headers, json=body)


@pytest.mark.parametrize("place", ["Bearer", "bearer", "BEARER ", "token", "access_token"])
async def test_a_token_is_taken_from_each_of_its_places(
    anonymous: Client, make_token: TokenMaker, place: str
) -> None:
    secret = secret_of(await make_token())
    in_header = place.strip().lower() == "bearer"
    headers = {"Authorization": f"{place} {secret}"} if in_header else {}
    query = {} if in_header else {place: secret}
    response = await anonymous.get("/rest", params={**ISSUE, **query}, headers=headers)
    assert response.status == 200
    assert await response.json() == []


@pytest.mark.parametrize(
    ("header", "token", "access_token", "status"),
    [
        pytest.param("Bearer good", "bad", "bad", 200, id="the header before the query"),
        pytest.param("Bearer bad", "good", "good", 403, id="a bad header before a good query"),
        pytest.param(None, "good", "bad", 200, id="token before access_token"),
        pytest.param(None, "bad", "good", 403, id="a bad token before a good access_token"),
        pytest.param("Basic good", "good", None, 200, id="another scheme is no token"),
        pytest.param("good", None, None, 403, id="no scheme at all"),
        pytest.param("Basic good", None, None, 403, id="only another scheme"),
    ],
)
async def test_the_first_place_that_has_a_token_counts(
    anonymous: Client,
    make_token: TokenMaker,
    header: str | None,
    token: str | None,
    access_token: str | None,
    status: int,
) -> None:
    good = secret_of(await make_token())
    headers = {"Authorization": header.replace("good", good)} if header is not None else {}
    given = {"token": token, "access_token": access_token}
    query = {name: text.replace("good", good) for name, text in given.items() if text is not None}
    response = await anonymous.get("/rest", params={**ISSUE, **query}, headers=headers)
    assert response.status == status
    if status == 403:
        problem = await refused(response, 403)
        assert good not in str(problem)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_without_a_token_nothing_is_done_and_no_challenge_is_sent(
    anonymous: Client, raw: Raw, method: str
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    response = await call(anonymous, method, ISSUE, {})
    await refused(response, 403)
    assert "WWW-Authenticate" not in response.headers
    assert everything(raw) == before


@pytest.mark.parametrize(
    "secret",
    ["secret-of-nobody", ADMIN.upper(), ADMIN[:-1], ADMIN + "x", "a" * 4000],
    ids=lambda s: s[:30],
)
async def test_an_unknown_token_is_refused_and_not_repeated(anonymous: Client, secret: str) -> None:
    query = {**ISSUE, "token": secret}
    assert secret not in str(await refused(await anonymous.get("/rest", params=query), 403))
    headers = {"Authorization": f"Bearer {secret}"}
    response = await anonymous.get("/rest", params=ISSUE, headers=headers)
    assert secret not in str(await refused(response, 403))


@pytest.mark.parametrize("secret", ["%FF%FE", "%00", "%E2%AD%90", "%", "$ne"])
async def test_a_token_of_any_bytes_is_refused_alike(anonymous: Client, secret: str) -> None:
    path = f"/rest?type=polls&workspace=PLAT&content=PLAT-1&token={secret}"
    await refused(await anonymous.get(path), 403)


async def test_a_revoked_token_is_refused(api: Client, raw: Raw, make_token: TokenMaker) -> None:
    headers = await make_token(name="lost")
    assert (await call(api, "POST", ISSUE, headers)).status == 200
    before = everything(raw)
    raw.tokens.update_one({"name": "lost"}, {"$set": {"revoked_at": POLL["created_at"]}})
    api.app[STORE].tokens.forget()
    for method in ("GET", "POST"):
        await refused(await call(api, method, ISSUE, headers), 403)
    assert everything(raw) == before


async def test_a_token_is_refused_from_the_second_it_expires(
    api: Client, raw: Raw, make_token: TokenMaker, clock: Clock
) -> None:
    headers = await make_token(expires_at=clock.now + timedelta(hours=1))
    clock.advance(minutes=59, seconds=59)
    assert (await call(api, "POST", ISSUE, headers)).status == 200
    clock.advance(seconds=1)
    await refused(await call(api, "POST", ISSUE, headers), 403)
    assert len(stored_polls(raw)) == 1


@pytest.mark.parametrize("granted", ["read", "write", "vote", ""])
@pytest.mark.parametrize(("method", "needed"), CALLS)
async def test_a_call_needs_its_action(
    api: Client, raw: Raw, make_token: TokenMaker, method: str, needed: str, granted: str
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    headers = await make_token(actions=[granted] if granted else [])
    response = await call(api, method, ISSUE, headers)
    if granted == needed:
        assert response.status == 200
        assert (everything(raw) == before) is (method == "GET")
    else:
        await refused(response, 403)
        assert everything(raw) == before


@pytest.mark.parametrize(
    ("workspaces", "is_covered"),
    [
        pytest.param(["PLAT"], True, id="that one"),
        pytest.param(["DOCS", "PLAT"], True, id="that one among others"),
        pytest.param(["*"], True, id="all"),
        pytest.param(["DOCS"], False, id="another"),
        pytest.param(["plat"], False, id="in other letters"),
        pytest.param(["PLAT*", "P*"], False, id="no pattern"),
        pytest.param([], False, id="none"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_token_reaches_its_workspaces(
    api: Client,
    raw: Raw,
    make_token: TokenMaker,
    method: str,
    workspaces: list[str],
    is_covered: bool,
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    response = await call(api, method, ISSUE, await make_token(workspaces=workspaces))
    if is_covered:
        assert response.status == 200
    else:
        await refused(response, 403)
        assert everything(raw) == before


async def test_a_token_may_change_the_polls_of_others_in_its_workspace(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    seed(raw, ISSUE, POLL)
    headers = await make_token(user_id=8, workspaces=["PLAT"])
    assert (await call(api, "PUT", ISSUE, headers)).status == 200
    [stored] = stored_polls(raw)
    assert (stored["owner_id"], stored["version"]) == (7, 2)
    assert (await call(api, "DELETE", ISSUE, headers)).status == 200


async def test_the_owner_of_a_token_is_the_author(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    await call(api, "POST", ISSUE, await make_token(user_id=8))
    await call(api, "POST", ISSUE, await make_token(user_id=9, admin=True, workspaces=[]))
    await call(api, "POST", ISSUE, {})
    assert [poll["owner_id"] for poll in stored_polls(raw)] == [8, 9, 0]


async def test_polls_of_users_are_for_their_owner_and_admins(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    seed(raw, USERS, POLL)
    before = everything(raw)
    owner = await make_token(user_id=7, workspaces=[])
    for stranger in (
        await make_token(user_id=8, workspaces=["*", "users"]),
        await make_token(user_id=77, workspaces=["users"]),
    ):
        for method in ("GET", "PUT", "DELETE", "POST"):
            await refused(await call(api, method, USERS, stranger), 403)
        odd = {**USERS, "content": "07"}
        await refused(await call(api, "GET", odd, stranger), 403)
    await refused(await call(api, "GET", {**USERS, "content": "07"}, owner), 403)
    assert everything(raw) == before
    for headers, query in ((owner, {}), ({}, {}), ({}, {"as_user_id": "7"})):
        listed = await (await call(api, "GET", USERS, headers, **query)).json()
        assert [poll["id"] for poll in listed] == [POLL["id"]]
        assert (await call(api, "PUT", USERS, headers, **query)).status == 200
    assert stored_polls(raw)[0]["version"] == 4
    assert (await call(api, "DELETE", USERS, owner)).status == 200
    assert stored_polls(raw) == []


async def test_no_polls_are_created_in_the_workspace_of_users(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    owner = await make_token(user_id=7, workspaces=["*"])
    for headers, query in ((owner, {}), ({}, {}), ({}, {"as_user_id": "7"})):
        await refused(await call(api, "POST", USERS, headers, **query), 403)
    assert everything(raw) == []


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("wanted", ["7", "8", "nonsense", ""])
async def test_only_admins_act_for_others(
    api: Client, raw: Raw, make_token: TokenMaker, method: str, wanted: str
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    headers = await make_token(user_id=7)
    await refused(await call(api, method, ISSUE, headers, as_user_id=wanted), 403)
    assert everything(raw) == before


async def test_an_acting_caller_reads_everywhere_and_writes_only_the_users_polls(
    api: Client, raw: Raw
) -> None:
    seed(raw, ISSUE, POLL)
    seed(raw, PAGE, document(2, owner_id=8))
    assert len(await (await call(api, "GET", PAGE, {}, as_user_id="7")).json()) == 1
    before = everything(raw)
    for method in ("PUT", "DELETE"):
        await refused(await call(api, method, ISSUE, {}, as_user_id="8"), 403)
    assert everything(raw) == before
    assert (await call(api, "PUT", ISSUE, {}, as_user_id="7")).status == 200
    assert (await call(api, "DELETE", ISSUE, {}, as_user_id="7")).status == 200
    assert [poll["id"] for poll in stored_polls(raw)] == [document(2)["id"]]


@pytest.mark.parametrize("user_id", [1, 9, 2**53 - 1, "u42", "042", str(2**53)])
async def test_the_user_acted_for_is_the_author(api: Client, raw: Raw, user_id: int | str) -> None:
    assert (await call(api, "POST", ISSUE, {}, as_user_id=str(user_id))).status == 200
    assert [poll["owner_id"] for poll in stored_polls(raw)] == [user_id]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "wanted", ["0", "", "self", " 1", "1 ", "u\t42", "u\x1b[2J", "\u202e42", "u" * 129, "9" * 400]
)
async def test_acting_needs_a_valid_user_id(
    api: Client, raw: Raw, method: str, wanted: str
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    await refused(await call(api, method, ISSUE, {}, as_user_id=wanted), 400, ["as_user_id"])
    assert everything(raw) == before
