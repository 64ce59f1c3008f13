"""Every kind of token at every route of the content API and of ``/tokens``."""

from typing import Any

import pytest

from service.routes import ROUTES
from tests.conftest import ADMIN, Client, Raw, TokenMaker
from tests.support.casting import answered, content_run
from tests.support.seeds import ISSUE, UNKNOWN, Json, a_poll, everything, refused

MAKER, OTHER, SERVICE = 7, 8, 99
ALL = ["read", "write", "vote"]
WRITER = ["write", "act"]
READER, VOTER = ["read", "act"], ["vote", "act"]
PLAT, ELSEWHERE = {"workspaces": ["PLAT"]}, {"workspaces": ["DOCS"], "courses": ["*"]}
ACTING = {"actions": [*ALL, "act"]}

# But for the one that names many places, of which each has a status of its own.
ROUTES_OF_CONTENT = [
    (method, path)
    for path in ROUTES
    if path.startswith("/rest/") and path != "/rest/query"
    for method in ROUTES[path]
]
ADMINS = frozenset({("GET", "/rest/export"), ("POST", "/rest/import")})
ONE = frozenset(ROUTES_OF_CONTENT) - ADMINS - {("POST", "/rest/polls"), ("POST", "/rest/copies")}
READS = frozenset({("GET", "/rest/polls"), ("GET", "/rest/results"), ("POST", "/rest/links")})
VOTES = frozenset(route for route in ROUTES_OF_CONTENT if route[1] == "/rest/votes")
# Reads one poll and makes another.
COPIES = frozenset({("POST", "/rest/copies")})
WRITES = frozenset(ROUTES_OF_CONTENT) - READS - VOTES - COPIES - ADMINS
CHANGES = WRITES & ONE
ALL_ROUTES = ONE | WRITES | COPIES
NONE: frozenset[tuple[str, str]] = frozenset()

# Of each kind: its token, whom it acts for, the routes that it may call.
KINDS: dict[str, tuple[Json, int | None, frozenset[tuple[str, str]]]] = {
    "a token of the workspace": ({**PLAT, "actions": ALL}, None, ALL_ROUTES),
    "a token of another workspace": ({**ELSEWHERE, "courses": [], "actions": ALL}, None, NONE),
    "acting without the action": ({**PLAT, "actions": ALL}, MAKER, NONE),
    "acting for the maker": ({**PLAT, **ACTING}, MAKER, ALL_ROUTES),
    "acting for another": ({**PLAT, **ACTING}, OTHER, ALL_ROUTES - CHANGES),
    "acting everywhere": ({"workspaces": ["*"], **ACTING}, MAKER, ALL_ROUTES),
    "acting elsewhere": ({**ELSEWHERE, **ACTING}, MAKER, NONE),
    "acting in courses": ({"workspaces": [], "courses": ["*"], **ACTING}, MAKER, NONE),
    "acting to read": ({**PLAT, "actions": READER}, MAKER, READS),
    "acting to vote": ({**PLAT, "actions": VOTER}, MAKER, VOTES),
    "acting to write": ({**PLAT, "actions": WRITER}, MAKER, WRITES),
    "bound to the poll": ({**PLAT, "actions": ALL, "polls": ["this"]}, None, ONE),
    "bound to it, to vote": ({**PLAT, "actions": ["vote"], "polls": ["this"]}, None, VOTES),
    "bound to it, elsewhere": ({**ELSEWHERE, "actions": ALL, "polls": ["this"]}, None, NONE),
    "bound to another poll": ({**PLAT, "actions": ALL, "polls": ["another"]}, None, NONE),
    "bound, and acting": ({**PLAT, **ACTING, "polls": ["this"]}, MAKER, ONE),
    "bound elsewhere, and acting": ({**PLAT, **ACTING, "polls": ["another"]}, MAKER, NONE),
}


async def request(
    api: Client, route: tuple[str, str], query: dict[str, str], headers: dict[str, str]
) -> Any:
    method, path = route
    bodies = {
        "/rest/votes": {"optionIds": ["1"]},
        "/rest/links": {"actions": ["view"], "expiresIn": 60},
        "/rest/copies": {},
    }
    body = bodies.get(path, a_poll(title="Anew"))
    sent: Json = {"json": body} if method in ("POST", "PUT") else {}
    return await api.request(method, path, params=query, headers=headers, **sent)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_token_may_call_these_routes_and_no_others(
    api: Client, raw: Raw, make_token: TokenMaker, kind: str
) -> None:
    grants, acted_for, allowed = KINDS[kind]
    answers, expected = {}, {}
    user = SERVICE if acted_for else MAKER
    for route in ROUTES_OF_CONTENT:
        maker = await make_token(user_id=MAKER)
        run = await content_run(api, raw, who=maker, allowRevote=True)
        ids = {"this": run.poll_id, "another": run.poll_id[::-1]}
        polls = [ids[name] for name in grants.get("polls", ())]
        who = await make_token(user_id=user, **{**grants, "polls": polls})
        query = {name: value for name, value in run.query.items() if name != "type"}
        if route == ("DELETE", "/rest/votes"):
            voter = {**query, "as_user_id": str(acted_for or MAKER)}
            await answered(await request(api, ("POST", "/rest/votes"), voter, {}))
        if route == ("POST", "/rest/polls"):
            del query["pollId"]
        if route == ("POST", "/rest/restore"):
            await answered(await api.delete("/rest", params=run.query))
        if acted_for:
            query["as_user_id"] = str(acted_for)
        before = everything(raw)
        response = await request(api, route, query, who)
        answers[route] = response.status
        expected[route] = 200 if route in allowed else 403
        if response.status == 403:
            await refused(response, 403)
            assert everything(raw) == before
    assert answers == expected


