"""What the OpenAPI document cannot say: which values are valid together, and which ids exist.

schemathesis calls these hooks before and after each request that it generates.
"""

import os
import random
import re
from typing import Any

import orjson
import requests
import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase

from schemas.fields import parse_user_id

ISSUE_KEY = re.compile(r"[A-Z][A-Z0-9_]*-[0-9]+")
CONTENT_PATHS = ("/rest/polls", "/rest/votes", "/rest/results", "/rest/links", "/rest/copies")
FILTERS = ("state", "updatedSince", "createdBy", "limit")
API = "/api/v1"
PLACE = {"workspace": "PLAT", "content": "98765", "container": "macro-1"}
A_POLL: dict[str, Any] = {"title": "Tea?", "options": [{"title": "yes"}, {"title": "no"}]}


AnyCase = Case[Any]


@schemathesis.serializer("application/x-ndjson")
def as_line(_: Any, value: Any) -> bytes:
    """A body of one line."""
    return orjson.dumps(value)


class World:
    """A poll in each API, with an open session and a submission to it.

    Created again after a deletion, which may have deleted part of it.
    """

    def __init__(self) -> None:
        self.is_there = False
        self.parameters: dict[str, dict[str, Any]] = {}
        self.content: dict[str, str] = {}
        self.choice_id = 0
        self._chance = random.Random(1)
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {os.environ['POLLS_ADMIN_TOKEN']}"

    def prepare(self) -> None:
        if self.is_there:
            return
        self.is_there = True
        rest = self._call("POST", "/rest", json=A_POLL, params={"type": "polls", **PLACE})
        self.content = {**PLACE, "pollId": rest["id"]}
        poll_id = self._make(f"{API}/polls", "polls", question="Tea?")
        poll = f"{API}/polls/{poll_id}"
        self.choice_id = self._make(f"{poll}/poll_choices", "poll_choices", text="yes")
        session_id = self._make(f"{poll}/poll_sessions", "poll_sessions", course_id=1)
        session = f"{poll}/poll_sessions/{session_id}"
        self._call("GET", f"{session}/open")
        submission_id = self._make(
            f"{session}/poll_submissions", "poll_submissions", poll_choice_id=self.choice_id
        )
        row = f"{API}/polls/{{poll_id}}"
        self.parameters = {
            row: {"poll_id": poll_id},
            f"{row}/poll_choices/{{id}}": {"id": self.choice_id},
            f"{row}/poll_sessions/{{id}}": {"id": session_id},
            f"{row}/poll_sessions/{{poll_session_id}}": {"poll_session_id": session_id},
            f"{row}/poll_sessions/{{poll_session_id}}/poll_submissions/{{id}}": {
                "id": submission_id
            },
        }

    def _make(self, path: str, name: str, **members: Any) -> Any:
        return self._call("POST", path, json={name: [members]})[name][0]["id"]

    def _call(self, method: str, path: str, **options: Any) -> Any:
        url = os.environ["FUZZED_URL"]
        answer = self._session.request(method, f"{url}{path}", timeout=20, **options)
        answer.raise_for_status()
        return answer.json()

    def tosses(self) -> bool:
        return self._chance.random() < 0.5


world = World()


@schemathesis.hook
def before_call(_: HookContext, case: AnyCase, __: dict[str, Any]) -> None:
    """Makes a request valid whose parts are valid by themselves, and lets it use existing ids."""
    for name, value in case.headers.items():
        case.headers[name] = str(value)  # links put ids there, which are numbers
    is_valid = is_good(case, ParameterLocation.QUERY)  # before changes, which reset it
    # Other users may do little, and most entity tags match nothing.
    if is_valid and (world.tosses() or not is_user(case.query.get("as_user_id", 1))):
        case.query.pop("as_user_id", None)
    if is_valid and not is_user(case.query.get("createdBy") or 1):
        case.query.pop("createdBy", None)
    if is_good(case, ParameterLocation.HEADER) and world.tosses():
        case.headers.pop("If-Match", None)
    if is_free(case):
        world.prepare()
        complete_path(case)
    if case.path in CONTENT_PATHS:
        complete_content_query(case, case.query, is_valid=is_valid)
    if is_valid and case.path == "/audit":
        complete_audit_query(case.query)
    complete_paging(case.query, is_valid=is_valid)
    if isinstance(case.body, dict) and is_good(case, ParameterLocation.BODY):
        complete_body(case, case.body)


@schemathesis.hook
def after_call(_: HookContext, case: AnyCase, response: Response) -> None:
    if case.method == "DELETE" and response.status_code < 300:
        world.is_there = False


