"""Deleted polls that can still be restored, as transactions move them there and back.

The transaction that deletes a poll moves it here, with its sessions, unchanged. So whatever reads
polls and sessions finds nothing, and votes that are under way conflict; the ballots stay where they
are.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypedDict, cast

from storage.client import InsertOne, Transaction
from storage.documents import LocatedPoll, PollDocument, SessionDocument, UserId
from storage.errors import require


class DeletedPollDocument(TypedDict):
    """``_id`` is the poll's number, ``container`` the id of its container.

    Several may have the same ``poll_id``: an id can be taken again.
    """

    _id: int
    poll_id: str
    container: str
    owner_id: UserId
    poll: PollDocument
    deleted_at: datetime
    purge_at: datetime


def keep(
    transaction: Transaction, located: LocatedPoll, now: datetime, restorable_for: timedelta
) -> None:
    """Keeps a poll and its sessions, for the transaction that deletes them."""
    poll = located.poll
    deleted: DeletedPollDocument = {
        "_id": poll["number"],
        "poll_id": poll["id"],
        "container": located.key.id,
        "owner_id": poll["owner_id"],
        "poll": poll,
        "deleted_at": now,
        "purge_at": now + restorable_for,
    }
    transaction.insert("deleted_polls", dict(deleted))
    sessions = transaction.find("sessions", {"poll_id": poll["id"]})
    transaction.bulk_write("deleted_sessions", [InsertOne(one) for one in sessions])


def take(
    transaction: Transaction, number: int
) -> tuple[DeletedPollDocument, Sequence[SessionDocument]]:
    """A deleted poll and its sessions, for the transaction that restores them.

    Raises ``NotFound`` if it was restored or purged.
    """
    found = require(transaction.find_one("deleted_polls", {"_id": number}), "deleted poll")
    sessions = list(transaction.find("deleted_sessions", {"poll_number": number}))
    remove(transaction, number)
    return cast(DeletedPollDocument, found), cast(list[SessionDocument], sessions)


def remove(transaction: Transaction, number: int) -> None:
    """Removes a deleted poll and its sessions."""
    transaction.delete("deleted_polls", {"_id": number})
    transaction.delete("deleted_sessions", {"poll_number": number})
