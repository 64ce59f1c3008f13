"""Every collection and every index; made before traffic, on collections that are still empty."""

from storage.client import Database, IndexModel

IDEMPOTENCY_SECONDS = 24 * 60 * 60
ATTEMPT_SECONDS = 60 * 60

INDEXES: dict[str, list[IndexModel]] = {
    # Sparse, or two containers without polls would be duplicates of each other.
    "containers": [
        IndexModel("polls.id", unique=True, sparse=True),
        IndexModel("polls.number", unique=True, sparse=True),
    ],
    "tokens": [],
    "live_names": [],
    "sequences": [],
    "idempotency": [IndexModel("created_at", expireAfterSeconds=IDEMPOTENCY_SECONDS)],
    "attempts": [IndexModel("created_at", expireAfterSeconds=ATTEMPT_SECONDS)],
    "meta": [],
}


async def ensure_indexes(database: Database) -> None:
    """Creates what is missing; safe to run in several processes at once."""
    for name, indexes in INDEXES.items():
        await database.ensure(name, indexes)
