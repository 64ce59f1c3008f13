"""Input of the content API (docs/api.md, section 3); ``shown`` has the output."""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema

from schemas.fields import (
    MESSAGES,
    OPTION_ID,
    UUID,
    Choice,
    Int32,
    Items,
    Moment,
    Pattern,
    ReceivedSchema,
    StrictBoolean,
    String,
    Text,
    Title,
    parse_rfc3339,
)

VISIBILITIES = ("alwaysPublic", "afterVote", "afterClose", "private")
MAX_OPTIONS = 100
MAX_DESCRIPTION = 4000
MAX_COMMENT = 1000
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
        return completed(_ordered(poll))


class PollReplacementSchema(NewPollSchema):
    """The new state of a poll; loads to what ``completed`` takes.

    What ``GET`` returned can be sent back unchanged.
    """

    options = _options(least=0)
    results = fields.Raw(load_only=True)

    @post_load
    def _complete(self, poll: dict[str, Any], **_: Any) -> dict[str, Any]:
        poll.pop("results", None)
        return _ordered(poll)


def _ordered(poll: dict[str, Any]) -> dict[str, Any]:
    for place, option in enumerate(poll["options"]):
        option.setdefault("order", place)
    if "id" in poll:
        poll["id"] = poll["id"].lower()
    return poll


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
    if settings["closePollOnEndDate"] and not settings["endDate"]:
        raise ValidationError({"settings": NO_END})
    ends = parse_rfc3339(settings["endDate"]) if settings["closePollOnEndDate"] else None
    return {"description": description, **definition, "settings": settings, "closes_at": ends}


class NewVoteSchema(ReceivedSchema):
    """A vote in a content poll. The poll decides how many options it may name."""

    optionIds = Items(String(), required=True, least=0, most=MAX_OPTIONS)
    comment = Text(load_default=None, most=MAX_COMMENT)


NEW_VOTE = NewVoteSchema()
NEW_POLL = NewPollSchema()
POLL_REPLACEMENT = PollReplacementSchema()
