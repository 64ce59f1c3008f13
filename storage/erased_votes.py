"""Erasing the votes of a user, within the transaction of a step of ``storage.erasures``.

``ballots`` are the numbers of sessions by the id of the user's ballot in each. A ballot whose
session is being purged, or is kept with its counts only, is removed: nothing counts it any more.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import cast

from storage import voting
from storage.client import (
    BulkWriteError,
    DeleteOne,
    Document,
    ReplaceOne,
    RunAgain,
    Transaction,
    UpdateOne,
    Write,
)
from storage.documents import BallotDocument, SessionDocument
from storage.user_data import DELETED, SESSIONS

COUNTED: Document = {"counts_only": {"$ne": True}}


def anonymize(
    transaction: Transaction,
    ballots: Mapping[str, int],
    *,
    secret: bytes,
    new_number: Callable[[], int],
) -> int:
    """Takes names, comments and times from these votes, which still count; returns how many."""
    numbers = [*ballots.values()]
    counted = {
        one["_id"]
        for name in (SESSIONS, DELETED)
        for one in transaction.find(name, {"_id": {"$in": numbers}, **COUNTED}, {"poll_id": 1})
    }
    found = _find(transaction, ballots)
    writes: list[Write] = [
        ReplaceOne({"_id": one["_id"]}, dict(voting.without_name(one, new_number(), secret)))
        if one["session_id"] in counted
        else DeleteOne({"_id": one["_id"]})
        for one in found
    ]
    try:
        transaction.bulk_write("ballots", writes)
    except BulkWriteError as error:
        raise RunAgain from error  # a number was taken
    return len(found)


def withdraw(
    transaction: Transaction, ballots: Mapping[str, int], *, secret: bytes, now: datetime
) -> int:
    """Removes these votes, and their counts, whatever the state of their session; how many.

    The sessions first: votes conflict with that, and the fewer come in between the better.
    """
    these: Document = {"_id": {"$in": [*ballots.values()]}, **COUNTED}
    removed = 0
    sessions: dict[int, tuple[str, SessionDocument]] = {}
    for name in (SESSIONS, DELETED):
        transaction.update(name, these, {"$inc": {"casts": 1}})
        for one in transaction.find(name, these):
            sessions[one["_id"]] = name, cast(SessionDocument, one)
    for ballot in _find(transaction, ballots):
        removed += 1
        transaction.delete("ballots", {"_id": ballot["_id"]})
        if ballot["session_id"] in sessions:
            name, session = sessions[ballot["session_id"]]
            keys = [
                key
                for key in ballot["requests"]
                if not voting.is_expired(key, secret, ballot["_id"], now)
            ]
            removal = voting.removal(session, ballot, keys, secret)
            update = UpdateOne(
                {"_id": session["_id"]}, {"$inc": voting.steps(session, removal.session)}
            )
            transaction.bulk_write(name, [update])
            if removal.withdrawn:
                transaction.put("idempotency", voting.remembered(ballot["_id"], removal.withdrawn))
    return removed


def _find(transaction: Transaction, ballots: Mapping[str, int]) -> list[BallotDocument]:
    found = transaction.find("ballots", {"_id": {"$in": [*ballots]}}, batch_size=len(ballots) + 1)
    return cast(list[BallotDocument], list(found))
