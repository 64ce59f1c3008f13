"""The stored documents, and the pure rules within one of them.

Settings keep the names that the content API gives them, so that no read has to translate them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from storage.errors import LimitReached, require

USERS = "users"
"""The workspace of the polls that users made under ``/api/v1``: content is the owner, container
the number of the one poll in it."""

SEPARATOR = "\x1f"
"""Between the parts of a container's key; no request may have control characters in them."""

MAX_POLLS = 500
DAY = timedelta(days=1)
IDEMPOTENCY_SECONDS = 24 * 60 * 60
"""How long an Idempotency-Key is remembered."""
MAX_CONTAINER_BYTES = 4 * 1024 * 1024
NUMBERED_ID_DIGITS = 18
"""The longest option id that counts as a number: it fits 64 bits, in the store and in clients."""

Visibility = Literal["alwaysPublic", "afterVote", "afterClose", "private"]

UserId = int | str
"""What the caller's system has. No string is a number in digits (``schemas.fields.parse_user_id``),
so ``str`` of two ids never is the same. 0 is the user of tokens that belong to nobody."""


SERVICE_USER = 0
"""The user id of tokens that belong to no user, and of what erased users made."""


class Settings(TypedDict):
    allowSelectionOfMultipleOptions: bool
    resultsVisibility: Visibility
    endDate: str
    hideAbsoluteNumbers: bool
    allowRevote: bool
    saveParticipantNames: bool
    closePollOnEndDate: bool
    allowComment: bool
    retention: NotRequired[int]


class OptionDefinition(TypedDict):
    """An option as a caller defines it; without ``id`` it gets the next number.

    ``is_correct`` is given where the option comes from another poll, or from another system.
    """

    id: NotRequired[str]
    title: str
    order: int
    is_correct: NotRequired[bool]


class _Described(TypedDict):
    title: str
    description: str
    settings: Settings
    closes_at: datetime | None


class PollDefinition(_Described):
    """A poll as a caller defines it.

    ``id`` and ``highest_option`` are given only when a poll is moved here from another system;
    ``closes_at`` is the end date of a poll that closes on it, else None.
    """

    id: NotRequired[str]
    highest_option: NotRequired[int]
    options: list[OptionDefinition]


class OptionDocument(TypedDict):
    id: str
    title: str
    order: int
    is_correct: bool


class PollDocument(_Described):
    """``highest_option`` is the highest number that an option of this poll ever had as its id.

    ``stamp`` is random, another one for each version; version 0.1 stored none.
    """

    id: str
    number: int
    options: list[OptionDocument]
    highest_option: int
    standing_session: int | None
    owner_id: UserId
    created_at: datetime
    version: int
    stamp: NotRequired[str]


class AddressDocument(TypedDict):
    """Where a poll is, with what lists of polls are read by; see ``storage.addresses``.

    ``is_open`` is that of the standing session, None where there is none. ``ends_at`` is the end
    date on which it closes, until that is noted. ``updated_at`` is the time of the last change of
    the poll or of its state.
    """

    _id: str
    number: int
    container: str
    workspace: str
    owner_id: UserId
    is_open: bool | None
    ends_at: NotRequired[datetime]
    updated_at: datetime


class ContainerDocument(TypedDict):
    """Polls are in the order in which they were created.

    Only the workspace of users has ``owner_id`` and ``number``: the list of a user's own polls is
    read by them.
    """

    _id: str
    workspace: str
    content: str
    container: str
    version: int
    owner_id: NotRequired[UserId]
    number: NotRequired[int]
    polls: list[PollDocument]


@dataclass(slots=True)
class Container:
    """The polls of a container as one read found them, oldest first; callers must not change them.

    ``shown`` and ``tag`` are for the view: polls that all callers see alike are rendered once.
    """

    polls: list[PollDocument]
    shown: bytes | None = None
    tag: str | None = None


class ContainerKey(NamedTuple):
    """Where polls are kept: a workspace, a piece of content in it, a container in that."""

    workspace: str
    content: str
    container: str

    @property
    def id(self) -> str:
        return SEPARATOR.join(self)

    @classmethod
    def of(cls, container_id: str) -> "ContainerKey":
        """The key whose ``id`` this is."""
        return cls(*container_id.split(SEPARATOR))


class LocatedPoll(NamedTuple):
    """A poll and where it is kept."""

    key: ContainerKey
    poll: PollDocument


class SessionRules(TypedDict):
    """What casting must know of the poll, copied so that it reads one document.

    ``has_ended`` notes that ``closes_at`` has passed: see ``is_open``.
    """

    settings: Settings
    options: list[str]
    closes_at: datetime | None
    has_ended: NotRequired[bool]


