"""What goes out, on both faces (contract, sections 1, 3 and 4).

Answers are put together by plain functions and not by these schemas; tests hold the two equal, and
the OpenAPI document is made from here.
"""

import re
from typing import Any

from marshmallow import fields, validate

from schemas.content import SettingsSchema
from schemas.fields import MAX_ID, UUID, Items, Pattern, StrictSchema
from schemas.polling import ENROLLMENT_TYPES

TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class ShownSchema(StrictSchema):
    """Every member is there, except that those in ``sometimes`` may be missing."""

    sometimes: frozenset[str] = frozenset()

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.required = field_name not in self.sometimes


class ShownId(fields.Field[int]):
    """A whole number from 0, which is the user of admin tokens, to 2^53-1.

    To clients of the polling API that ask for them it is shown as a string.
    """

    default_error_messages = {"invalid": "is no id"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if not isinstance(value, int) or not 0 <= value <= MAX_ID:
            raise self.make_error("invalid")
        return value


class ShownChoiceId(fields.Field[Any]):
    """The id of an option: a number where it is one, else a string."""

    default_error_messages = {"invalid": "is no id of a choice"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int | str:
        if not isinstance(value, int | str):
            raise self.make_error("invalid")
        return value


class Count(fields.Integer):
    """A whole number from 0."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strict=True, **options)


class Time(Pattern):
    """UTC to the second, as ``2014-01-07T15:16:18Z``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(TIME, "is no time in UTC", **options)


class Counts(fields.Dict):
    """Whole numbers by the ids of options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(keys=fields.String(), values=Count(), **options)


# Both faces ------------------------------------------------------------------------------------


class FaultSchema(ShownSchema):
    """One thing that is wrong with a request; ``field`` is its path, or null."""

    field = fields.String(allow_none=True)
    message = fields.String()


class ProblemSchema(ShownSchema):
    """The body of every refusal (RFC 9457)."""

    type = fields.String(metadata={"examples": ["about:blank"]})
    title = fields.String()
    status = fields.Integer(strict=True)
    detail = fields.String()
    errors = Items(fields.Nested(FaultSchema), least=1, most=101)


class HealthSchema(ShownSchema):
    """That the process answers, or that requests should be sent to it."""

    status = fields.String(validate=validate.OneOf(("ok", "ready")))


# Content polls ---------------------------------------------------------------------------------


class ShownOptionSchema(ShownSchema):
    id = fields.String()
    title = fields.String()
    order = fields.Integer(strict=True)


class ShownSettingsSchema(ShownSchema, SettingsSchema):
    """All eight settings."""


class PollSchema(ShownSchema):
    """A poll as ``/rest`` shows it."""

    id = Pattern(UUID, "must be a UUID")
    title = fields.String()
    description = fields.String()
    options = fields.List(fields.Nested(ShownOptionSchema))
    settings = fields.Nested(ShownSettingsSchema)


class OptionResultSchema(ShownSchema):
    """``votes`` is null where absolute numbers are hidden."""

    votes = Count(allow_none=True)
    percentage = fields.Float()


class ResultsSchema(ShownSchema):
    """Every option is there, with 0 too; counts are null where absolute numbers are hidden."""

    options = fields.Dict(keys=fields.String(), values=fields.Nested(OptionResultSchema))
    votes = Count(allow_none=True)
    participants = Count(allow_none=True)
    closed = fields.Boolean()


class ResultsOfPollSchema(ShownSchema):
    """The results of one poll, of its standing session."""

    pollId = Pattern(UUID, "must be a UUID")
    sessionId = Count()
    closed = fields.Boolean()
    results = fields.Nested(ResultsSchema)


class ExpandedPollSchema(PollSchema):
    """A poll in a list; ``results`` are there for ``expand=results``, for who may see them."""

    sometimes = frozenset({"results"})

    results = fields.Nested(ResultsSchema)


class VoteSchema(ShownSchema):
    """A vote in a content poll; what the caller may not know of it is null."""

    pollId = Pattern(UUID, "must be a UUID")
    userId = Count(allow_none=True)
    optionIds = fields.List(fields.String(), allow_none=True)
    comment = fields.String(allow_none=True)
    createdAt = Time(allow_none=True)
    updatedAt = Time(allow_none=True)


# The polling API -------------------------------------------------------------------------------


class ShownPollSchema(ShownSchema):
    """A poll as ``/api/v1`` shows it; ``user_id`` and ``total_results`` are for managers."""

    sometimes = frozenset({"user_id", "total_results"})

    id = ShownId()
    question = fields.String()
    description = fields.String()
    created_at = Time()
    user_id = ShownId()
    total_results = Counts()


class ShownChoiceSchema(ShownSchema):
    """``is_correct`` is for managers, and for voters once nothing can be voted any more."""

    sometimes = frozenset({"is_correct"})

    id = ShownChoiceId()
    poll_id = ShownId()
    text = fields.String()
    position = fields.Integer(strict=True)
    is_correct = fields.Boolean()


class ShownSubmissionSchema(ShownSchema):
    """``poll_choice_ids`` are of polls that take several, ``comment`` of those that take one."""

    sometimes = frozenset({"poll_choice_ids", "comment"})

    id = ShownId(allow_none=True)
    poll_session_id = ShownId()
    poll_choice_id = ShownChoiceId()
    user_id = ShownId(allow_none=True)
    created_at = Time(allow_none=True)
    poll_choice_ids = fields.List(ShownChoiceId())
    comment = fields.String(allow_none=True)


class ShownSessionSchema(ShownSchema):
    """The last three members are for who may see results.

    Where absolute numbers are hidden ``result_shares``, in whole percents, stand for ``results``.
    """

    sometimes = frozenset({"has_public_results", "results", "result_shares"})

    id = ShownId()
    poll_id = ShownId()
    course_id = ShownId(allow_none=True)
    course_section_id = ShownId(allow_none=True)
    is_published = fields.Boolean()
    created_at = Time()
    has_submitted = fields.Boolean()
    poll_submissions = fields.List(fields.Nested(ShownSubmissionSchema), allow_none=True)
    has_public_results = fields.Boolean()
    results = Counts()
    result_shares = Counts()


class ExportedPollSchema(ShownSchema):
    id = ShownId()
    question = fields.String()


class ExportedSessionSchema(ShownSchema):
    id = ShownId()
    poll_id = ShownId()
    course_id = ShownId(allow_none=True)
    course_section_id = ShownId(allow_none=True)
    is_published = fields.Boolean()
    created_at = Time()
    participants = Count()


class CountedChoiceSchema(ShownSchema):
    id = ShownChoiceId()
    poll_id = ShownId()
    text = fields.String()
    position = fields.Integer(strict=True)
    is_correct = fields.Boolean()
    votes = Count()
    percentage = fields.Float()


class ExportSchema(ShownSchema):
    """The results of a session; ``poll_submissions`` are null where names are not saved."""

    poll = fields.Nested(ExportedPollSchema)
    poll_session = fields.Nested(ExportedSessionSchema)
    poll_choices = fields.List(fields.Nested(CountedChoiceSchema))
    poll_submissions = fields.List(fields.Nested(ShownSubmissionSchema), allow_none=True)


class EnrollmentSchema(ShownSchema):
    id = ShownId()
    user_id = ShownId()
    course_id = ShownId()
    course_section_id = ShownId(allow_none=True)
    type = fields.String(validate=validate.OneOf(ENROLLMENT_TYPES))
    enrollment_state = fields.String(validate=validate.OneOf(("active", "deleted")))


class UserSchema(ShownSchema):
    id = ShownId()
    name = fields.String()


class CourseSchema(ShownSchema):
    id = ShownId()
    name = fields.String()


HEALTH = HealthSchema()
POLL = PollSchema()
EXPANDED_POLL = ExpandedPollSchema()
VOTE = VoteSchema()
RESULTS_OF_POLL = ResultsOfPollSchema()
SHOWN_POLL = ShownPollSchema()
SHOWN_CHOICE = ShownChoiceSchema()
SHOWN_SUBMISSION = ShownSubmissionSchema()
SHOWN_SESSION = ShownSessionSchema()
EXPORT = ExportSchema()
ENROLLMENT = EnrollmentSchema()
USER = UserSchema()
COURSE = CourseSchema()
