"""``GET /audit``: who may read it, and how it is listed."""

from collections.abc import Mapping
from typing import Any

import pytest
from yarl import URL

from service.polling.paths import API, CHOICES, COURSE, POLL, SESSIONS
from service.routes import ROUTES
from tests.conftest import ADMIN, Client, Clock, Raw, TokenMaker
from tests.support.calls import POLL as A_POLL
from tests.support.casting import answered
from tests.support.polling import call, enroll, make_choice, make_poll, make_session
from tests.support.seeds import ISSUE, UNKNOWN, refused

SESSION, CHOICE = f"{SESSIONS}/{{id}}", f"{CHOICES}/{{id}}"
COURSE_ID = 1
BODIES: dict[str, Any] = {
    "POST /rest/polls": A_POLL,
    "PUT /rest/polls": A_POLL,
    "POST /rest/copies": {},
    f"POST {API}/polls": {"polls": [{"question": "Milk?"}]},
    f"PUT {POLL}": {"polls": [{"question": "Milk?"}]},
    f"POST {CHOICES}": {"poll_choices": [{"text": "no"}]},
    f"PUT {CHOICE}": {"poll_choices": [{"text": "no"}]},
    f"POST {SESSIONS}": {"poll_sessions": [{"course_id": COURSE_ID}]},
    f"PUT {SESSION}": {"poll_sessions": [{"has_public_results": True}]},
    f"POST {COURSE}/enrollments": {"enrollment": {"user_id": 60}},
    "POST /tokens": {"name": "made", "userId": 42, "actions": ["read"]},
}
ACTIONS = {
    "POST /rest/polls": "poll.created",
    "PUT /rest/polls": "poll.changed",
    "DELETE /rest/polls": "poll.deleted",
    "POST /rest/copies": "poll.copied",
    "POST /rest/restore": "poll.restored",
    f"POST {API}/polls": "poll.created",
    f"PUT {POLL}": "poll.changed",
    f"DELETE {POLL}": "poll.deleted",
    f"POST {CHOICES}": "poll.changed",
    f"PUT {CHOICE}": "poll.changed",
    f"DELETE {CHOICE}": "poll.changed",
    f"POST {SESSIONS}": "session.created",
    f"PUT {SESSION}": "session.changed",
    f"DELETE {SESSION}": "session.deleted",
    f"GET {SESSION}/open": "session.opened",
    f"PUT {SESSION}/open": "session.opened",
    f"GET {SESSION}/close": "session.closed",
    f"PUT {SESSION}/close": "session.closed",
    f"GET {SESSION}/export": "session.exported",
    f"POST {COURSE}/enrollments": "enrollment.created",
    f"DELETE {COURSE}/enrollments/{{id}}": "enrollment.deleted",
    "POST /tokens": "token.created",
    "DELETE /tokens/{name}": "token.revoked",
    "GET /users/{id}/data": "user.exported",
}
"""Of each route that changes a definition or gives out a file."""
UNTOLD = (
    *("POST /rest/votes", "DELETE /rest/votes", "POST /rest/query", "POST /rest/links"),
    *(f"POST {SESSION}/links", f"POST {SESSIONS}/{{poll_session_id}}/poll_submissions"),
    "POST /p/{link}",
)
"""Votes and what leads to them."""
TOLD_OF_ELSEWHERE = ("POST /rest/import", "DELETE /users/{id}/data")
"""The tests of these look into the audit, too."""


def test_every_route_that_changes_something_is_told_of_or_is_about_votes() -> None:
    changing = {f"{method} {path}" for path in ROUTES for method in ROUTES[path] if method != "GET"}
    assert changing - {*ACTIONS, *UNTOLD, *TOLD_OF_ELSEWHERE} == set()


async def address(api: Client, raw: Raw, path: str, make_token: TokenMaker) -> tuple[str, Any]:
    """The URL and the query of something that is there."""
    if path.startswith("/rest"):
        poll = await answered(await api.post("/rest/polls", params=ISSUE, json=A_POLL))
        query = {**ISSUE, "pollId": poll["id"]}
        del query["type"]
        if path == "/rest/restore":
            await answered(await api.delete("/rest/polls", params=query))
        return path, query
    poll = await make_poll(api)
    choice = await make_choice(api, poll["id"], text="yes")
    session = await make_session(api, poll["id"])
    if path.endswith("close"):
        raw.sessions.update_many({}, {"$set": {"is_published": True}})
    enrollment = await enroll(api, 50, COURSE_ID)
    await make_token(name="bot")
    ids = {"poll_choices": choice["id"], "poll_sessions": session["id"]}
    ids |= {"enrollments": enrollment["id"], "users": 50}
    for name, number in ids.items():
        path = path.replace(f"{name}/{{id}}", f"{name}/{number}")
    path = path.format(poll_id=poll["id"], course_id=COURSE_ID, name="bot")
    return path, {"format": "json"} if path.endswith("export") else {}


