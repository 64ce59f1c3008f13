"""Input of the content API (docs/api.md, section 3); ``shown`` has the output."""

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
    StrictBoolean,
    StrictSchema,
    String,
    Text,
    Title,
    parse_rfc3339,
)

VISIBILITIES = ("alwaysPublic", "afterVote", "afterClose", "private")
MAX_OPTIONS = 100
MAX_DESCRIPTION = 4000
MAX_COMMENT = 1000


class SettingsSchema(StrictSchema):
    """The settings of a poll, all eight; missing ones get their defaults."""

    allowSelectionOfMultipleOptions = StrictBoolean(load_default=False)
    resultsVisibility = Choice(VISIBILITIES, load_default=VISIBILITIES[0])
    endDate = Moment(load_default="")
    hideAbsoluteNumbers = StrictBoolean(load_default=False)
    allowRevote = StrictBoolean(load_default=False)
    saveParticipantNames = StrictBoolean(load_default=False)
    closePollOnEndDate = StrictBoolean(load_default=False)
    allowComment = StrictBoolean(load_default=False)

    @validates_schema
    def _require_end(self, settings: dict[str, Any], **_: Any) -> None:
        if settings["closePollOnEndDate"] and not settings["endDate"]:
            raise ValidationError("requires an endDate", "closePollOnEndDate")


class OptionSchema(StrictSchema):
    id = Pattern(OPTION_ID, "must have 1 to 64 of the characters A-Z a-z 0-9 _ -")
    title = Title(required=True)
    order = Int32()


def _options(*, least: int) -> Items:
    item = fields.Nested(OptionSchema, error_messages=MESSAGES)
    return Items(item, required=True, least=least, most=MAX_OPTIONS)


class NewPollSchema(StrictSchema):
    """A new poll; loads to ``storage.documents.PollDefinition``.

    Settings are complete, each option has an ``order`` (by default its index), and ``closes_at`` is
    set.
    """

    id = Pattern(UUID, "must be a UUID")
    title = Title(required=True)
    description = Text(load_default="", most=MAX_DESCRIPTION)
    options = _options(least=1)
    settings = fields.Nested(
        SettingsSchema, load_default=lambda: SettingsSchema().load({}), error_messages=MESSAGES
    )

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
        for place, option in enumerate(poll["options"]):
            option.setdefault("order", place)
        if "id" in poll:
            poll["id"] = poll["id"].lower()
        settings = poll["settings"]
        ends = settings["closePollOnEndDate"]
        poll["closes_at"] = parse_rfc3339(settings["endDate"]) if ends else None
        return poll


class PollReplacementSchema(NewPollSchema):
    """The new state of a poll. What ``GET`` returned can be sent back unchanged."""

    options = _options(least=0)
    results = fields.Raw(load_only=True, allow_none=True)

    @post_load
    def _drop_results(self, poll: dict[str, Any], **_: Any) -> dict[str, Any]:
        poll.pop("results", None)
        return poll


class NewVoteSchema(StrictSchema):
    """A vote in a content poll. The poll decides how many options it may name."""

    optionIds = Items(String(), required=True, least=0, most=MAX_OPTIONS)
    comment = Text(load_default=None, allow_none=True, most=MAX_COMMENT)


NEW_VOTE = NewVoteSchema()
NEW_POLL = NewPollSchema()
POLL_REPLACEMENT = PollReplacementSchema()
