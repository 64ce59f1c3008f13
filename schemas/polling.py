"""Input of the polling API (docs/api.md, section 4); ``shown`` has the output.

Clients send forms as often as JSON, so numbers and booleans are also read from text. Unknown and
read-only members are ignored, because clients send back whole objects.
"""

import re
from typing import Any, NamedTuple

from marshmallow import EXCLUDE, fields, post_load

from schemas.content import (
    DEFAULT_SETTINGS,
    MAX_COMMENT,
    MAX_DESCRIPTION,
    MAX_OPTIONS,
    completed,
)
from schemas.fields import (
    MAX_ID,
    MESSAGES,
    Choice,
    Id,
    Int32,
    Items,
    ReceivedSchema,
    Text,
    Title,
    UserId,
    as_whole,
)

ENROLLMENT_TYPES = ("StudentEnrollment", "TeacherEnrollment", "TaEnrollment")

SIGNED_DIGITS = re.compile(r"0|-?[1-9][0-9]{0,9}", re.ASCII)
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Resource(NamedTuple):
    """The two names of a resource in a body."""

    plural: str
    singular: str


POLLS = Resource("polls", "poll")
CHOICES = Resource("poll_choices", "poll_choice")
SESSIONS = Resource("poll_sessions", "poll_session")
SUBMISSIONS = Resource("poll_submissions", "poll_submission")
ENROLLMENTS = Resource("enrollments", "enrollment")


class Flag(fields.Field[bool]):
    """A JSON boolean, or its form: true, false, 1 or 0 in any case."""

    default_error_messages = {**MESSAGES, "invalid": "must be true or false"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        flag = BOOLEANS.get(value.lower()) if isinstance(value, str) else value
        if not isinstance(flag, bool):
            raise self.make_error("invalid")
        return flag


class FormInt32(Int32):
    """A 32-bit integer, as a number or a string of digits."""

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> int:
        if isinstance(value, str) and SIGNED_DIGITS.fullmatch(value):
            value = int(value)
        return super()._deserialize(value, *place, **options)


class LenientSchema(ReceivedSchema):
    """Ignores unknown members.

    ``cleared`` are the members that an empty value clears; elsewhere in a form it counts as absent.
    ``alternatives`` say the same in other words: of those in the query none counts where the body
    has any.
    """

    cleared: frozenset[str] = frozenset()
    alternatives: frozenset[str] = frozenset()

    class Meta:
        unknown = EXCLUDE


class PollChanges(LenientSchema):
    """The changes of a PUT; loads to members of ``storage.documents.PollDocument``."""

    cleared = frozenset({"description"})

    question = Title(attribute="title")
    description = Text(most=MAX_DESCRIPTION)


class NewPoll(PollChanges):
    """A poll without choices; loads to ``storage.documents.PollDefinition``."""

    cleared = frozenset()

    question = Title(required=True, attribute="title")
    description = Text(load_default="", most=MAX_DESCRIPTION)

    @post_load
    def _complete(self, poll: dict[str, Any], **_: Any) -> dict[str, Any]:
        settings = {**DEFAULT_SETTINGS, "saveParticipantNames": True}
        return completed({**poll, "options": []}, settings=settings)


class ChoiceChanges(LenientSchema):
    """The changes of a PUT; loads to members of ``storage.documents.OptionDocument``."""

    text = Title(attribute="title")
    is_correct = Flag()
    position = FormInt32(attribute="order")


class NewChoice(ChoiceChanges):
    text = Title(required=True, attribute="title")
    is_correct = Flag(load_default=False)


class SessionChanges(LenientSchema):
    cleared = frozenset({"course_section_id"})

    course_id = Id()
    course_section_id = Id(clears=True)
    has_public_results = Flag()


class NewSession(LenientSchema):
    course_id = Id(required=True)
    course_section_id = Id(load_default=None)
    has_public_results = Flag(load_default=False)


class ChoiceId(fields.Field[str]):
    """The id of a choice: a whole number from 1 to 2^53-1, or a string.

    Loads to the id of its option, a string.
    """

    default_error_messages = {**MESSAGES, "invalid": "must be the id of a choice"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if isinstance(value, str):
            return value
        number = as_whole(value)
        if type(number) is not int or not 0 < number <= MAX_ID:  # bool is an int too
            raise self.make_error("invalid")
        return str(number)


class NewSubmission(LenientSchema):
    """One of the two ids is required; clients that send back what they were shown have both."""

    alternatives = frozenset({"poll_choice_id", "poll_choice_ids"})

    poll_choice_id = ChoiceId()
    poll_choice_ids = Items(ChoiceId(), least=1, most=MAX_OPTIONS)
    comment = Text(load_default=None, most=MAX_COMMENT)


class NewEnrollment(LenientSchema):
    user_id = UserId(is_form=True, required=True)
    type = Choice(ENROLLMENT_TYPES, load_default=ENROLLMENT_TYPES[0])
    course_section_id = Id(load_default=None)


NEW_POLL = NewPoll()
POLL_CHANGES = PollChanges()
NEW_CHOICE = NewChoice()
CHOICE_CHANGES = ChoiceChanges()
NEW_SESSION = NewSession()
SESSION_CHANGES = SessionChanges()
NEW_SUBMISSION = NewSubmission()
NEW_ENROLLMENT = NewEnrollment()
