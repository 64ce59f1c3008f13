"""Handing the polls of an erased user over to ``SERVICE_USER``, within one transaction."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from storage.client import Document, Transaction
from storage.documents import SERVICE_USER, USERS, ContainerKey, UserId

POLLS_AT_A_TIME = 5
"""Each may have as many sessions as ``storage.sessions.MAX_SESSIONS``."""


def hand_over_some(transaction: Transaction, owner_id: UserId, now: datetime) -> int:
    """Hands over some of the polls that a user made; returns how many, 0 if none are left.

    Deleted ones too, that can be restored: as of one moment, or one that is restored between would
    be left out.
    """
    found = transaction.find("addresses", {"owner_id": owner_id}).sort("container", 1)
    addresses = list(found.limit(POLLS_AT_A_TIME))
    for container_id, of_container in groupby(addresses, itemgetter("container")):
        poll_ids = [one["_id"] for one in of_container]
        key = ContainerKey.of(container_id)
        new = heir_of(key)
        # The sessions first, as ``Polls.edit`` does. The owner had the right to vote in them.
        _hand_sessions_over(transaction, "sessions", {"poll_id": {"$in": poll_ids}}, new)
        changes = {"owner_id": SERVICE_USER, "container": new.id, "updated_at": now}
        transaction.update("addresses", {"_id": {"$in": poll_ids}}, {"$set": changes})
        if key.workspace == USERS:
            _move(transaction, key, new)
        else:
            _change(transaction, key, poll_ids)
    deleted = list(transaction.find("deleted_polls", {"owner_id": owner_id}).limit(POLLS_AT_A_TIME))
    for one in deleted:
        new = heir_of(ContainerKey.of(one["container"]))
        of_poll = {"poll_number": one["_id"]}
        _hand_sessions_over(transaction, "deleted_sessions", of_poll, new)
        changes = {"owner_id": SERVICE_USER, "container": new.id, "poll": handed_over(one["poll"])}
        transaction.update("deleted_polls", {"_id": one["_id"]}, {"$set": changes})
    return len(addresses) + len(deleted)


def _hand_sessions_over(
    transaction: Transaction, name: str, query: Document, new: ContainerKey
) -> None:
    changes = {"owner_id": SERVICE_USER, "container": new.id}
    steps = {"casts": 1, "rights_changes": 1}
    transaction.update(name, query, {"$set": changes, "$inc": steps})


def heir_of(key: ContainerKey) -> ContainerKey:
    """Where the polls of a container are once they have passed to ``SERVICE_USER``."""
    return key._replace(content=str(SERVICE_USER)) if key.workspace == USERS else key


def handed_over(poll: Mapping[str, Any]) -> dict[str, Any]:
    """A poll of ``SERVICE_USER``: another version, since managers are shown who made it."""
    version = {"version": poll["version"] + 1, "stamp": secrets.token_hex(4)}
    return {**poll, "owner_id": SERVICE_USER, **version}


def _move(transaction: Transaction, key: ContainerKey, new: ContainerKey) -> None:
    container = transaction.find_one("containers", {"_id": key.id})
    if container is None:
        return
    transaction.delete("containers", {"_id": key.id})
    moved = {
        **container,
        "_id": new.id,
        **new._asdict(),
        "owner_id": SERVICE_USER,
        "version": container["version"] + 1,
        "polls": [handed_over(poll) for poll in container["polls"]],
    }
    transaction.insert("containers", moved)


def _change(transaction: Transaction, key: ContainerKey, poll_ids: Sequence[str]) -> None:
    shown: Document = {"polls.id": 1}
    container = transaction.find_one("containers", {"_id": key.id}, shown)
    if container is None:
        return
    changes: dict[str, Any] = {}
    steps = {"version": 1}
    # By the places that this transaction has read: whatever moves them conflicts.
    for place, poll in enumerate(container["polls"]):
        if poll["id"] in poll_ids:
            changes[f"polls.{place}.owner_id"] = SERVICE_USER
            changes[f"polls.{place}.stamp"] = secrets.token_hex(4)
            steps[f"polls.{place}.version"] = 1
    transaction.update("containers", {"_id": key.id}, {"$set": changes, "$inc": steps})
