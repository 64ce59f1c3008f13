"""Input of the content API (docs/api.md, section 3); ``shown`` has the output."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema

from schemas.fields import (
    MESSAGES,
    OPTION_ID,
    USERS,
    UUID,
    Choice,
    Int32,
    Items,
    Moment,
    Name,
    Pattern,
    ReceivedSchema,
    StrictBoolean,
    String,
    Text,
    Title,
    Whole,
    parse_rfc3339,
)

VISIBILITIES = ("alwaysPublic", "afterVote", "afterClose", "private")
MAX_OPTIONS = 100
MAX_DESCRIPTION = 4000
MAX_COMMENT = 1000
MAX_RETENTION = 36_500
"""Days that ballots are kept after a close."""
MAX_REFERENCES = 200
EXPANSIONS = ("results", "vote")
ISSUE_KEY = re.compile(r"[A-Z][A-Z0-9_]*-[0-9]+", re.ASCII)
"""Content that has no container: see ``is_issue``."""
NO_CONTAINER = "must be empty or absent for an issue"
NEEDS_CONTAINER = "is missing: only an issue key such as PLAT-7 has none"
SHOWN_MEMBERS = frozenset(
    {
        *("results", "vote", "hasVoted", "canVote", "canChange", "canWrite"),
        *("workspace", "content", "container", "createdBy", "createdAt", "updatedAt", "state"),
    }
)
"""What answers add to a poll; ignored where a poll is sent back."""
DEFAULT_SETTINGS: dict[str, Any] = {
    "allowSelectionOfMultipleOptions": False,
    "resultsVisibility": VISIBILITIES[0],
    "endDate": "",
    "hideAbsoluteNumbers": False,
    "allowRevote": False,
    "saveParticipantNames": False,
    "closePollOnEndDate": False,
    "allowComment": False,
}
NO_END = {"closePollOnEndDate": ["requires an endDate"]}


class SettingsSchema(ReceivedSchema):
    """Some of the settings of a poll; ``completed`` adds the others."""

    allowSelectionOfMultipleOptions = StrictBoolean()
    resultsVisibility = Choice(VISIBILITIES)
    endDate = Moment()
    hideAbsoluteNumbers = StrictBoolean()
    allowRevote = StrictBoolean()
    saveParticipantNames = StrictBoolean()
    closePollOnEndDate = StrictBoolean()
    allowComment = StrictBoolean()
    retention = Whole(1, MAX_RETENTION, f"must be from 1 to {MAX_RETENTION:,} days")

    nullable = frozenset({"retention"})

    @validates_schema
    def _require_end(self, settings: dict[str, Any], **_: Any) -> None:
        if settings.get("closePollOnEndDate") and settings.get("endDate") == "":
            raise ValidationError(NO_END)


class OptionSchema(ReceivedSchema):
    id = Pattern(OPTION_ID, "must have 1 to 64 of the characters A-Z a-z 0-9 _ -")
    title = Title(required=True)
    order = Int32()


def _options(*, least: int) -> Items:
    item = fields.Nested(OptionSchema, error_messages=MESSAGES)
    return Items(item, required=True, least=least, most=MAX_OPTIONS)


class NewPollSchema(ReceivedSchema):
    """A new poll; loads to ``storage.documents.PollDefinition``.

    Settings are complete, each option has an ``order`` (by default its index), and ``closes_at`` is
    set.
    """

    id = Pattern(UUID, "must be a UUID")
    title = Title(required=True)
    description = Text(most=MAX_DESCRIPTION)
    options = _options(least=1)
    settings = fields.Nested(SettingsSchema, error_messages=MESSAGES)

    @validates_schema
    def _require_distinct_ids(self, poll: dict[str, Any], **_: Any) -> None:
        seen: set[str] = set()
        repeated: dict[int, Any] = {}
        for place, option in enumerate(poll["options"]):
            if option.get("id") in seen:
                repeated[place] = {"id": ["is already used by another option"]}
            elif "id" in option:
                seen.add(option["id"])
        if repeated:
            raise ValidationError({"options": repeated})

    @post_load
    def _complete(self, poll: dict[str, Any], **_: Any) -> dict[str, Any]:
        return completed(ordered(poll))


class PollReplacementSchema(NewPollSchema):
    """The new state of a poll; loads to what ``completed`` takes.

    What ``GET`` returned can be sent back unchanged.
    """

    options = _options(least=0)
    results = fields.Raw(load_only=True)
    vote = fields.Raw(load_only=True)
    hasVoted = fields.Raw(load_only=True)
    canVote = fields.Raw(load_only=True)
    canChange = fields.Raw(load_only=True)
    canWrite = fields.Raw(load_only=True)
    workspace = fields.Raw(load_only=True)
    content = fields.Raw(load_only=True)
    container = fields.Raw(load_only=True)
    createdBy = fields.Raw(load_only=True)
    createdAt = fields.Raw(load_only=True)
    updatedAt = fields.Raw(load_only=True)
    state = fields.Raw(load_only=True)

    @post_load
    def _complete(self, poll: dict[str, Any], **_: Any) -> dict[str, Any]:
        return ordered({name: poll[name] for name in poll if name not in SHOWN_MEMBERS})


def ordered(poll: dict[str, Any]) -> dict[str, Any]:
    """Options without an ``order`` get their place, and the id its one spelling."""
    for place, option in enumerate(poll["options"]):
        option.setdefault("order", place)
    if "id" in poll:
        poll["id"] = poll["id"].lower()
    return poll


def is_issue(workspace: str | None, content: str) -> bool:
    """Whether the content has no container; in the workspace of users it is a user's id."""
    return ISSUE_KEY.fullmatch(content) is not None and workspace != USERS


