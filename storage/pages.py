"""Pages of a list that is walked by bookmark: their cost does not grow with their number."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Window(NamedTuple):
    """Which rows: after the one that ``after`` names, past ``skip`` more, ``limit`` at most."""

    after: Any = None
    skip: int = 0
    limit: int = 10


class Page(NamedTuple, Generic[T]):
    """The rows of a window, and the ``after`` of the next one where there are more rows."""

    rows: Sequence[T]
    next_after: Any = None


def page_of(found: Sequence[T], window: Window, place: Callable[[T], Any]) -> Page[T]:
    """The page of ``found``, which was asked for one row more than the window holds."""
    rows = found[: window.limit]
    return Page(rows, place(rows[-1]) if len(found) > window.limit else None)
