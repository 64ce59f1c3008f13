"""What an OpenAPI document cannot say: which values are valid only together.

schemathesis calls these for every request that it made up from the document.
"""

import re
from typing import Any

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.generation import GenerationMode

ISSUE_KEY = re.compile(r"[A-Z][A-Z0-9_]*-[0-9]+")


@schemathesis.hook
def before_call(_: HookContext, case: Case, __: dict[str, Any]) -> None:
    """Makes a request valid that is valid by its parts alone."""
    query = case.query
    is_valid = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
    if int_of(query.get("as_user_id")) % 2:
        # Half of all requests, for other users may do little.
        del query["as_user_id"]
    if not is_valid:
        return
    if str(query.get("page", "")).startswith("bookmark:"):
        del query["page"]  # only the service can make one
    if case.path in ("/rest", "/x1/{name}"):
        complete_content_request(case, query)


def int_of(value: Any) -> int:
    return int(value) if re.fullmatch("[0-9]{1,20}", str(value)) else 0


def complete_content_request(case: Case, query: dict[str, Any]) -> None:
    """The container goes with the content, the body with the type, its id with ``pollId``."""
    if ISSUE_KEY.fullmatch(str(query.get("content"))):
        query.pop("container", None)
    elif not query.get("container"):
        query["container"] = "macro-1"
    if isinstance(case.body, dict) and case.method == "POST":
        query["type"] = "votes" if "optionIds" in case.body else "polls"
    if isinstance(case.body, dict) and case.method == "PUT":
        case.body.pop("id", None)
    if query.get("type") == "votes":
        query.setdefault("pollId", "ee9107b5-5041-4c15-8c76-f14404fa1fad")
