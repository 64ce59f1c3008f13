"""Reads by ``_id``, in batches: one ``find`` for all who ask at once."""

from collections.abc import Awaitable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar, cast

from storage.batching import Batcher
from storage.client import Collection, round_trip
from storage.meters import batch_meter

Key = TypeVar("Key", bound=Hashable)
Shape = TypeVar("Shape")


class Reader(Generic[Key, Shape]):
    """The documents of one collection; what it gives is shared, and nobody changes it."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._batcher: Batcher[Key, Shape | None] = Batcher(
            self._find_in_order, staggered=True, meter=batch_meter(collection.name)
        )

    def get(self, key: Key) -> Awaitable[Shape | None]:
        """The document with this ``_id``, as it is after this was called."""
        return self._batcher.submit(key)

    async def get_all(self, keys: Iterable[Key]) -> dict[Key, Shape]:
        """Those that are there, by ``_id``; a round trip of its own, since it is one batch."""
        wanted = list(set(keys))
        if not wanted:
            return {}
        with round_trip():
            # One more than there can be: a full batch leaves the cursor open, to be asked again.
            cursor = self._collection.find({"_id": {"$in": wanted}}, batch_size=len(wanted) + 1)
            return {one["_id"]: cast(Shape, one) for one in await cursor.to_list(None)}

    async def _find_in_order(self, keys: Sequence[Key]) -> Sequence[Shape | None]:
        found = await self.get_all(keys)
        return [found.get(key) for key in keys]
