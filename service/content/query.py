"""The query parameters of the content API (docs/api.md, section 3)."""

from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from typing import Any, NamedTuple
from unicodedata import category

from aiohttp import web
from marshmallow import ValidationError

from schemas.content import NEEDS_CONTAINER, NO_CONTAINER, is_issue
from service.web.call import CALL
from service.web.deletion import restorable_for
from service.web.query import TOKEN_PARAMETERS
from storage.documents import ContainerKey

READ_ELSEWHERE = ("as_user_id", "page", "per_page", *TOKEN_PARAMETERS)
REPEATED = "must be given once"


class Expansion(NamedTuple):
    """What is added to each poll: its results, the caller's own vote."""

    results: bool = False
    vote: bool = False


EXPANSIONS = {
    "results": Expansion(results=True),
    "vote": Expansion(vote=True),
    "results,vote": Expansion(results=True, vote=True),
    "vote,results": Expansion(results=True, vote=True),
}
NOTHING = Expansion()


class ContentQuery(NamedTuple):
    """The container, the poll if ``pollId`` was given, and what to add to polls."""

    key: ContainerKey
    poll_id: str | None
    expansion: Expansion


def read_content_query(
    request: web.Request, kind: str = "polls", *, needs_poll: bool = False
) -> ContentQuery:
    """Reads the query of a request about the type ``kind``.

    ``needs_poll`` makes ``pollId`` required. Raises a ``ValidationError`` with every bad parameter.
    """
    query = Parameters(request[CALL].query)
    read_type(request, query, kind)
    workspace = query.read("workspace")
    content = query.read("content")
    poll_id = query.read("pollId", required=needs_poll)
    # Only issues have no container; a user may be named like one.
    container: str | None = None
    if content is not None and is_issue(workspace, content):
        query.refuse("container")
    else:
        container = query.read("container", required=False)
        if content is not None and container is None:
            query.faults.setdefault("container", [NEEDS_CONTAINER])
    expansion = query.read_expansion()
    query.require_once(*READ_ELSEWHERE)
    if query.faults:
        raise ValidationError(query.faults)
    key = ContainerKey(workspace or "", content or "", container or "")
    poll_id = poll_id.lower() if poll_id is not None else None
    return ContentQuery(key, poll_id, expansion)


def read_type(request: web.Request, query: "Parameters", kind: str) -> None:
    """Checks that ``type`` is ``kind``; the paths of a type do not need the parameter."""
    is_typed = request.rel_url.raw_path.removesuffix("/").startswith("/rest/")
    given = query.read("type", required=not is_typed)
    if given is not None and given != kind:
        query.faults["type"] = [f"must be {kind if is_typed else 'polls, votes or results'}"]


def read_poll_address(request: web.Request, kind: str = "polls") -> tuple[ContainerKey, str]:
    """The container and the required ``pollId``; see ``read_content_query``."""
    query = read_content_query(request, kind, needs_poll=True)
    return query.key, query.poll_id or ""


def read_restorable_for(request: web.Request) -> timedelta:
    """How long a poll can be restored that this request deletes: not at all with ``now``.

    Raises ``ValidationError`` where that is no boolean.
    """
    query = Parameters(request[CALL].query)
    now = query.read("now", required=False)
    if now not in (None, "true", "false"):
        query.faults["now"] = ["must be true or false"]
    if query.faults:
        raise ValidationError(query.faults)
    return restorable_for(request, now=now == "true")


class Parameters:
    """The parameters of one query, and the faults of those read so far."""

    __slots__ = ("_repeated", "_values", "faults")

    def __init__(self, query: list[tuple[str, str]]) -> None:
        self._values = dict(query)
        self._repeated: Collection[str] = ()
        if len(self._values) < len(query):
            names = Counter(name for name, _ in query)
            self._repeated = {name for name, times in names.items() if times > 1}
        self.faults: dict[str, Any] = {}

    def read(self, name: str, required: bool = True) -> str | None:
        """The value; None if it is missing or invalid."""
        value, fault = self._values.get(name), None
        if value is None:
            fault = "is missing from the query" if required else None
        elif name in self._repeated:
            fault = REPEATED
        elif not value:
            fault = "must not be empty"
        elif len(value) > 255:
            fault = "must have at most 255 characters"
        elif not value.isprintable() and any(category(one) in ("Cc", "Cs") for one in value):
            fault = "must be UTF-8 without control characters"
        else:
            return value
        if fault is not None:
            self.faults[name] = [fault]
        return None

    def require_once(self, *names: str) -> None:
        """For parameters that are read elsewhere."""
        if self._repeated:
            self.faults |= {name: [REPEATED] for name in names if name in self._repeated}

    def read_expansion(self) -> Expansion:
        expand = self.read("expand", required=False)
        if expand is None:
            return NOTHING
        if expand not in EXPANSIONS:
            self.faults["expand"] = ["must be results, vote, or both with a comma"]
        return EXPANSIONS.get(expand, NOTHING)

    def refuse(self, name: str) -> None:
        """For a parameter that must be empty or absent."""
        if self._values.get(name) or name in self._repeated:
            self.faults[name] = [NO_CONTAINER]