async def test_a_token_that_is_bound_to_polls_lists_no_others(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    await content_run(api, raw)
    who = await make_token(workspaces=["PLAT"], polls=[run.poll_id])
    for query in (ISSUE, {**ISSUE, "expand": "results"}):
        await refused(await api.get("/rest", params=query, headers=who), 403)
        one = {**query, "pollId": run.poll_id.upper()}
        [shown] = await answered(await api.get("/rest", params=one, headers=who))
        assert shown["id"] == run.poll_id


async def test_a_token_that_is_bound_to_a_poll_uses_its_standing_session(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    other = await content_run(api, raw, saveParticipantNames=True)
    who = await make_token(
        user_id=42, workspaces=["PLAT"], actions=["read", "vote"], polls=[run.poll_id]
    )
    vote = {"poll_submissions": [{"poll_choice_id": 1}]}
    paths = ["", "/poll_choices", "/poll_choices/1", f"/poll_sessions/{run.session}"]
    for path in paths:
        await answered(await api.get(f"{run.poll_url}{path}", headers=who))
    await answered(await api.post(run.submissions, json=vote, headers=who))
    paths = [other.poll_url, f"{other.poll_url}/poll_choices", other.url]
    for path in (*paths, "/api/v1/polls", "/api/v1/poll_sessions/opened", "/api/v1/users/self"):
        await refused(await api.get(path, headers=who), 403)
    await refused(await api.post(other.submissions, json=vote, headers=who), 403)
    assert raw.ballots.count_documents({}) == 1


async def test_a_limited_service_does_not_delete_a_poll_that_runs_in_a_course_beyond_it(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, who=await make_token(user_id=MAKER))
    session = {"poll_sessions": [{"course_id": 5}]}
    await answered(await api.post(f"{run.poll_url}/poll_sessions", json=session))
    query = {**run.query, "as_user_id": str(MAKER)}
    for courses, status in (([], 403), ([6], 403), ([5], 200)):
        who = await make_token(user_id=SERVICE, courses=courses, **PLAT, **ACTING)
        response = await api.put("/rest", params=query, headers=who, json=a_poll())
        assert response.status == status
        assert (await api.delete("/rest", params=query, headers=who)).status == status


async def test_the_polls_of_users_are_out_of_reach_on_rest_for_tokens_that_act(
    api: Client, make_token: TokenMaker
) -> None:
    enrollment = {"enrollment": {"user_id": MAKER, "type": "TeacherEnrollment"}}
    await answered(await api.post("/api/v1/courses/5/enrollments", json=enrollment))
    acting = {"as_user_id": str(MAKER)}
    who = await make_token(user_id=SERVICE, workspaces=["*"], courses=[5], **ACTING)
    body = {"polls": [{"question": "Tea?"}]}
    made = await answered(await api.post("/api/v1/polls", params=acting, json=body, headers=who))
    number = str(made["polls"][0]["id"])
    place = {"workspace": "users", "content": str(MAKER), "container": number, **acting}
    await refused(await api.get("/rest/polls", params=place, headers=who), 403)
    assert len(await answered(await api.get("/rest/polls", params=place))) == 1


# /tokens ---------------------------------------------------------------------------------------

BODY = {"name": "made", "userId": 42, "actions": ["read"]}
TOKENS: dict[tuple[str, str], tuple[str, Json]] = {
    ("GET", "/tokens"): ("/tokens", {}),
    ("POST", "/tokens"): ("/tokens", {"json": BODY}),
    ("DELETE", "/tokens/{name}"): ("/tokens/victim", {}),
}


def test_every_route_of_tokens_has_its_row() -> None:
    routes = {(method, path) for path in ROUTES for method in ROUTES[path]}
    assert {route for route in routes if route[1].startswith("/tokens")} == TOKENS.keys()


@pytest.mark.parametrize("route", TOKENS, ids=" ".join)
async def test_tokens_are_for_admins_who_act_for_nobody(
    api: Client, anonymous: Client, raw: Raw, make_token: TokenMaker, route: tuple[str, str]
) -> None:
    await make_token(name="victim")
    everything_else = {"workspaces": ["*"], "courses": ["*"], **ACTING}
    (method, _), (path, sent) = route, TOKENS[route]
    callers: list[tuple[Json, Json]] = [
        ({}, {}),
        ({"Authorization": "Bearer unknown"}, {}),
        (await make_token(workspaces=["*"]), {}),
        (await make_token(user_id=SERVICE, **everything_else), {}),
        (await make_token(user_id=SERVICE, **everything_else), {"as_user_id": "7"}),
        (await make_token(workspaces=["*"], polls=[UNKNOWN]), {}),
        ({"Authorization": f"Bearer {ADMIN}"}, {"as_user_id": "7"}),
    ]
    before = list(raw.tokens.find())
    for headers, params in callers:
        response = await anonymous.request(method, path, headers=headers, params=params, **sent)
        await refused(response, 403)
    assert list(raw.tokens.find()) == before
    await answered(await api.request(method, path, **sent))
    admin = await make_token(user_id=70, admin=True, actions=[], workspaces=[])
    if method != "POST":
        await make_token(name="another")
        path = path.replace("victim", "another")
    else:
        sent = {"json": {**BODY, "name": "again"}}
    await answered(await anonymous.request(method, path, headers=admin, **sent))
