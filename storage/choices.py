"""Changes of one option of a poll: pure, for ``Polls.edit``."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from storage.documents import OptionDefinition, OptionDocument, PollDocument, number_options
from storage.errors import LimitReached, require


def of(poll: PollDocument, option_id: str) -> OptionDocument:
    """Raises ``NotFound``."""
    found = next((option for option in poll["options"] if option["id"] == option_id), None)
    return require(found, "poll choice")


def added(poll: PollDocument, wanted: Sequence[Mapping[str, Any]], *, most: int) -> PollDocument:
    """``poll`` with more options, under the next numbers; each last unless it has an ``order``.

    Raises ``LimitReached`` if the poll would have more than ``most`` options.
    """
    if len(poll["options"]) + len(wanted) > most:
        raise LimitReached(
            f"This poll has {len(poll['options'])} choices already, and may have at most {most}."
        )
    last = max((option["order"] for option in poll["options"]), default=0)
    definitions: list[OptionDefinition] = []
    for choice in wanted:
        order = choice.get("order", min(last + 1, 2**31 - 1))
        last = max(last, order)
        definitions.append(OptionDefinition(title=choice["title"], order=order))
    new, highest = number_options(definitions, poll["highest_option"])
    for option, choice in zip(new, wanted, strict=True):
        option["is_correct"] = choice["is_correct"]
    return {**poll, "options": [*poll["options"], *new], "highest_option": highest}


def changed(poll: PollDocument, option_id: str, changes: Mapping[str, Any]) -> PollDocument:
    """``poll`` with some members of one option changed; raises ``NotFound``."""
    option = of(poll, option_id)
    after = cast(OptionDocument, {**option, **changes})
    return {**poll, "options": [after if one is option else one for one in poll["options"]]}


def removed(poll: PollDocument, option_id: str) -> PollDocument:
    """``poll`` without one option; raises ``NotFound``."""
    option = of(poll, option_id)
    return {**poll, "options": [one for one in poll["options"] if one is not option]}
