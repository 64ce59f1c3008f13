"""Input of links (docs/api.md, section 7)."""

from typing import Any

from marshmallow import ValidationError, fields, validate

from schemas.fields import MESSAGES, Choice, Items, ReceivedSchema, as_whole

VIEW, VOTE = "view", "vote"
MIN_SECONDS, MAX_SECONDS = 60, 7 * 24 * 60 * 60


class Seconds(fields.Integer):
    """How long a link lasts, as a JSON number."""

    default_error_messages = {**MESSAGES, "invalid": "must be a whole number"}

    def __init__(self, **options: Any) -> None:
        error = f"must be from {MIN_SECONDS} to {MAX_SECONDS:,}"
        bounds = validate.Range(MIN_SECONDS, MAX_SECONDS, error=error)
        super().__init__(strict=True, validate=bounds, **options)

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> int:
        if isinstance(value, bool | str):  # marshmallow would read them as numbers
            raise self.make_error("invalid")
        return super()._deserialize(as_whole(value), *place, **options)


class LinkActions(Items):
    """``view``, which every link has, and maybe ``vote``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Choice((VIEW, VOTE)), least=1, most=2, **options)
        self.validators = [*self.validators, _require_actions]


def _require_actions(actions: list[str]) -> None:
    if VIEW not in actions or len(set(actions)) < len(actions):
        raise ValidationError("must be view, or view and vote")


class NewLinkSchema(ReceivedSchema):
    """A link to the page of a poll."""

    actions = LinkActions(required=True)
    expiresIn = Seconds(required=True)


NEW_LINK = NewLinkSchema()