def is_good(case: AnyCase, part: ParameterLocation) -> bool:
    """Whether a part of the request is meant to be valid."""
    component = case.meta.components.get(part) if case.meta else None
    return component is None or component.mode is GenerationMode.POSITIVE


def is_user(value: Any) -> bool:
    """The document does not list all characters that are not printable."""
    return parse_user_id(str(value)) is not None


def is_free(case: AnyCase) -> bool:
    """Whether ids may be replaced: stateful sequences use those of earlier answers."""
    return case.meta is None or case.meta.phase.name is not TestPhase.STATEFUL


def complete_path(case: AnyCase) -> None:
    if is_good(case, ParameterLocation.PATH):
        for path, parameters in world.parameters.items():
            if case.path.startswith(path):
                case.path_parameters |= parameters


def complete_paging(query: dict[str, Any], *, is_valid: bool) -> None:
    """Only the service can create bookmarks, and an empty parameter counts as absent."""
    for name in ("page", "per_page"):
        value = query.get(name)
        is_nothing = name in query and (value == "" or not isinstance(value, str | int))
        if is_valid and (is_nothing or str(value).startswith("bookmark:")):
            del query[name]
        elif is_nothing:
            query[name] = "0"


def complete_content_query(case: AnyCase, query: dict[str, Any], *, is_valid: bool) -> None:
    """The container depends on the content; the poll may be an existing one."""
    if not is_valid:
        return
    if (case.path, case.method) == ("/rest/polls", "GET"):
        complete_list_query(query, of_workspace=is_free(case) and world.tosses())
        if "content" not in query:
            return
    if is_free(case) and (case.path, case.method) != ("/rest/polls", "POST"):
        query |= world.content
    if ISSUE_KEY.fullmatch(str(query.get("content"))):
        query.pop("container", None)
    elif not query.get("container"):
        query["container"] = "macro-1"


def complete_audit_query(query: dict[str, Any]) -> None:
    query.pop("cursor", None)  # which only the service can create
    if "since" in query:  # of digits, but perhaps no time
        query["since"] = "2026-01-31T18:00:00+01:00"


def complete_list_query(query: dict[str, Any], *, of_workspace: bool) -> None:
    """Either a content is listed, or a workspace; only the service can create cursors."""
    query.pop("cursor", None)
    if "updatedSince" in query:  # of digits, but perhaps no time
        query["updatedSince"] = "2026-01-31T18:00:00+01:00"
    for name in ("content", "container", "pollId") if of_workspace else FILTERS:
        query.pop(name, None)
    if not of_workspace:
        query.setdefault("content", PLACE["content"])


def complete_body(case: AnyCase, body: dict[str, Any]) -> None:
    """The poll decides which submissions and votes are valid."""
    if case.path.endswith("/poll_submissions") and is_free(case) and world.tosses():
        case.body = {"poll_submissions": [{"poll_choice_id": world.choice_id}]}
    elif case.path == "/tokens":
        complete_token(body)
    elif case.path.endswith("/enrollments"):
        for enrollment in body.get("enrollments") or ():
            if not is_user(enrollment["user_id"]):
                enrollment["user_id"] = "u42"
    elif case.path in CONTENT_PATHS and is_good(case, ParameterLocation.QUERY):
        complete_content_body(case, body)


def complete_token(body: dict[str, Any]) -> None:
    """What may be combined, and which times are in the future, the document does not say."""
    for name in ("admin", "courses", "expiresAt"):
        body.pop(name, None)
    body["workspaces"] = ["PLAT"]
    user_id = body["userId"]
    if not is_user(user_id) or parse_user_id(str(user_id)) != user_id:  # 16 digits in quotes
        body["userId"] = "u42"
    if body.get("actions"):
        body["actions"] = [*body["actions"][:3], "read"]


def complete_content_body(case: AnyCase, body: dict[str, Any]) -> None:
    if case.path == "/rest/votes":
        case.body = {"optionIds": ["1"]}
        return
    seen: set[str] = set()
    for option in body.get("options") or ():
        option_id = option.get("id")
        if option_id in seen:
            del option["id"]
        elif option_id is not None:
            seen.add(option_id)
    if case.method == "PUT":
        # The poll may have no end date.
        (body.get("settings") or {}).pop("closePollOnEndDate", None)
        body.pop("id", None)
    if (body.get("settings") or {}).get("endDate"):  # of digits, but perhaps no time
        body["settings"]["endDate"] = "2030-01-31T18:00:00+01:00"
