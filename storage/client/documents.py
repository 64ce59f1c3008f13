"""Documents: the types of the driver, and reads of documents as they are stored (BSON)."""

from collections.abc import Sequence
from typing import Any, cast

import bson
import pymongo.cursor
from bson.raw_bson import RawBSONDocument
from motor.core import AgnosticCollection, AgnosticCursor
from pymongo.read_concern import ReadConcern

Document = dict[str, Any]
Collection = AgnosticCollection[Document]
Cursor = pymongo.cursor.Cursor[Document]


def snapshot_of(collection: Collection) -> Collection:
    """The collection, for reads of which each sees one moment, other collections included."""
    return collection.with_options(read_concern=ReadConcern("snapshot"))


async def find_raw(collection: Collection, ids: Sequence[Any]) -> list[bytes]:
    """The documents with these ``_id``s as they are stored (BSON), in no order."""
    return [_raw(one) for one in await _raw_cursor(collection, ids).to_list(None)]


async def find_raw_within(
    collection: Collection, ids: Sequence[Any], max_bytes: int
) -> list[bytes] | None:
    """Like ``find_raw``; None if they are larger all together, and then not all are read."""
    cursor = _raw_cursor(collection, ids)
    found: list[bytes] = []
    size = 0
    async for one in cursor:
        found.append(_raw(one))
        size += len(found[-1])
        if size > max_bytes:
            await cursor.close()
            return None
    return found


def _raw_cursor(collection: Collection, ids: Sequence[Any]) -> "AgnosticCursor[Document]":
    raw = collection.codec_options.with_options(document_class=RawBSONDocument)
    return collection.with_options(codec_options=raw).find(
        {"_id": {"$in": ids}}, batch_size=len(ids) + 1
    )


def _raw(document: Document) -> bytes:
    return cast(bytes, cast(RawBSONDocument, document).raw)


def decode(collection: Collection, raw: bytes) -> Document:
    """A document of ``find_raw`` as ``find`` would give it."""
    return bson.decode(raw, collection.codec_options)


def stored_size(document: Document) -> int:
    """Bytes of a document as MongoDB stores it (BSON)."""
    return len(bson.encode(document))