def completed(
    definition: Mapping[str, Any],
    *,
    description: str = "",
    settings: Mapping[str, Any] = DEFAULT_SETTINGS,
) -> dict[str, Any]:
    """``definition`` with this description and these settings where it leaves them out.

    The result is a ``storage.documents.PollDefinition``. Raises ``ValidationError`` if a poll that
    closes on its end date would have none.
    """
    settings = {**settings, **definition.get("settings", {})}
    if settings.get("retention") is None:
        settings.pop("retention", None)
    if settings["closePollOnEndDate"] and not settings["endDate"]:
        raise ValidationError({"settings": NO_END})
    ends = parse_rfc3339(settings["endDate"]) if settings["closePollOnEndDate"] else None
    return {"description": description, **definition, "settings": settings, "closes_at": ends}


class PollReferenceSchema(ReceivedSchema):
    """One poll by its id, or all polls of a content."""

    workspace = Name()
    content = Name()
    container = Name(least=0)
    pollId = Pattern(UUID, "must be a UUID")

    @validates_schema
    def _require_one_kind(self, given: dict[str, str], **_: Any) -> None:
        faults = place_faults(given)
        if "pollId" in given:
            place = [name for name in given if name != "pollId"]
            faults = {name: ["must be absent beside pollId"] for name in place}
        if faults:
            raise ValidationError(faults)


class NewPlaceSchema(ReceivedSchema):
    """Where a poll is to be; without members it is where the other one is."""

    workspace = Name()
    content = Name()
    container = Name(least=0)

    @validates_schema
    def _require_whole(self, given: dict[str, str], **_: Any) -> None:
        if given and (faults := place_faults(given)):
            raise ValidationError(faults)

    @post_load
    def _complete(self, given: dict[str, str], **_: Any) -> dict[str, str]:
        return {"container": "", **given} if given else {}


def place_faults(given: Mapping[str, str]) -> dict[str, list[str]]:
    """What is missing of a workspace, a content and a container, or is too much."""
    if missing := [name for name in ("workspace", "content") if name not in given]:
        return {name: ["is missing"] for name in missing}
    container = given.get("container")
    if is_issue(given["workspace"], given["content"]):
        return {"container": [NO_CONTAINER]} if container else {}
    if container:
        return {}
    return {"container": [NEEDS_CONTAINER if container is None else "must not be empty"]}


class PollsQuerySchema(ReceivedSchema):
    """Which polls, and what to add to them."""

    polls = Items(
        fields.Nested(PollReferenceSchema, error_messages=MESSAGES),
        required=True,
        least=0,
        most=MAX_REFERENCES,
    )
    expand = Items(Choice(EXPANSIONS), load_default=(), least=0, most=len(EXPANSIONS))


class NewVoteSchema(ReceivedSchema):
    """A vote in a content poll. The poll decides how many options it may name."""

    optionIds = Items(String(), required=True, least=0, most=MAX_OPTIONS)
    comment = Text(load_default=None, most=MAX_COMMENT)


POLLS_QUERY = PollsQuerySchema()
NEW_PLACE = NewPlaceSchema()
NEW_VOTE = NewVoteSchema()
NEW_POLL = NewPollSchema()
POLL_REPLACEMENT = PollReplacementSchema()
