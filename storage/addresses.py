"""Where each poll is, and what the lists of polls are read by: one document for each poll.

Polls are embedded in containers, so no list of them could be read by an index. The address of a
poll has a copy of what such a list filters and sorts by. It is written in the transactions that
change this, so it is never behind. Casting writes it only when it notes the end of a poll.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from storage.client import DuplicateKeyError, Transaction
from storage.documents import LocatedPoll, SessionDocument, is_open
from storage.errors import IdTaken


def insert(
    transaction: Transaction, located: LocatedPoll, session: SessionDocument | None, now: datetime
) -> None:
    """Makes the poll's id unique in the store, and the poll known by its number.

    What must be unique is an ``_id``: a unique index on an array does not check within one
    document, and no shard could enforce it. Raises ``IdTaken``.
    """
    poll = located.poll
    address: dict[str, Any] = {
        "_id": poll["id"],
        "number": poll["number"],
        "container": located.key.id,
        "workspace": located.key.workspace,
        "owner_id": poll["owner_id"],
        **state_of(session),
        "updated_at": now,
    }
    try:
        transaction.insert("addresses", address)
    except DuplicateKeyError as error:
        raise IdTaken(f"A poll with the id {poll['id']} already exists.") from error


def update(
    transaction: Transaction,
    poll_ids: Collection[str],
    now: datetime,
    session: SessionDocument | None = None,
) -> None:
    """For a transaction that changes these polls, or the standing ``session`` of one of them."""
    changes: dict[str, Any] = {"$set": {"updated_at": now}}
    if session is not None:
        state = state_of(session)
        changes["$set"] |= state
        if "ends_at" not in state:
            changes["$unset"] = {"ends_at": ""}
    transaction.update("addresses", {"_id": {"$in": [*poll_ids]}}, changes)


def note_ends(transaction: Transaction, poll_ids: Collection[str], now: datetime) -> None:
    """For a transaction that notes in the sessions of these polls that their end has passed."""
    query = {"_id": {"$in": [*poll_ids]}, "ends_at": {"$lte": now}}
    changes = {"$set": {"is_open": False, "updated_at": now}, "$unset": {"ends_at": ""}}
    transaction.update("addresses", query, changes)


def state_of(session: SessionDocument | None) -> dict[str, Any]:
    """What an address says of the standing session; polls of users have none."""
    if session is None:
        return {"is_open": None}
    rules = session["rules"]
    state: dict[str, Any] = {"is_open": is_open(session)}
    # Only where there is one to come: the index of ends is sparse.
    if rules["closes_at"] is not None and not rules.get("has_ended", False):
        state["ends_at"] = rules["closes_at"]
    return state
