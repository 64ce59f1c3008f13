"""Numbers that are small, increasing, never reused, and unique across processes."""

from storage.client import Database, ReturnDocument, round_trip


class Sequences:
    def __init__(self, database: Database) -> None:
        self._sequences = database.collection("sequences")

    async def take(self, name: str) -> int:
        """The next number of ``name``, from 1.

        Taken outside of any transaction, or everything that is numbered would wait for each other;
        a number whose use fails is a gap, and gaps are fine.
        """
        document = None
        # Of several first numbers taken at once, the embedded server tells some callers nothing.
        while document is None:
            with round_trip():
                document = await self._sequences.find_one_and_update(
                    {"_id": name},
                    {"$inc": {"last": 1}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
        number: int = document["last"]
        return number
