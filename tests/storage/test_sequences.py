"""Numbers that every process takes from one place."""

import asyncio

from storage.client import Database, Transaction
from storage.indexes import ensure_indexes
from tests.conftest import Raw


async def test_first_numbers_that_are_taken_at_once_are_all_different(
    mongodb_uri: str, raw: Raw
) -> None:
    database = await Database.connect(mongodb_uri)
    await ensure_indexes(database)
    for turn in range(10):
        name = f"sequence {turn}"

        def take(transaction: Transaction, name: str = name) -> int:
            return transaction.next_number(name)

        numbers = await asyncio.gather(*(database.transaction(take) for _ in range(20)))
        assert len(set(numbers)) == 20
        stored = raw.sequences.find_one({"_id": name})
        assert stored is not None
        assert stored["last"] >= max(numbers)
    database.close()
