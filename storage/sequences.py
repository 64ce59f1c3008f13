"""Numbers that are small, increasing, never reused, and unique across processes."""

from contextlib import suppress

from storage.client import Database, DuplicateKeyError, ReturnDocument, round_trip


async def next_number(database: Database, name: str) -> int:
    """The next number of the sequence ``name``, from 1.

    Taken outside any transaction, or everything that is numbered would wait for each other; a
    number whose use fails leaves a gap, and gaps are fine.
    """
    sequences = database.collection("sequences")
    with round_trip():
        while True:
            # Of several that start a sequence at once, some find that another was faster.
            with suppress(DuplicateKeyError):
                document = await sequences.find_one_and_update(
                    {"_id": name},
                    {"$inc": {"last": 1}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
                if document is not None:
                    return int(document["last"])
