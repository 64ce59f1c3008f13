"""Every kind of caller at every route of what is held of users."""

from typing import Any

import pytest

from service.people import DATA, ERASURE
from service.routes import ROUTES
from service.web.store_key import STORE
from tests.conftest import ADMIN, Client, Raw, TokenMaker
from tests.support.casting import Headers
from tests.support.seeds import UNKNOWN, refused

USER = 42
ALL = ["read", "write", "vote"]
EVERYWHERE: dict[str, Any] = {"workspaces": ["*"], "courses": ["*"], "actions": [*ALL, "act"]}
SUPER: dict[str, Any] = {"admin": True, "actions": [], "workspaces": []}

# Of each kind: its token, None for that of the environment, and whom it acts for.
KINDS: dict[str, tuple[dict[str, Any] | None, int | None]] = {
    "admin": (None, None),
    "admin with a token": ({"user_id": 1, **SUPER}, None),
    "admin for the user": (None, USER),
    "admin for another": (None, 43),
    "user": ({"user_id": USER, "actions": ["read"], "workspaces": []}, None),
    "user without read": ({"user_id": USER, "actions": ["write", "vote"]}, None),
    "user, bound to a poll": ({"user_id": USER, "polls": [UNKNOWN]}, None),
    "another user": ({"user_id": 43}, None),
    "user with the id as a string": ({"user_id": "042"}, None),
    "service": ({"user_id": 1, **EVERYWHERE}, None),
    "service of the user": ({"user_id": 43, **EVERYWHERE}, USER),
}
ADMINS = {"admin", "admin with a token"}
TABLE: dict[tuple[str, str], tuple[set[str], int]] = {
    ("GET", DATA): ({*ADMINS, "admin for the user", "user"}, 200),
    ("DELETE", DATA): (ADMINS, 202),
    ("GET", ERASURE): (ADMINS, 200),
}


def test_every_route_of_users_data_has_its_row() -> None:
    routes = {(method, path) for path in ROUTES for method in ROUTES[path]}
    ours = {route for route in routes if route[1].startswith(("/users/", "/erasures"))}
    assert ours == TABLE.keys()


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
async def test_each_kind_of_caller_may_do_what_its_row_says(
    api: Client, anonymous: Client, raw: Raw, make_token: TokenMaker, route: tuple[str, str]
) -> None:
    allowed, status = TABLE[route]
    erasure = await api.app[STORE].erasures.begin(99, "anonymize")
    method, pattern = route
    path = pattern.format(id=USER, erasure_id=erasure["_id"])
    answers = {}
    for kind, (token, acting) in KINDS.items():
        before = raw.erasures.count_documents({}), raw.audit.count_documents({})
        who: Headers = (
            {"Authorization": f"Bearer {ADMIN}"} if token is None else await make_token(**token)
        )
        params = {"votes": "withdraw", **({"as_user_id": str(acting)} if acting else {})}
        answer = await anonymous.request(method, path, headers=who, params=params)
        answers[kind] = answer.status
        if answer.status == 403:
            await refused(answer, 403)
            assert (raw.erasures.count_documents({}), raw.audit.count_documents({})) == before
    assert answers == {kind: status if kind in allowed else 403 for kind in KINDS}
    for headers in ({}, {"Authorization": "Bearer unknown"}):
        answer = await anonymous.request(
            method, path, headers=headers, params={"votes": "withdraw"}
        )
        await refused(answer, 403)