@pytest.mark.parametrize("route", ACTIONS)
async def test_each_such_route_tells_who_did_what(
    api: Client, raw: Raw, make_token: TokenMaker, route: str
) -> None:
    method, path = route.split()
    who = await make_token(user_id=70, name="desk", admin=True, actions=[], workspaces=[])
    url, query = await address(api, raw, path, make_token)
    raw.audit.delete_many({})
    sent: dict[str, Any] = {"json": BODIES[route]} if route in BODIES else {}
    response = await api.request(method, url, params=query, headers=who, **sent)
    assert response.status in (200, 204), await response.text()
    await response.read()
    [entry] = raw.audit.find()
    assert (entry["action"], entry["user_id"], entry["token_name"]) == (ACTIONS[route], 70, "desk")


async def test_only_admins_who_act_for_nobody_read_the_audit(
    anonymous: Client, make_token: TokenMaker
) -> None:
    everything: dict[str, Any] = {"workspaces": ["*"], "courses": ["*"]}
    everything["actions"] = ["read", "write", "vote", "act"]
    admin = {"Authorization": f"Bearer {ADMIN}"}
    callers: list[tuple[Mapping[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"Authorization": "Bearer unknown"}, {}),
        (await make_token(workspaces=["*"]), {}),
        (await make_token(user_id=99, **everything), {}),
        (await make_token(user_id=99, **everything), {"as_user_id": "7"}),
        (admin, {"as_user_id": "7"}),
    ]
    for headers, params in callers:
        await refused(await anonymous.get("/audit", headers=headers, params=params), 403)
    own = await make_token(user_id=70, admin=True, actions=[], workspaces=[])
    for headers in (own, admin):
        answer = await anonymous.get("/audit/", headers=headers)
        assert await answered(answer) == {"entries": [], "nextCursor": None}
        assert answer.headers["Cache-Control"] == "no-store"


async def test_entries_are_listed_page_by_page_newest_first(
    api: Client, clock: Clock, make_token: TokenMaker
) -> None:
    who = await make_token(user_id="anna", name="forum", workspaces=["PLAT"])
    poll = await answered(await api.post("/rest", params=ISSUE, json=A_POLL, headers=who))
    query = {**ISSUE, "pollId": poll["id"]}
    for title in ("Milk?", "Coffee?"):
        clock.advance(seconds=1)
        body = {**poll, "title": title}
        await answered(await api.put("/rest", params=query, json=body, headers=who))
    clock.advance(seconds=1)
    await answered(await api.post("/rest", params=ISSUE, json=A_POLL, headers=who))

    page = await api.get("/audit", params={"limit": "2", "pollId": poll["id"].upper()})
    found = await answered(page)
    assert [one["at"] for one in found["entries"]] == [
        "2126-01-31T12:00:02Z",
        "2126-01-31T12:00:01Z",
    ]
    newest = found["entries"][0]
    assert {name: value for name, value in newest.items() if value is not None} == {
        "id": newest["id"],
        "at": "2126-01-31T12:00:02Z",
        "action": "poll.changed",
        "actor": {"userId": "anna", "token": "forum"},
        "pollId": poll["id"],
        "changed": ["title"],
    }
    assert str(page.links["next"]["url"]).endswith(found["nextCursor"])
    following = URL(str(page.links["next"]["url"])).relative()
    rest = await answered(await api.get(following))
    assert [one["action"] for one in rest["entries"]] == ["poll.created"]
    assert rest["nextCursor"] is None

    since = {"since": "2126-01-31T13:00:02+01:00"}
    found = await answered(await api.get("/audit", params=since))
    assert [one["at"][-3:] for one in found["entries"]] == ["03Z", "02Z"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("pollId", value) for value in ("", "7", f"{UNKNOWN}x")),
        *(("since", value) for value in ("", "yesterday", "2026-01-31", "2026-01-31T18:00:00")),
        *(("limit", value) for value in ("", "0", "-1", "x")),
        *(("cursor", value) for value in ("", "x", "MQ", "IjAi")),
    ],
)
async def test_a_parameter_that_cannot_be_read_is_refused(
    api: Client, name: str, value: str
) -> None:
    await refused(await api.get("/audit", params={name: value}), 400, [name])


@pytest.mark.parametrize(
    ("path", "name"), [("/audit", "since"), ("/rest/polls?workspace=PLAT", "updatedSince")]
)
async def test_the_plus_of_an_offset_need_not_be_encoded(api: Client, path: str, name: str) -> None:
    mark = "&" if "?" in path else "?"
    for offset, status in (("+01:00", 200), ("+0100", 200), ("%2B01:00", 200), ("++01:00", 400)):
        url = URL(f"{path}{mark}{name}=2026-01-31T18:00:00{offset}", encoded=True)
        assert (await api.get(url)).status == status, offset


async def test_times_before_1970_are_times(api: Client) -> None:
    await call(api, "GET", "/audit", params={"since": "0001-01-01T00:00:00Z"})
