"""Reads by ``_id``, in batches: one ``find`` for all who ask at once."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar, cast

from storage.batching import Batcher
from storage.client import Collection, Document, decode, find_raw, round_trip
from storage.meters import batch_meter

MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Of documents as they are stored; decoded they take up to eight times as much."""

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


class RevalidatingReader(Reader[Key, Shape]):
    """A reader for documents that change seldom: it decodes only those that have changed.

    Each read asks the database like any other. What was decoded is kept by the bytes that it was
    decoded from, up to ``max_bytes`` of them, so it is never stale: a document that has changed has
    other bytes. ``shape`` makes what callers share of a decoded document.
    """

    def __init__(
        self,
        collection: Collection,
        shape: Callable[[Document], Shape],
        *,
        max_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        super().__init__(collection)
        self._shape = shape
        self._max_bytes = max_bytes
        # The oldest first.
        self._kept: dict[bytes, tuple[Key, Shape]] = {}
        self._kept_bytes = 0

    async def get_all(self, keys: Iterable[Key]) -> dict[Key, Shape]:
        """Those that are there, by ``_id``."""
        wanted = list(set(keys))
        if not wanted:
            return {}
        with round_trip():
            found = await find_raw(self._collection, wanted)
        return dict(map(self._load, found))

    def _load(self, raw: bytes) -> tuple[Key, Shape]:
        loaded = self._kept.get(raw)
        if loaded is None:
            document = decode(self._collection, raw)
            loaded = cast(Key, document["_id"]), self._shape(document)
            self._keep(raw, loaded)
        return loaded

    def _keep(self, raw: bytes, loaded: tuple[Key, Shape]) -> None:
        self._kept[raw] = loaded
        self._kept_bytes += len(raw)
        while self._kept_bytes > self._max_bytes:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._kept_bytes -= len(oldest)
