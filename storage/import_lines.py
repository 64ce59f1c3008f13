"""What a line of an import holds, and how it is refused."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple

from storage.documents import ContainerKey, PollDefinition, UserId
from storage.errors import Code, Conflict


class ImportedBallot(NamedTuple):
    """What one user chose; ``voter`` is the end of a ballot's ``_id``, in place of its user."""

    user_id: UserId | None
    voter: str | None
    choices: list[str]
    comment: str | None = None
    number: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class ImportedSession(NamedTuple):
    """A session and its ballots, or the first of ``participants``; None is what is not said.

    ``counts`` are those of a session of which nothing else is left. ``is_final``: it was moved
    before, without its voters.
    """

    number: int | None = None
    course_id: int | None = None
    course_section_id: int | None = None
    is_published: bool | None = None
    has_ended: bool = False
    has_public_results: bool = False
    created_at: datetime | None = None
    closed_at: datetime | None = None
    participants: int | None = None
    ballots: Sequence[ImportedBallot] = ()
    counts: Mapping[str, int] | None = None
    is_final: bool = False


class ImportedPoll(NamedTuple):
    """A poll with its sessions. ``key`` is None for a poll of a user, whose number is its place."""

    key: ContainerKey | None
    definition: PollDefinition
    number: int | None
    owner_id: UserId | None
    created_at: datetime | None
    sessions: Sequence[ImportedSession]
    voter_key: str | None = None


class Imported(NamedTuple):
    """The poll of a line; ``is_new`` says that the line changed something."""

    poll_id: str
    number: int
    is_new: bool


class LineRefused(Conflict):
    """A line contradicts what is stored; the text is a predicate of its member ``field``."""

    code: ClassVar[Code] = Code.CONFLICT

    def __init__(self, field: str, predicate: str) -> None:
        super().__init__(predicate)
        self.field = field


class Taken(LineRefused):
    """There is another poll, session or ballot of this id or number, or one that differs."""

    code = Code.ID_TAKEN


class UnknownChoice(LineRefused):
    """The poll has no such option."""

    code = Code.UNKNOWN_OPTION
