"""Every collection and every index; created before traffic, on empty collections."""

from storage.client import Database, IndexModel
from storage.documents import IDEMPOTENCY_SECONDS

OF_ALL = ("workspace",)
OF_OWNER = ("workspace", "owner_id")
BY_NUMBER = ("number",)
BY_CHANGE = ("updated_at", "number")


def index_of(whose: tuple[str, ...], order: tuple[str, ...]) -> dict[str, int]:
    """The index of a list of a workspace: of all polls or those of one user, in this order."""
    return dict.fromkeys((*whose, "is_open", *order), 1)


ATTEMPT_SECONDS = 60 * 60
KEYS = IndexModel("requests.at", sparse=True)
"""Of the votes that were cast with Idempotency-Keys; others cost it nothing."""
EXPIRED_SECONDS = 24 * 60 * 60
"""How long an expired token is listed: short ones are made by the thousand."""

FINISHED_SECONDS = 24 * 60 * 60
"""How long an erasure can be asked about after its end."""

INDEXES: dict[str, list[IndexModel]] = {
    "containers": [IndexModel([("owner_id", 1), ("number", -1)])],
    "addresses": [
        IndexModel("number"),
        IndexModel([("owner_id", 1), ("number", 1)]),
        *(
            IndexModel([*index_of(whose, order).items()])
            for whose in (OF_ALL, OF_OWNER)
            for order in (BY_NUMBER, BY_CHANGE)
        ),
        IndexModel("ends_at", sparse=True),
    ],
    "sessions": [
        IndexModel([("poll_id", 1), ("_id", 1)]),
        IndexModel([("course_id", 1), ("_id", 1)]),
        IndexModel([("rules.settings.retention", 1), ("closed_at", 1)]),
        IndexModel([("rules.has_ended", 1), ("rules.closes_at", 1)]),
    ],
    "ballots": [IndexModel([("session_id", 1), ("number", 1)], unique=True), KEYS],
    "purges": [],
    "erasures": [IndexModel("finished_at", expireAfterSeconds=FINISHED_SECONDS)],
    "deleted_polls": [
        IndexModel("owner_id"),
        IndexModel([("poll_id", 1), ("deleted_at", 1)]),
        IndexModel("purge_at"),
    ],
    "deleted_sessions": [IndexModel("poll_number")],
    "enrollments": [IndexModel("user_id"), IndexModel([("course_id", 1), ("number", 1)])],
    "courses": [],
    "tokens": [
        IndexModel("expires_at", expireAfterSeconds=EXPIRED_SECONDS),
        IndexModel("user_id"),
    ],
    "live_names": [IndexModel("expires_at", expireAfterSeconds=EXPIRED_SECONDS)],
    "sequences": [],
    "idempotency": [IndexModel("created_at", expireAfterSeconds=IDEMPOTENCY_SECONDS), KEYS],
    "attempts": [IndexModel("created_at", expireAfterSeconds=ATTEMPT_SECONDS)],
    "meta": [],
    "audit": [
        IndexModel([("poll_id", 1), ("_id", 1)]),
        IndexModel([("user_id", 1), ("_id", 1)]),
        IndexModel("token_owner", sparse=True),
    ],
}


async def ensure_indexes(database: Database) -> None:
    """Creates what is missing; several processes may do so at once."""
    for name, indexes in INDEXES.items():
        await database.ensure(name, indexes)
