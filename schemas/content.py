"""What the content API takes in (contract, section 3); ``shown`` has what goes out.

The shape is that of the source API; limits and defaults are the contract's.
"""

from typing import Any

from marshmallow import ValidationError, fields, post_load, validate, validates_schema

from schemas.fields import (
    MESSAGES,
    OPTION_ID,
    UUID,
    Int32,
    Items,
    Moment,
    Pattern,
    StrictBoolean,
    StrictSchema,
    Text,
    parse_rfc3339,
)

VISIBILITIES = ("alwaysPublic", "afterVote", "afterClose", "private")
MAX_OPTIONS = 100
MAX_DESCRIPTION = 4000
MAX_COMMENT = 1000


class SettingsSchema(StrictSchema):
    """All eight settings; those that are left out get their defaults."""

    allowSelectionOfMultipleOptions = StrictBoolean(load_default=False)
    resultsVisibility = fields.String(
        load_default=VISIBILITIES[0],
        validate=validate.OneOf(VISIBILITIES, error="must be one of {choices}"),
        error_messages={**MESSAGES, "invalid": "must be a string"},
    )
    endDate = Moment(load_default="")
    hideAbsoluteNumbers = StrictBoolean(load_default=False)
    allowRevote = StrictBoolean(load_default=False)
    saveParticipantNames = StrictBoolean(load_default=False)
    closePollOnEndDate = StrictBoolean(load_default=False)
    allowComment = StrictBoolean(load_default=False)

    @validates_schema
    def _require_end(self, settings: dict[str, Any], **_: Any) -> None:
        if settings["closePollOnEndDate"] and not settings["endDate"]:
            raise ValidationError("needs an endDate", "closePollOnEndDate")


class OptionSchema(StrictSchema):
    id = Pattern(OPTION_ID, "must have 1 to 64 of the characters A-Z a-z 0-9 _ -")
    title = Text(required=True, least=1, most=255)
    order = Int32()


def _options(*, least: int) -> Items:
    item = fields.Nested(OptionSchema, error_messages=MESSAGES)
    return Items(item, required=True, least=least, most=MAX_OPTIONS)


class NewPollSchema(StrictSchema):
    """A poll to be created.

    Loads to the shape of ``PollDefinition`` in the storage: settings complete, every option with
    an ``order``, its place in the list where none was sent, and ``closes_at`` beside them.
    """

    id = Pattern(UUID, "must be a UUID")
    title = Text(required=True, least=1, most=255)
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
                repeated[place] = {"id": ["is that of another option"]}
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
    """A poll that replaces another: what ``GET`` returned can be sent back as it is."""

    options = _options(least=0)
    results = fields.Raw(load_only=True, allow_none=True)

    @post_load
    def _drop_results(self, poll: dict[str, Any], **_: Any) -> dict[str, Any]:
        poll.pop("results", None)
        return poll


class NewVoteSchema(StrictSchema):
    """A vote in a content poll; how many options it may name is the poll's to say."""

    optionIds = Items(
        fields.String(error_messages={**MESSAGES, "invalid": "must be a string"}),
        required=True,
        least=0,
        most=MAX_OPTIONS,
    )
    comment = Text(load_default=None, allow_none=True, most=MAX_COMMENT)


NEW_VOTE = NewVoteSchema()
NEW_POLL = NewPollSchema()
POLL_REPLACEMENT = PollReplacementSchema()
