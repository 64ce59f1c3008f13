"""The stored shapes, and the pure rules that hold within one document.

Settings keep the names of the content API: they are the words of the field, and no read has to
translate them.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple, NotRequired, TypedDict

from storage.errors import Conflict

SEPARATOR = "\x1f"
"""Between the parts of a container's key; control characters are refused at the door."""

MAX_POLLS = 500
MAX_CONTAINER_BYTES = 4 * 1024 * 1024
NUMBERED_ID_DIGITS = 18
"""The longest option id that counts as a number: it fits 64 bits, in the store and in clients."""

Visibility = Literal["alwaysPublic", "afterVote", "afterClose", "private"]


class Settings(TypedDict):
    allowSelectionOfMultipleOptions: bool
    resultsVisibility: Visibility
    endDate: str
    hideAbsoluteNumbers: bool
    allowRevote: bool
    saveParticipantNames: bool
    closePollOnEndDate: bool
    allowComment: bool


class OptionDefinition(TypedDict):
    """An option as a caller defines it; without ``id`` it gets the next number."""

    id: NotRequired[str]
    title: str
    order: int


class PollDefinition(TypedDict):
    """A poll as a caller defines it; ``id`` only when it is moved here from elsewhere."""

    id: NotRequired[str]
    title: str
    description: str
    options: list[OptionDefinition]
    settings: Settings


class OptionDocument(TypedDict):
    id: str
    title: str
    order: int
    is_correct: bool


class PollDocument(TypedDict):
    """``highest_option`` is the highest number that an option id of this poll ever was."""

    id: str
    number: int
    title: str
    description: str
    settings: Settings
    options: list[OptionDocument]
    highest_option: int
    owner_id: int
    created_at: datetime
    version: int


class ContainerDocument(TypedDict):
    """Polls stand in the order in which they were made."""

    _id: str
    workspace: str
    content: str
    container: str
    version: int
    polls: list[PollDocument]


class ContainerKey(NamedTuple):
    """Where polls are kept: a workspace, a piece of content in it, a container in that."""

    workspace: str
    content: str
    container: str

    @property
    def id(self) -> str:
        return SEPARATOR.join(self)


class TokenDocument(TypedDict):
    """``_id`` is the SHA-256 of the secret, in hex; ``live_names`` says which names are held."""

    _id: str
    name: str
    user_id: int
    admin: bool
    workspaces: list[str]
    actions: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def revision(poll: PollDocument) -> str:
    """Names this definition among all there ever were, also after a delete and a new start."""
    return f"{poll['number']}-{poll['version']}"


def number_options(
    options: Iterable[OptionDefinition], highest: int, kept: Iterable[OptionDocument] = ()
) -> tuple[list[OptionDocument], int]:
    """Gives every option an id; returns the options and the highest number used so far.

    An option without an id gets the number after the highest that the poll ever used, the given
    ids of this definition included, so that no id ever means two options. Options that keep their
    id keep ``is_correct`` (contract, section 3). Raises ``Conflict`` where numbers have run out.
    """
    options = list(options)
    was_correct = {option["id"]: option["is_correct"] for option in kept}
    given = (option["id"] for option in options if "id" in option)
    highest = max([highest, *(number for number in map(_as_number, given) if number is not None)])
    numbered: list[OptionDocument] = []
    for option in options:
        if "id" in option:
            option_id = option["id"]
        else:
            highest += 1
            option_id = str(highest)
            if len(option_id) > NUMBERED_ID_DIGITS:
                raise Conflict("The option ids of this poll leave no higher number: give an id.")
        numbered.append(
            OptionDocument(
                id=option_id,
                title=option["title"],
                order=option["order"],
                is_correct=was_correct.get(option_id, False),
            )
        )
    return numbered, highest


def _as_number(option_id: str) -> int | None:
    if len(option_id) <= NUMBERED_ID_DIGITS and option_id.isascii() and option_id.isdigit():
        return int(option_id)
    return None
