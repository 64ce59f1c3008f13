"""Changes of one option of a poll: pure, for ``Polls.edit``."""

from collections.abc import Mapping
from typing import Any, cast

from storage.documents import (
    MAX_OPTIONS,
    OptionDefinition,
    OptionDocument,
    PollDocument,
    number_options,
)
from storage.errors import Conflict, NotFound


def of(poll: PollDocument, option_id: str) -> OptionDocument:
    """Raises ``NotFound``."""
    for option in poll["options"]:
        if option["id"] == option_id:
            return option
    raise NotFound("There is no such poll choice.")


def added(poll: PollDocument, choice: Mapping[str, Any]) -> PollDocument:
    """``poll`` with one option more, under the next number; last unless it has an ``order``.

    Raises ``Conflict`` where a poll has all the options it may have.
    """
    options = poll["options"]
    if len(options) >= MAX_OPTIONS:
        raise Conflict(f"This poll has {MAX_OPTIONS} choices, and no more fit.")
    last = max((option["order"] for option in options), default=0)
    definition = OptionDefinition(
        title=choice["title"], order=choice.get("order", min(last + 1, 2**31 - 1))
    )
    new, highest = number_options([definition], poll["highest_option"])
    new[0]["is_correct"] = choice["is_correct"]
    return {**poll, "options": [*options, *new], "highest_option": highest}


def changed(poll: PollDocument, option_id: str, changes: Mapping[str, Any]) -> PollDocument:
    """``poll`` with some members of one option changed; raises ``NotFound``."""
    of(poll, option_id)
    options = [
        cast(OptionDocument, {**option, **changes}) if option["id"] == option_id else option
        for option in poll["options"]
    ]
    return {**poll, "options": options}


def removed(poll: PollDocument, option_id: str) -> PollDocument:
    """``poll`` without one option; raises ``NotFound``."""
    of(poll, option_id)
    return {**poll, "options": [one for one in poll["options"] if one["id"] != option_id]}