class SessionDocument(TypedDict):
    """One run of a poll; the standing session of a content poll has no course.

    ``results`` has every option of the poll. ``casts`` rises with each vote, opening, closing and
    end, which are ordered by it, never by clocks. ``withdrawals`` counts withdrawn votes that had
    Idempotency-Keys; without any there is none to look for. ``rights_changes`` is for
    ``rights_state``. ``edition`` is the version of the poll that last changed what its readers see;
    it tells those that watch a session, and decides nothing. ``closed_at`` is when it was closed or
    its end was noted, until it is opened again. ``counts_only``: its ballots were removed
    (``storage.retention``), so that its results stand without them, and it stays closed.
    ``awaited`` is how many ballots an import has announced and not brought yet. ``is_final``: it
    stays closed, since nobody knows which users voted in it.
    """

    _id: int
    poll_id: str
    poll_number: int
    container: str
    owner_id: UserId
    course_id: int | None
    course_section_id: int | None
    is_published: bool
    has_public_results: bool
    results: dict[str, int]
    participants: int
    casts: int
    withdrawals: NotRequired[int]
    rights_changes: NotRequired[int]
    edition: NotRequired[int]
    awaited: NotRequired[int]
    is_final: NotRequired[bool]
    rules: SessionRules
    created_at: datetime
    closed_at: NotRequired[datetime]
    counts_only: NotRequired[bool]


class BallotRequest(TypedDict):
    """A cast with an Idempotency-Key: keyed hashes of the key and of the whole request.

    ``fingerprint`` is None for a key that is only remembered, so that it casts no vote again. Of a
    cast without a name ``at`` is the day, and ``second`` that of the day, masked: without the
    secret nothing tells how old it is. Version 0.1 stored choices and comment as well;
    they are not read any more.
    """

    key: str
    fingerprint: str | None
    at: datetime
    second: NotRequired[int]


class BallotDocument(TypedDict):
    """What one voter chose in one session; ``_id`` (see ``voting.ballot_id``) is unique.

    ``user_id`` is None unless names were saved when it was cast; then the times are days.
    ``number`` is random, so that it does not show the order of votes.
    """

    _id: str
    session_id: int
    number: int
    choices: list[str]
    comment: str | None
    user_id: UserId | None
    requests: list[BallotRequest]
    created_at: datetime
    updated_at: datetime


EnrollmentType = Literal["StudentEnrollment", "TeacherEnrollment", "TaEnrollment"]


class EnrollmentDocument(TypedDict):
    """``_id`` joins course, user, section and type, so there is one enrollment of each.

    Only the user may have colons, so what is left and right of it is known.
    """

    _id: str
    number: int
    user_id: UserId
    course_id: int
    course_section_id: int | None
    type: EnrollmentType
    created_at: datetime


Course = int | Literal["*"]
"""A course that a token covers, or ``*`` for all."""


class TokenDocument(TypedDict):
    """``_id`` is the SHA-256 of the secret, in hex; ``live_names`` holds the names in use.

    ``courses`` limits acting for users; ``polls``, unless it is empty, is all that the token
    reaches. Version 0.1 stored neither.
    """

    _id: str
    name: str
    user_id: UserId
    admin: bool
    workspaces: list[str]
    actions: list[str]
    courses: NotRequired[list[Course]]
    polls: NotRequired[list[str]]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


VotesMode = Literal["anonymize", "withdraw"]
ErasureStep = Literal["access", "polls", "votes", "records"]
ERASED = ("enrollments", "tokens", "polls", "sessions", "votes")


class ErasureDocument(TypedDict):
    """``step`` is what is being done, None when all is; then nothing tells whom it was about.

    ``counts`` are of what was removed, passed on or looked through. ``after`` is the last session
    that was looked through, ``settles_at`` when what the tokens began has ended.
    """

    _id: str
    user_id: NotRequired[UserId]
    votes: VotesMode
    step: ErasureStep | None
    after: NotRequired[int]
    settles_at: NotRequired[datetime]
    counts: dict[str, int]
    created_at: datetime
    updated_at: datetime
    finished_at: NotRequired[datetime]
    leased_until: NotRequired[datetime]
    holder: NotRequired[str]


class AuditEntryDocument(TypedDict):
    """Who did what: see ``storage.audit``. ``_id`` begins with the time: it is the order.

    ``token_owner`` is the user of ``subject_token``, else of ``token_name`` where that is another
    than ``user_id``. It is not shown: an erasure finds by it whose tokens are named.
    """

    _id: str
    at: datetime
    action: str
    user_id: UserId
    token_name: str | None
    poll_id: NotRequired[str]
    session_id: NotRequired[int]
    course_id: NotRequired[int | None]
    enrollment_id: NotRequired[int]
    subject_token: NotRequired[str]
    token_owner: NotRequired[UserId]
    changed: NotRequired[list[str]]
    count: NotRequired[int]


Place = tuple[str, str]
"""Which poll a session is of: the ids of its container and of the poll."""

RightsState = tuple[Place, int | None, int | None, int]

Reach = Mapping[int | None, frozenset[int | None] | None]
"""By course (None: the standing session), the sections whose sessions a user reaches (None:
sessions without a section); None in place of the set means all sessions of the course."""


