"""The lines that polls are moved in (docs/moving.md)."""

import re
from datetime import datetime
from typing import Any

from marshmallow import ValidationError, fields, post_load, validate, validates_schema

from schemas.content import (
    MAX_COMMENT,
    MAX_DESCRIPTION,
    MAX_OPTIONS,
    NewPollSchema,
    OptionSchema,
    completed,
    ordered,
    place_faults,
)
from schemas.fields import (
    MESSAGES,
    OPTION_ID,
    USERS,
    UUID,
    Id,
    Items,
    Name,
    Pattern,
    ReceivedSchema,
    StrictBoolean,
    String,
    Text,
    UserId,
    as_whole,
    parse_rfc3339,
)

MAX_BALLOTS = 1_000
"""In one list."""
MAX_SESSIONS = 1_000
MAX_NUMBER = 2**52
"""The highest number that may be given: as many are left for what is made later."""
MAX_OPTION_NUMBER = 10**18 - 1
VOTER = re.compile(r"[0-9a-f]{64}")
VOTER_KEY = re.compile(r"[0-9a-f]{32}")
NEEDS_COURSE = "must be absent without a courseId"


class Number(Id):
    """The number of a poll or a session, to be kept."""

    default_error_messages = {**MESSAGES, "invalid": "must be a whole number from 1 to 2^52"}

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> int | None:
        number = super()._deserialize(value, *place, **options)
        if number is not None and number > MAX_NUMBER:
            raise self.make_error("invalid")
        return number


class Owner(UserId):
    """The id of a user, or 0 for the user of tokens that belong to nobody."""

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> int | str:
        if value == 0 and type(value) is int:
            return 0
        return super()._deserialize(value, *place, **options)


