"""Input of ``/tokens`` (docs/api.md, section 8); ``responses`` has the output.

What a token may combine is the same on the command line.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, post_load, validate, validates_schema

from schemas.actions import ACT, ACTIONS, ALL_ACTIONS, ANY
from schemas.fields import (
    CONTROL,
    ID_MESSAGE,
    USERS,
    UUID,
    Choice,
    Id,
    Int32,
    Items,
    Moment,
    Pattern,
    ReceivedSchema,
    StrictBoolean,
    Text,
    Title,
    UserId,
    parse_id,
    parse_rfc3339,
)

MAX_LIMITS = 1000
"""Of the workspaces, the courses or the polls of a token."""
MAX_SECONDS = 366 * 24 * 60 * 60
COURSE_MESSAGE = f"{ID_MESSAGE}, or {ANY}"
POLL_MESSAGE = "must be the UUID of a poll"


def parse_course(text: str) -> int | str | None:
    return text if text == ANY else parse_id(text)


def parse_poll(text: str) -> str | None:
    return text.lower() if UUID.fullmatch(text) else None


def require_effect(token: Mapping[str, Any]) -> None:
    """Raises ``ValidationError`` for a limit that limits nothing, or an action without effect.

    ``token`` has ``admin``, ``actions``, ``workspaces``, ``courses`` and ``polls``, as far as they
    were given. Such a token would allow more, or less, than its maker believes.
    """
    given = [name for name in ("actions", "workspaces", "courses", "polls") if token.get(name)]
    if token.get("admin"):
        if given:
            message = "would not limit an admin token, which may do everything, everywhere"
            raise ValidationError(message, given[0])
        return
    actions = token.get("actions") or ACTIONS
    if ACT not in actions:
        if "courses" in given:
            raise ValidationError("would limit nothing without the action act", "courses")
    elif set(actions) == {ACT}:
        raise ValidationError("must have read, write or vote beside act", "actions")
    elif not {"workspaces", "courses"} & {*given}:
        message = "must not have act without a workspace or a course to act in"
        raise ValidationError(message, "actions")


class Workspace(Text):
    """The name of a workspace, or ``*``."""

    def __init__(self) -> None:
        super().__init__(least=1, most=255)
        self.validators = [*self.validators, _require_workspace]


def _require_workspace(name: str) -> None:
    if CONTROL.search(name):
        raise ValidationError("must not have control characters")
    if name == USERS:
        raise ValidationError(f"must not be {USERS}, which no token covers")


class Course(Id):
    """The id of a course as a JSON number, since this is not a form; or ``*``."""

    default_error_messages = {"invalid": COURSE_MESSAGE}

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> Any:
        if value == ANY:
            return ANY
        if isinstance(value, str):
            raise self.make_error("invalid")
        return super()._deserialize(value, *place, **options)


class Seconds(Int32):
    """A whole number from 1 to ``MAX_SECONDS``."""

    def __init__(self) -> None:
        super().__init__()
        message = f"must be 1 to {MAX_SECONDS:,} seconds"
        self.validators = [validate.Range(1, MAX_SECONDS, error=message)]


class NewTokenSchema(ReceivedSchema):
    """A new token.

    Loads to what ``storage.tokens.Tokens.create`` takes, but for ``expires_in``, the seconds from
    now on that may stand in place of ``expires_at``.
    """

    name = Title(most=100, required=True)
    userId = UserId(required=True)
    admin = StrictBoolean()
    actions = Items(Choice(ALL_ACTIONS), least=1, most=len(ALL_ACTIONS))
    workspaces = Items(Workspace(), least=0, most=MAX_LIMITS)
    courses = Items(Course(), least=0, most=MAX_LIMITS)
    polls = Items(Pattern(UUID, POLL_MESSAGE), least=1, most=MAX_LIMITS)
    expiresIn = Seconds()
    expiresAt = Moment()

    @validates_schema
    def _require_effect(self, token: dict[str, Any], **_: Any) -> None:
        require_effect(token)
        if "expiresIn" in token and token.get("expiresAt"):
            raise ValidationError("must not be given beside expiresIn", "expiresAt")

    @post_load
    def _complete(self, token: dict[str, Any], **_: Any) -> dict[str, Any]:
        admin = token.get("admin", False)
        return {
            "name": token["name"],
            "user_id": token["userId"],
            "admin": admin,
            "actions": [*dict.fromkeys(token.get("actions", ACTIONS))],
            "workspaces": [ANY] if admin else [*dict.fromkeys(token.get("workspaces", ()))],
            "courses": [*dict.fromkeys(token.get("courses", ()))],
            "polls": [*dict.fromkeys(map(str.lower, token.get("polls", ())))],
            "expires_in": token.get("expiresIn"),
            "expires_at": parse_rfc3339(token.get("expiresAt", "")),
        }


NEW_TOKEN = NewTokenSchema()