def new_session(
    number: int,
    located: LocatedPoll,
    now: datetime,
    *,
    course_id: int | None = None,
    course_section_id: int | None = None,
    is_published: bool = False,
    has_public_results: bool = False,
) -> SessionDocument:
    """A session of this poll without votes."""
    poll = located.poll
    return {
        "_id": number,
        "poll_id": poll["id"],
        "poll_number": poll["number"],
        "container": located.key.id,
        "owner_id": poll["owner_id"],
        "course_id": course_id,
        "course_section_id": course_section_id,
        "is_published": is_published,
        "has_public_results": has_public_results,
        "results": {option["id"]: 0 for option in poll["options"]},
        "participants": 0,
        "casts": 0,
        "rules": rules_of(poll),
        "created_at": now,
    }


def rules_of(poll: PollDocument) -> SessionRules:
    """The copy of the poll's rules that its sessions carry."""
    return {
        "settings": poll["settings"],
        "options": [option["id"] for option in poll["options"]],
        "closes_at": poll["closes_at"],
    }


def utc_now() -> datetime:
    return datetime.now(UTC)


def day_of(moment: datetime) -> datetime:
    """The day as a time: the midnight, in UTC, at which it began."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def has_passed(end: datetime | None, now: datetime) -> bool:
    """Whether it is ``end`` or later; None never comes."""
    return end is not None and end <= now


def poll_in(polls: Iterable[PollDocument], poll_id: str) -> PollDocument:
    """Raises ``NotFound``."""
    return require(next((poll for poll in polls if poll["id"] == poll_id), None), "poll")


def is_open(session: SessionDocument) -> bool:
    """Published, and not noted to be past the end of its poll (docs/api.md, section 5).

    No clock is asked. The end is noted in the store before any answer tells of it: votes conflict
    with that, so none comes after it, however the clocks of the processes differ.
    """
    return session["is_published"] and not session["rules"].get("has_ended", False)


def was_opened(session: SessionDocument) -> bool:
    """Whether votes could ever be cast in it; true where the store cannot tell any more."""
    changed = session.get("rights_changes", 0) or session["participants"]
    return session["is_published"] or session["course_id"] is None or bool(changed)


def rights_state(session: SessionDocument) -> RightsState:
    """Is another one after any change that may take from a user the right to vote in the session.

    These are its moves, and the ends of enrollments in its course: ``rights_changes`` counts them
    while it is published, and each time that it is opened, since then there may have been some. An
    import may give the number of a session that was purged to one of another poll.
    """
    changes = session.get("rights_changes", 0)
    return place_of(session), session["course_id"], session["course_section_id"], changes


def place_of(session: SessionDocument) -> Place:
    return session["container"], session["poll_id"]


def is_over(session: SessionDocument, now: datetime) -> bool:
    """Whether the end of the poll has passed at ``now``, and the store does not note it yet."""
    rules = session["rules"]
    return has_passed(rules["closes_at"], now) and not rules.get("has_ended", False)


def ended(session: SessionDocument, now: datetime) -> SessionDocument:
    """The session as ``note_end`` leaves it."""
    rules: SessionRules = {**session["rules"], "has_ended": True}
    closed_at = min(session.get("closed_at", now), now)
    return {**session, "rules": rules, "casts": session["casts"] + 1, "closed_at": closed_at}


def note_end(now: datetime) -> dict[str, Any]:
    """Notes the end of a session that is over; one that was closed before keeps that time."""
    noted = {"rules.has_ended": True}
    return {"$set": noted, "$inc": {"casts": 1}, "$min": {"closed_at": now}}


def revision(poll: PollDocument) -> str:
    """Identifies this definition among all that ever existed, also after a poll was deleted.

    The stamp tells it from those of other stores, and of this one before it was restored from a
    backup: there numbers and versions come again.
    """
    numbers = f"{poll['number']}-{poll['version']}"
    return f"{numbers}-{poll['stamp']}" if "stamp" in poll else numbers


def number_options(
    options: Iterable[OptionDefinition], highest: int, kept: Iterable[OptionDocument] = ()
) -> tuple[list[OptionDocument], int]:
    """Gives every option an id; returns the options and the highest number used so far.

    An option without an id gets the number after the highest that the poll ever used, including
    the given ids of this definition, so that no id ever means two options. Options that keep their
    id keep ``is_correct`` (docs/api.md, section 3). Raises ``LimitReached`` if no number is left.
    """
    options = list(options)
    was_correct = {option["id"]: option["is_correct"] for option in kept}
    given = (option["id"] for option in options if "id" in option)
    highest = max([highest, *(number for number in map(_as_number, given) if number is not None)])
    numbered: list[OptionDocument] = []
    for option in options:
        option_id = option.get("id")
        if option_id is None:
            highest += 1
            option_id = str(highest)
            if len(option_id) > NUMBERED_ID_DIGITS:
                raise LimitReached(
                    "No higher option number is left in this poll: give the option an id."
                )
        numbered.append(
            OptionDocument(
                id=option_id,
                title=option["title"],
                order=option["order"],
                is_correct=option.get("is_correct", was_correct.get(option_id, False)),
            )
        )
    return numbered, highest


def _as_number(option_id: str) -> int | None:
    is_short = len(option_id) <= NUMBERED_ID_DIGITS
    return int(option_id) if is_short and option_id.isascii() and option_id.isdigit() else None
