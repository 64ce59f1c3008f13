"""Changes of one option of a poll: pure, for ``Polls.edit``."""

from collections.abc import Mapping
from typing import Any, cast

from storage.documents import OptionDefinition, OptionDocument, PollDocument, number_options
from storage.errors import LimitReached, require


def of(poll: PollDocument, option_id: str) -> OptionDocument:
    """Raises ``NotFound``."""
    found = next((option for option in poll["options"] if option["id"] == option_id), None)
    return require(found, "poll choice")


def added(poll: PollDocument, choice: Mapping[str, Any], *, most: int) -> PollDocument:
    """``poll`` with one more option, under the next number; last unless it has an ``order``.

    Raises ``LimitReached`` if the poll has ``most`` options already.
    """
    options = poll["options"]
    if len(options) >= most:
        raise LimitReached(f"This poll already has {most} choices, the most that it may have.")
    last = max((option["order"] for option in options), default=0)
    definition = OptionDefinition(
        title=choice["title"], order=choice.get("order", min(last + 1, 2**31 - 1))
    )
    [new], highest = number_options([definition], poll["highest_option"])
    new["is_correct"] = choice["is_correct"]
    return {**poll, "options": [*options, new], "highest_option": highest}


def changed(poll: PollDocument, option_id: str, changes: Mapping[str, Any]) -> PollDocument:
    """``poll`` with some members of one option changed; raises ``NotFound``."""
    option = of(poll, option_id)
    after = cast(OptionDocument, {**option, **changes})
    return {**poll, "options": [after if one is option else one for one in poll["options"]]}


def removed(poll: PollDocument, option_id: str) -> PollDocument:
    """``poll`` without one option; raises ``NotFound``."""
    option = of(poll, option_id)
    return {**poll, "options": [one for one in poll["options"] if one is not option]}