class Instant(fields.Field[datetime]):
    """A time of RFC 3339, to the second."""

    default_error_messages = {
        **MESSAGES,
        "invalid": "must be a time with an offset, such as 2026-01-31T18:00:00+01:00",
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> datetime:
        moment = parse_rfc3339(value) if isinstance(value, str) else None
        if moment is None:
            raise self.make_error("invalid")
        return moment


class Total(fields.Integer):
    """How many there are: a number of votes."""

    default_error_messages = {**MESSAGES, "invalid": "must be a whole number"}

    def __init__(self, most: int = MAX_NUMBER, **options: Any) -> None:
        within = validate.Range(0, most, error="must be from 0 to {max}")
        super().__init__(strict=True, validate=within, **options)

    def _deserialize(self, value: Any, *place: Any, **options: Any) -> int:
        if isinstance(value, bool | str):
            raise self.make_error("invalid")
        return super()._deserialize(as_whole(value), *place, **options)


class Tally(fields.Dict):
    """Numbers of votes by option."""

    default_error_messages = {**MESSAGES, "invalid": "must be an object"}

    def __init__(self, **options: Any) -> None:
        keys = Pattern(OPTION_ID, "must be the id of an option")
        super().__init__(keys=keys, values=Total(), **options)


class MovedOptionSchema(OptionSchema):
    isCorrect = StrictBoolean(load_default=False)


class MovedBallotSchema(ReceivedSchema):
    """What one user chose; ``voter`` stands for the user where names are not saved."""

    id = Id()
    userId = UserId()
    voter = Pattern(VOTER, "must be the voter of an export")
    optionIds = Items(String(), required=True, least=1, most=MAX_OPTIONS)
    comment = Text(most=MAX_COMMENT)
    createdAt = Instant()
    updatedAt = Instant()

    @validates_schema
    def _require_voter(self, given: dict[str, Any], **_: Any) -> None:
        faults: dict[str, list[str]] = {}
        if ("userId" in given) == ("voter" in given):
            missing = "is missing, and so is voter" if "voter" not in given else None
            faults["userId"] = [missing or "must be absent beside voter"]
        if len(set(given["optionIds"])) < len(given["optionIds"]):
            faults["optionIds"] = ["must not repeat options"]
        created, updated = given.get("createdAt"), given.get("updatedAt")
        if updated is not None and (created is None or updated < created):
            faults["updatedAt"] = ["must not be before createdAt"]
        if faults:
            raise ValidationError(faults)


def _ballots(**options: Any) -> Items:
    item = fields.Nested(MovedBallotSchema, error_messages=MESSAGES)
    return Items(item, least=0, most=MAX_BALLOTS, **options)


class MovedSessionSchema(ReceivedSchema):
    """A session with its ballots, or the first of them; without a course the standing session."""

    id = Number()
    courseId = Id()
    courseSectionId = Id()
    isPublished = StrictBoolean()
    hasEnded = StrictBoolean(load_default=False)
    hasPublicResults = StrictBoolean(load_default=False)
    createdAt = Instant()
    closedAt = Instant()
    countsOnly = StrictBoolean(load_default=False)
    isFinal = StrictBoolean(load_default=False)
    results = Tally()
    participants = Total()
    ballots = _ballots(load_default=list)

    @validates_schema
    def _require_agreement(self, given: dict[str, Any], **_: Any) -> None:
        faults: dict[str, Any] = {}
        if "courseId" not in given:
            if "courseSectionId" in given:
                faults["courseSectionId"] = [NEEDS_COURSE]
            if given["hasPublicResults"]:
                faults["hasPublicResults"] = ["must be false without a courseId"]
        elif "id" not in given:
            faults["id"] = ["is missing"]
        if "id" not in given and any("voter" in one for one in given["ballots"]):
            faults["id"] = ["is missing, which a voter needs"]
        stays_closed = [name for name in ("countsOnly", "isFinal") if given[name]]
        if stays_closed and given.get("isPublished", "courseId" not in given):
            faults["isPublished"] = [f"must be false with {stays_closed[0]}"]
        if given["countsOnly"]:
            faults |= _faults_of_counts(given)
        elif given.get("participants", len(given["ballots"])) < len(given["ballots"]):
            faults["participants"] = ["must not be less than there are ballots"]
        if faults:
            raise ValidationError(faults)


def _faults_of_counts(given: dict[str, Any]) -> dict[str, list[str]]:
    """Of a session whose ballots are gone: its counts are what is stated, and it is closed."""
    faults: dict[str, list[str]] = {}
    if given["ballots"]:
        faults["ballots"] = ["must be empty with countsOnly"]
    results, participants = given.get("results"), given.get("participants")
    for name, value in (("results", results), ("participants", participants)):
        if value is None:
            faults[name] = ["is missing, which countsOnly needs"]
    if results is not None and participants is not None:
        votes = results.values()
        if not max(votes, default=0) <= participants <= sum(votes):
            faults["participants"] = ["does not agree with results"]
    return faults


def _sessions(**options: Any) -> Items:
    item = fields.Nested(MovedSessionSchema, error_messages=MESSAGES)
    return Items(item, least=0, most=MAX_SESSIONS, **options)


class PollLineSchema(NewPollSchema):
    """A poll with its place, its number, its times and its sessions."""

    number = Number()
    workspace = Name(required=True)
    content = Name()
    container = Name(least=0)
    description = Text(most=MAX_DESCRIPTION)
    options = Items(
        fields.Nested(MovedOptionSchema, error_messages=MESSAGES),
        required=True,
        least=0,
        most=MAX_OPTIONS,
    )
    highestOption = Total(MAX_OPTION_NUMBER, load_default=0)
    createdBy = Owner()
    createdAt = Instant()
    voterKey = Pattern(VOTER_KEY, "must be the voterKey of an export")
    sessions = _sessions(load_default=list)

    @validates_schema
    def _require_place(self, given: dict[str, Any], **_: Any) -> None:
        faults: dict[str, Any] = {}
        if "id" not in given and "number" not in given:
            faults["id"] = ["is missing, and so is number: one of them must name the poll"]
        if given["workspace"] == USERS:
            faults |= _faults_of_users(given)
        else:
            faults |= place_faults(given)
        if faults:
            raise ValidationError(faults)

    @validates_schema
    def _require_sessions(self, given: dict[str, Any], **_: Any) -> None:
        faults = _session_faults(given["sessions"], is_of_users=given["workspace"] == USERS)
        closes = given.get("settings", {}).get("closePollOnEndDate", False)
        known = {option.get("id") for option in given["options"]}
        for place, session in enumerate(given["sessions"]):
            if session["hasEnded"] and not closes:
                faults.setdefault(place, {})["hasEnded"] = ["requires closePollOnEndDate"]
            unknown = {} if None in known else _unknown_options(session["ballots"], known)
            if unknown:
                faults.setdefault(place, {})["ballots"] = unknown
        if faults:
            raise ValidationError({"sessions": faults})

    @post_load
    def _complete(self, line: dict[str, Any], **_: Any) -> dict[str, Any]:
        """``definition`` is a ``storage.documents.PollDefinition``."""
        poll = completed(ordered(line))
        options = [{**option, "is_correct": option["isCorrect"]} for option in poll["options"]]
        for option in options:
            del option["isCorrect"]
        described = ("id", "title", "description", "settings", "closes_at")
        definition = {name: poll[name] for name in described if name in poll}
        definition |= {"options": options, "highest_option": line["highestOption"]}
        return {**line, "definition": definition}


def _faults_of_users(given: dict[str, Any]) -> dict[str, list[str]]:
    """The place of a poll of a user says whose it is, and its number."""
    if "createdBy" not in given:
        return {"createdBy": ["is missing"]}
    faults: dict[str, list[str]] = {}
    if given.get("content", str(given["createdBy"])) != str(given["createdBy"]):
        faults["content"] = ["must be createdBy"]
    if given.get("container", "") not in ("", str(given.get("number", ""))):
        faults["container"] = ["must be the number"]
    return faults


def _session_faults(sessions: list[dict[str, Any]], *, is_of_users: bool) -> dict[int, Any]:
    faults: dict[int, Any] = {}
    seen: set[int] = set()
    has_standing = is_of_users
    for place, session in enumerate(sessions):
        if "courseId" not in session:
            if has_standing:
                word = "is missing" if is_of_users else "is missing in a second session"
                faults[place] = {"courseId": [word]}
            has_standing = True
        number = session.get("id")
        if number in seen:
            faults[place] = {"id": ["is already used by another session"]}
        elif number is not None:
            seen.add(number)
    return faults


def _unknown_options(ballots: list[dict[str, Any]], known: set[Any]) -> dict[int, Any]:
    return {
        place: {"optionIds": ["must be options of the poll"]}
        for place, ballot in enumerate(ballots)
        if not known.issuperset(ballot["optionIds"])
    }


class SessionsLineSchema(ReceivedSchema):
    """More sessions of a poll of a line before."""

    pollId = Pattern(UUID, "must be a UUID", required=True)
    voterKey = Pattern(VOTER_KEY, "must be the voterKey of an export")
    sessions = _sessions(required=True)

    @validates_schema
    def _require_courses(self, given: dict[str, Any], **_: Any) -> None:
        if faults := _session_faults(given["sessions"], is_of_users=True):
            raise ValidationError({"sessions": faults})

    @post_load
    def _complete(self, line: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**line, "pollId": line["pollId"].lower()}


class BallotsLineSchema(ReceivedSchema):
    """More ballots of a session of a line before; without ``sessionId`` of the standing session."""

    pollId = Pattern(UUID, "must be a UUID", required=True)
    sessionId = Number()
    voterKey = Pattern(VOTER_KEY, "must be the voterKey of an export")
    ballots = _ballots(required=True)

    @validates_schema
    def _require_session(self, given: dict[str, Any], **_: Any) -> None:
        if "sessionId" not in given and any("voter" in one for one in given["ballots"]):
            raise ValidationError("is missing, which a voter needs", "sessionId")

    @post_load
    def _complete(self, line: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**line, "pollId": line["pollId"].lower()}


POLL_LINE = PollLineSchema()
SESSIONS_LINE = SessionsLineSchema()
BALLOTS_LINE = BallotsLineSchema()
