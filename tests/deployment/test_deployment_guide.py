"""What docs/deployment.md says of a proxy's log, and of MongoDB's rights, tried on a MongoDB."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pymongo
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from pymongo import monitoring
from pymongo.errors import OperationFailure

from service.app import create_app
from service.live.watcher import HEARTBEAT_SECONDS
from service.openapi.document import build
from service.routes import ROUTES
from service.settings import Settings
from service.web.accept import EVENT_STREAM
from service.web.call import CLOCK
from service.web.store_key import STORE
from storage.embedded.engines import Mongod
from storage.embedded.server import start
from storage.errors import StartupRefused, Unavailable
from storage.location import EngineChoice
from storage.store import Store
from tests.conftest import ADMIN, SECRET, Client, Raw
from tests.support.calls import POLL, place
from tests.support.processes import ROOT, eventually, failing

GUIDE = (ROOT / "docs" / "deployment.md").read_text()
COURSE = 5
IDS = {
    **dict.fromkeys(("poll_id", "course_id", "poll_session_id", "id"), "7"),
    **dict.fromkeys(("asset", "file", "link", "name", "erasure_id"), "x"),
}


def the_role() -> dict[str, Any]:
    found = re.search(r"db\.createRole\((\{.*?\n    \})\)", GUIDE, re.DOTALL)
    assert found
    role: dict[str, Any] = json.loads(found[1])
    return role


ROLE = the_role()
[PRIVILEGE] = ROLE["privileges"]
ACTIONS: list[str] = PRIVILEGE["actions"]


# The proxy -------------------------------------------------------------------------------------


def is_logged_by_nginx(path: str, kind: str) -> bool:
    """What the guide's ``map`` makes of a request: the first expression that matches, or 1."""
    [block] = re.findall(r"map \$uri\?\$arg_type \$logged \{\n(.*?)\n    \}", GUIDE, re.DOTALL)
    default, *rules = [line.strip().rstrip(";").rsplit(" ", 1) for line in block.splitlines()]
    assert default == ["default", "1"]
    source = f"{path}?{kind}"
    found = (value for rule, value in rules if re.search(rule.strip('"').removeprefix("~"), source))
    return next(found, "1") == "1"


def test_the_guides_nginx_logs_every_route_but_those_of_votes_and_links() -> None:
    [access] = re.findall(r"access_log (.*);", GUIDE)
    assert access.endswith("polls if=$logged")
    assert re.search(r"error_log \S+ crit;", GUIDE)
    for route in ROUTES:
        path = route.format(**IDS)
        about_votes = path.startswith(("/rest/votes", "/p/")) or "poll_submissions" in path
        for ending in ("", "/"):
            assert is_logged_by_nginx(path + ending, "anything") != about_votes
    for path in ("/rest", "/x1/any"):
        for kind in ("polls", "results", "votes", "", "vot%65s"):
            for ending in ("", "/"):
                is_safe = kind in ("polls", "results")
                assert is_logged_by_nginx(path + ending, kind) == is_safe


def test_the_guides_nginx_logs_no_query_and_no_header_which_may_hold_a_token() -> None:
    [form] = re.findall(r"log_format polls '(.*)';", GUIDE)
    logged = {"remote_addr", "time_iso8601", "request_method", "uri", "status", "request_time"}
    assert set(re.findall(r"\$(\w+)", form)) == logged
    [access] = re.findall(r"access_log (.*);", GUIDE)
    assert access.split()[1] == "polls"


def test_the_guides_nginx_passes_event_streams_on_at_once_and_does_not_cut_silent_ones() -> None:
    [(pattern, body)] = re.findall(r"location ~ (\S+) \{\n(.*?)\n      \}", GUIDE, re.DOTALL)
    settings = dict(line.strip().rstrip(";").split(" ", 1) for line in body.splitlines())
    assert (settings["proxy_buffering"], settings["gzip"]) == ("off", "off")
    assert int(settings["proxy_read_timeout"].removesuffix("s")) > 2 * HEARTBEAT_SECONDS
    paths = build(ROUTES)["paths"]
    for route in ROUTES:
        get = paths[route].get("get", {"responses": {"200": {}}})
        is_stream = EVENT_STREAM in get["responses"]["200"].get("content", {})
        for ending in ("", "/"):
            path = route.format(**IDS) + ending
            assert bool(re.search(pattern, path)) == is_stream, path


