"""Pages of a list that is walked by bookmark: their cost does not grow with their number."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from storage.client import Collection, round_trip

T = TypeVar("T")


class Window(NamedTuple):
    """Which rows: after the one that ``after`` names, past ``skip`` more, ``limit`` at most."""

    after: Any = None
    skip: int = 0
    limit: int = 10


class Page(NamedTuple, Generic[T]):
    """The rows of a window, and the ``after`` of the next one if there are more rows."""

    rows: Sequence[T]
    next_after: Any = None


def page_of(found: Sequence[T], window: Window, place: Callable[[T], Any]) -> Page[T]:
    """The page of ``found``, which holds one row more than the window if there are more rows."""
    rows = found[: window.limit]
    return Page(rows, place(rows[-1]) if len(found) > window.limit else None)


async def all_pages(
    read: Callable[[Window], Awaitable[Page[T]]], limit: int
) -> AsyncIterator[Sequence[T]]:
    """The rows of every page of a list, page by page."""
    page = await read(Window(limit=limit))
    yield page.rows
    while page.next_after is not None:
        page = await read(Window(page.next_after, limit=limit))
        yield page.rows


async def read_page(
    collection: Collection,
    query: Mapping[str, Any],
    window: Window,
    by: str,
    *,
    is_descending: bool = False,
) -> Page[Any]:
    """The documents in the order of the field ``by``, which is unique among them: the bookmark."""
    if window.after is not None:
        query = {**query, by: {"$lt" if is_descending else "$gt": window.after}}
    with round_trip():
        cursor = collection.find(query).sort(by, -1 if is_descending else 1)
        found = await cursor.skip(window.skip).limit(window.limit + 1).to_list(None)
    return page_of(found, window, lambda document: document[by])
