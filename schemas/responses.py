"""What both APIs return (docs/api.md, sections 1, 3 and 4).

Answers are built by plain functions, not by these schemas: a property test holds the two equal. The
OpenAPI document is derived from these schemas, docstrings included.
"""

import re
from typing import Any

from marshmallow import fields, validate

from schemas.actions import ALL_ACTIONS, ANY
from schemas.content import SettingsSchema
from schemas.fields import MAX_ID, UUID, Items, Pattern, StrictSchema, parse_user_id
from schemas.polling import ENROLLMENT_TYPES

TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class ShownSchema(StrictSchema):
    """All members are required, except those in ``sometimes``."""

    sometimes: frozenset[str] = frozenset()

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.required = field_name not in self.sometimes


class ShownId(fields.Integer):
    """An integer from 0 to 2^53-1.

    A string in answers to clients of the polling API that accept only strings.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(0, MAX_ID), **options)


class ShownUserId(fields.Field[Any]):
    """The id of a user: a number, or a string that is none. 0 is the user of nobody's tokens."""

    default_error_messages = {"invalid": "is not the id of a user"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int | str:
        known = value == 0 or (isinstance(value, int | str) and parse_user_id(str(value)) == value)
        if not known or isinstance(value, bool):
            raise self.make_error("invalid")
        return value  # type: ignore[no-any-return] # one or the other


class ShownChoiceId(fields.Field[Any]):
    """The id of an option: an integer if it is one, else a string."""

    default_error_messages = {"invalid": "is not the id of a choice"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int | str:
        if not isinstance(value, int | str):
            raise self.make_error("invalid")
        return value


class ShownCourse(fields.Field[Any]):
    """The id of a course that a token covers, or ``*``."""

    default_error_messages = {"invalid": "is not the id of a course"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int | str:
        if not isinstance(value, int) and value != ANY:
            raise self.make_error("invalid")
        return value  # type: ignore[no-any-return] # one or the other


class Count(fields.Integer):
    """An integer from 0."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(0), **options)


class Time(Pattern):
    """UTC to the second, such as ``2014-01-07T15:16:18Z``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(TIME, "is not a time in UTC", **options)


class Counts(fields.Dict):
    """Integers by option id."""

    def __init__(self, **options: Any) -> None:
        super().__init__(keys=fields.String(), values=Count(), **options)


# Both APIs -------------------------------------------------------------------------------------


class FaultSchema(ShownSchema):
    """One fault of a request. ``field`` is the path of the member, or null."""

    field = fields.String(allow_none=True)
    message = fields.String()


class ProblemSchema(ShownSchema):
    """The body of every error (RFC 9457)."""

    type = fields.String(metadata={"examples": ["about:blank"]})
    title = fields.String()
    status = fields.Integer(strict=True)
    detail = fields.String()
    code = fields.String()
    errors = Items(fields.Nested(FaultSchema), least=1, most=101)


class HealthSchema(ShownSchema):
    """``ok`` while the process answers, ``ready`` while it should be sent requests."""

    status = fields.String(validate=validate.OneOf(("ok", "ready")))


# The content API -------------------------------------------------------------------------------


class ShownOptionSchema(ShownSchema):
    id = fields.String()
    title = fields.String()
    order = fields.Integer(strict=True)


class ShownSettingsSchema(ShownSchema, SettingsSchema):
    """All eight settings, and `retention` where it is set."""

    sometimes = frozenset({"retention"})


class PollSchema(ShownSchema):
    """A poll in the content API."""

    id = Pattern(UUID, "must be a UUID")
    title = fields.String()
    description = fields.String()
    options = fields.List(fields.Nested(ShownOptionSchema))
    settings = fields.Nested(ShownSettingsSchema)


class OptionResultSchema(ShownSchema):
    """The result of one option. ``votes`` is null if absolute numbers are hidden."""

    votes = Count(allow_none=True)
    percentage = fields.Float()


class ResultsSchema(ShownSchema):
    """The result of every option, also without votes. Counts are null if numbers are hidden."""

    options = fields.Dict(keys=fields.String(), values=fields.Nested(OptionResultSchema))
    votes = Count(allow_none=True)
    participants = Count(allow_none=True)
    closed = fields.Boolean()


class ResultsOfPollSchema(ShownSchema):
    """The results of a poll, from its standing session."""

    pollId = Pattern(UUID, "must be a UUID")
    sessionId = Count()
    closed = fields.Boolean()
    results = fields.Nested(ResultsSchema)
    revision = fields.String()


class LinkSchema(ShownSchema):
    """A link to a page. Whoever has it has its rights: keep it out of logs."""

    url = fields.String()
    expiresAt = Time()


class VoteSchema(ShownSchema):
    """A vote in a content poll. Members that the caller may not see are null."""

    pollId = Pattern(UUID, "must be a UUID")
    userId = ShownUserId(allow_none=True)
    optionIds = fields.List(fields.String(), allow_none=True)
    comment = fields.String(allow_none=True)
    createdAt = Time(allow_none=True)
    updatedAt = Time(allow_none=True)


class ExpandedPollSchema(PollSchema):
    """A poll in a list, with what ``expand`` adds to it.

    ``results`` is there for ``results``, if the caller may see them; ``vote``, ``hasVoted`` and
    what the caller can do now for ``vote``.
    """

    sometimes = frozenset({"results", "vote", "hasVoted", "canVote", "canChange", "canWrite"})

    results = fields.Nested(ResultsSchema)
    vote = fields.Nested(VoteSchema, allow_none=True)
    hasVoted = fields.Boolean()
    canVote = fields.Boolean()
    canChange = fields.Boolean()
    canWrite = fields.Boolean()


class WorkspacePollSchema(ExpandedPollSchema):
    """A poll in the list of a workspace, with its place."""

    workspace = fields.String()
    content = fields.String()
    container = fields.String()
    createdBy = ShownUserId()
    createdAt = Time()
    updatedAt = Time()
    state = fields.String(validate=validate.OneOf(("open", "closed")), allow_none=True)


class WorkspacePollsSchema(ShownSchema):
    """A page of the polls of a workspace."""

    polls = fields.List(fields.Nested(WorkspacePollSchema))
    nextCursor = fields.String(allow_none=True)


class QueryProblemSchema(ProblemSchema):
    """Why the caller does not get what one reference of a query leads to."""

    code = fields.String(validate=validate.OneOf(("forbidden", "not_found")))


class LineAnswerSchema(ShownSchema):
    """What became of one line of an import: what it made, or the problem that refuses it."""

    sometimes = frozenset({"id", "number", "result", "type", "title", "detail", "code", "errors"})

    line = fields.Integer(strict=True, validate=validate.Range(1))
    status = fields.Integer(strict=True)
    id = Pattern(UUID, "must be a UUID")
    number = Count()
    result = fields.String(validate=validate.OneOf(("created", "unchanged")))
    type = fields.String()
    title = fields.String()
    detail = fields.String()
    code = fields.String()
    errors = fields.List(fields.Nested(FaultSchema))


# The polling API -------------------------------------------------------------------------------


class ShownPollSchema(ShownSchema):
    """A poll in the polling API. Only managers see ``user_id`` and ``total_results``."""

    sometimes = frozenset({"user_id", "total_results"})

    id = ShownId()
    question = fields.String()
    description = fields.String()
    created_at = Time()
    user_id = ShownUserId()
    total_results = Counts()


class ShownChoiceSchema(ShownSchema):
    """A choice. ``is_correct`` is for managers, and for voters once they cannot vote any more."""

    sometimes = frozenset({"is_correct"})

    id = ShownChoiceId()
    poll_id = ShownId()
    text = fields.String()
    position = fields.Integer(strict=True)
    is_correct = fields.Boolean()


class ShownSubmissionSchema(ShownSchema):
    """A submission. Members that the caller may not see are null.

    ``poll_choice_ids`` is for polls that take several choices and for submissions that have
    several, ``comment`` for polls that allow comments and for submissions that have one.
    """

    sometimes = frozenset({"poll_choice_ids", "comment"})

    id = ShownId(allow_none=True)
    poll_session_id = ShownId()
    poll_choice_id = ShownChoiceId(allow_none=True)
    user_id = ShownUserId(allow_none=True)
    created_at = Time(allow_none=True)
    poll_choice_ids = fields.List(ShownChoiceId(), allow_none=True)
    comment = fields.String(allow_none=True)


class SessionMembers(ShownSchema):
    id = ShownId()
    poll_id = ShownId()
    course_id = ShownId(allow_none=True)
    course_section_id = ShownId(allow_none=True)
    is_published = fields.Boolean()
    created_at = Time()


class ShownSessionSchema(SessionMembers):
    """A session. ``has_public_results`` and ``results`` are for callers that may see results.

    If absolute numbers are hidden, ``result_shares``, in whole percent, replaces ``results``.
    """

    sometimes = frozenset({"has_public_results", "results", "result_shares"})

    has_submitted = fields.Boolean()
    poll_submissions = fields.List(fields.Nested(ShownSubmissionSchema), allow_none=True)
    has_public_results = fields.Boolean()
    results = Counts()
    result_shares = Counts()


class ResultsOfSessionSchema(ShownSchema):
    """The results of a session: ``results``, or ``result_shares`` if numbers are hidden."""

    sometimes = frozenset({"results", "result_shares"})

    pollId = ShownId()
    sessionId = ShownId()
    closed = fields.Boolean()
    results = Counts()
    result_shares = Counts()
    revision = fields.String()


class ExportedPollSchema(ShownSchema):
    id = ShownId()
    question = fields.String()


class ExportedSessionSchema(SessionMembers):
    participants = Count()


class CountedChoiceSchema(ShownChoiceSchema):
    sometimes = frozenset()

    votes = Count()
    percentage = fields.Float()


class ExportSchema(ShownSchema):
    """The results of a session. ``poll_submissions`` is null if names are not saved."""

    poll = fields.Nested(ExportedPollSchema)
    poll_session = fields.Nested(ExportedSessionSchema)
    poll_choices = fields.List(fields.Nested(CountedChoiceSchema))
    poll_submissions = fields.List(fields.Nested(ShownSubmissionSchema), allow_none=True)


class EnrollmentSchema(ShownSchema):
    id = ShownId()
    user_id = ShownUserId()
    course_id = ShownId()
    course_section_id = ShownId(allow_none=True)
    type = fields.String(validate=validate.OneOf(ENROLLMENT_TYPES))
    enrollment_state = fields.String(validate=validate.OneOf(("active", "deleted")))


class UserSchema(ShownSchema):
    id = ShownUserId()
    name = fields.String()


class CourseSchema(ShownSchema):
    id = ShownId()
    name = fields.String()


# Tokens ----------------------------------------------------------------------------------------


class TokenSchema(ShownSchema):
    """A token, without its secret."""

    name = fields.String()
    userId = ShownUserId()
    admin = fields.Boolean()
    actions = fields.List(fields.String(validate=validate.OneOf(ALL_ACTIONS)))
    workspaces = fields.List(fields.String())
    courses = fields.List(ShownCourse())
    polls = fields.List(Pattern(UUID, "must be a UUID"))
    createdAt = Time()
    expiresAt = Time(allow_none=True)


class CreatedTokenSchema(TokenSchema):
    """A new token. The secret is null where an `Idempotency-Key` was answered before."""

    secret = fields.String(allow_none=True)


# Data of users ---------------------------------------------------------------------------------


class ErasedCountsSchema(ShownSchema):
    """What was removed, passed on or looked through so far."""

    enrollments = Count()
    tokens = Count()
    polls = Count()
    sessions = Count()
    votes = Count()


class ErasureSchema(ShownSchema):
    """How far the erasure of a user is."""

    id = Pattern(UUID, "must be a UUID")
    state = fields.String(validate=validate.OneOf(("running", "done")))
    step = fields.String(
        validate=validate.OneOf(("access", "polls", "votes", "records")), allow_none=True
    )
    votes = fields.String(validate=validate.OneOf(("anonymize", "withdraw")))
    counts = fields.Nested(ErasedCountsSchema)
    createdAt = Time()
    updatedAt = Time()
    finishedAt = Time(allow_none=True)


# The audit -------------------------------------------------------------------------------------


class ActorSchema(ShownSchema):
    """Who asked for it. The service itself, and commands, are user 0 without a token."""

    userId = ShownUserId()
    token = fields.String(allow_none=True)


class AuditEntrySchema(ShownSchema):
    """Who did what, and to what: null where the action has no such thing."""

    id = fields.String()
    at = Time()
    action = fields.String()
    actor = fields.Nested(ActorSchema)
    pollId = Pattern(UUID, "must be a UUID", allow_none=True)
    sessionId = ShownId(allow_none=True)
    courseId = ShownId(allow_none=True)
    enrollmentId = ShownId(allow_none=True)
    token = fields.String(allow_none=True)
    changed = fields.List(fields.String(), allow_none=True)
    count = Count(allow_none=True)


class AuditSchema(ShownSchema):
    """A page of entries."""

    entries = fields.List(fields.Nested(AuditEntrySchema))
    nextCursor = fields.String(allow_none=True)


HEALTH = HealthSchema()
POLL = PollSchema()
EXPANDED_POLL = ExpandedPollSchema()
WORKSPACE_POLL = WorkspacePollSchema()
WORKSPACE_POLLS = WorkspacePollsSchema()
QUERY_PROBLEM = QueryProblemSchema()
VOTE = VoteSchema()
LINK = LinkSchema()
LINE_ANSWER = LineAnswerSchema()
RESULTS_OF_POLL = ResultsOfPollSchema()
RESULTS_OF_SESSION = ResultsOfSessionSchema()
SHOWN_POLL = ShownPollSchema()
SHOWN_CHOICE = ShownChoiceSchema()
SHOWN_SUBMISSION = ShownSubmissionSchema()
SHOWN_SESSION = ShownSessionSchema()
EXPORT = ExportSchema()
ENROLLMENT = EnrollmentSchema()
USER = UserSchema()
COURSE = CourseSchema()
TOKEN = TokenSchema()
CREATED_TOKEN = CreatedTokenSchema()
ERASURE = ErasureSchema()
AUDIT = AuditSchema()