def test_the_guides_nginx_passes_imports_on_while_they_arrive() -> None:
    [body] = re.findall(r"location /rest/import \{\n(.*?)\n      \}", GUIDE, re.DOTALL)
    settings = dict(line.strip().rstrip(";").split(" ", 1) for line in body.splitlines())
    assert settings["client_max_body_size"] == "0"
    assert (settings["proxy_request_buffering"], settings["proxy_buffering"]) == ("off", "off")


# MongoDB ---------------------------------------------------------------------------------------


def without(action: str) -> str:
    return f"without-{action}"


def test_the_proxy_of_the_guide_passes_the_host_with_its_port() -> None:
    """Or the links of every page lack the port that clients use."""
    headers = dict(re.findall(r"proxy_set_header (\S+) (\S+);", GUIDE))
    assert headers["Host"] == headers["X-Forwarded-Host"] == "$http_host"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the guide's role and user, and a user for each role that lacks one right.

    The user NAME has the rights on the database NAME.
    """
    server = start(tmp_path_factory.mktemp("guarded") / "data", EngineChoice(Mongod.name))
    roles = {"complete": ACTIONS}
    roles |= {without(action): [one for one in ACTIONS if one != action] for action in ACTIONS}
    with pymongo.MongoClient[Any](server.uri) as client:
        for name, actions in roles.items():
            resource = {**PRIVILEGE["resource"], "db": name}
            role = f"{ROLE['role']}-{name}"
            client.admin.command(
                "createRole",
                role,
                privileges=[{"resource": resource, "actions": actions}],
                roles=ROLE["roles"],
            )
            client.admin.command("createUser", name, pwd="password", roles=[role])
        [(host, port)] = client.nodes
    yield f"{host}:{port}"
    server.stop()


def uri_of(address: str, user: str) -> str:
    return f"mongodb://{user}:password@{address}/{user}?directConnection=true&authSource=admin"


async def walk(settings: Settings) -> list[tuple[str, int]]:
    """Everything that a service and its commands do to a database, with the answers to it."""
    answers: list[tuple[str, int]] = []

    async def noted(call: Any) -> Any:
        response: ClientResponse = await call
        answers.append((f"{response.method} {response.url.path}", response.status))
        return await response.json() if response.content_length else None

    app = create_app(settings)
    async with (
        serving(app) as server,
        TestClient(server, headers={"Authorization": f"Bearer {ADMIN}"}) as api,
    ):
        await every_route(api, noted)
        store = app[STORE]
        token: dict[str, Any] = {"user_id": 7, "actions": ["read"], "workspaces": ["*"]}
        now = app[CLOCK]()
        await store.tokens.create("a secret", name="ci", admin=False, now=now, **token)
        assert len(await store.tokens.all()) == 1
        await store.tokens.revoke("ci", now)
        assert await store.recounts.total() > 0
        assert [one async for one in store.recounts.run(fix=True) if not one.agrees] == []
        [poll] = await noted(api.get(place()))
        await noted(api.delete(place(pollId=poll["id"])))
        await noted(api.post("/rest/restore", params={"pollId": poll["id"]}))
        await noted(api.delete(place(pollId=poll["id"], now="true")))
        await noted(api.get("/audit"))
        await until_swept(app[STORE])
    return answers


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[TestServer]:
    server = TestServer(app)
    try:
        await server.start_server()
        yield server
    finally:
        await server.close()


async def until_swept(store: Store) -> None:
    async def is_swept() -> bool:
        return await store.purges._purges.find_one({}) is None

    await eventually(is_swept, "the sweep of what was deleted")


async def every_route(api: Client, noted: Any) -> None:
    for path in ("/healthz", "/readyz"):
        await noted(api.get(path))
    body = {**POLL, "settings": {"allowRevote": True}}
    poll = await noted(api.post(place(), json=body, headers={"Idempotency-Key": "one"}))
    poll_id = poll["id"] if poll and "id" in poll else "none"
    options = [{"id": "1", "title": "yes"}, {"id": "2", "title": "never"}]
    await noted(api.put(place(pollId=poll_id), json={**body, "options": options}))
    votes = {"type": "votes", "workspace": "PLAT", "content": "PLAT-1", "pollId": poll_id}
    for choice in ("1", "2"):
        body = {"optionIds": [choice]}
        await noted(api.post("/rest", params={**votes, "as_user_id": "7"}, json=body))
    await noted(api.delete("/rest", params={**votes, "as_user_id": "7"}))
    await noted(api.post("/rest", params={**votes, "as_user_id": "8"}, json=body))
    await noted(a_stream(api, {**votes, "type": "results"}))
    enrollment = {"user_id": 7, "type": "StudentEnrollment"}
    url = f"/api/v1/courses/{COURSE}/enrollments"
    made = await noted(api.post(url, json={"enrollment": enrollment}))
    await noted(api.get(url))
    await noted(api.delete(f"{url}/{made['id'] if made and 'id' in made else 0}"))
    sessions = f"/api/v1/polls/{poll_id}/poll_sessions"
    made = await noted(api.post(sessions, json={"poll_sessions": [{"course_id": COURSE}]}))
    number = made["poll_sessions"][0]["id"] if made and "poll_sessions" in made else 0
    for verb in ("open", "close"):
        await noted(api.put(f"{sessions}/{number}/{verb}"))
    await noted(api.get(sessions))
    await noted(api.get(f"/api/v1/polls/{poll_id}"))


async def a_stream(api: Client, query: dict[str, str]) -> ClientResponse:
    """Until its first event, if it has one."""
    response = await api.get("/rest", params=query, headers={"Accept": EVENT_STREAM})
    if response.status == 200:
        await response.content.readuntil(b"data: ")
        response.close()
    return response


def settings_on(uri: str) -> Settings:
    return Settings(mongodb_uri=uri, secret=SECRET, admin_token=ADMIN)


async def test_the_service_does_all_it_does_with_the_rights_of_the_guide(guarded: str) -> None:
    answers = await walk(settings_on(uri_of(guarded, "complete")))
    assert [answer for answer in answers if answer[1] != 200] == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_each_right_of_the_guide_is_needed(guarded: str, action: str) -> None:
    """Without it the start is refused, or requests are; with all of them neither is, as above."""
    answers: list[tuple[str, int]] = []
    refusal = ""
    try:
        answers = await walk(settings_on(uri_of(guarded, without(action))))
    except (StartupRefused, Unavailable) as error:
        refusal = str(error)
    assert refusal or 503 in {status for _, status in answers}


async def test_nobody_else_is_let_in(guarded: str) -> None:
    with (
        pymongo.MongoClient[Any](uri_of(guarded, "complete")) as client,
        pytest.raises(OperationFailure, match="not authorized"),
    ):
        client["another"].ballots.find_one()


class Heard(monitoring.CommandListener):
    """The names of all commands."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.names.add(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...
    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What all clients that are made from now on send, those of the tests included."""
    listeners = monitoring._LISTENERS.command_listeners
    heard = Heard()
    monitoring.register(heard)
    yield heard
    listeners.remove(heard)


async def test_the_guide_names_every_command_that_is_sent(
    raw: Raw, heard: Heard, settings: Settings, api: Client
) -> None:
    answers = await walk(settings)
    assert {status for _, status in answers} == {200}
    with failing(raw.client, {"times": 1}, failCommands=["update"], closeConnection=True):
        assert (await api.post(place(), json=POLL)).status == 200
    assert "killSessions" in heard.names
    _, _, table = GUIDE.partition("| commands | right |\n|---|---|\n")
    rows = [line.split("|")[1] for line in table.partition("\n\n")[0].splitlines()]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"recount"}
    assert {"find", "insert", "update", "delete", "createIndexes"} <= heard.names
    assert heard.names <= named
