"""Who changed what: an append-only record, written in the transaction of each change.

It tells of definitions and of what was exported. It never tells of votes: neither what
was chosen, nor who voted.
"""

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict, Unpack, cast

from storage.client import InsertOne, Transaction
from storage.documents import SERVICE_USER, AuditEntryDocument, UserId

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLLECTION = "audit"
ENTRY_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{16}", re.ASCII)


class Actor(NamedTuple):
    """Who asks for a change, and when: a user, and the name of the token that was used.

    No token is used by commands and by what the service does by itself. ``token_owner`` is the
    token's own user where it acted for another.
    """

    user_id: UserId
    token_name: str | None
    at: datetime
    token_owner: UserId | None = None


class Action(StrEnum):
    """What was done; an action never changes its meaning."""

    POLL_CREATED = "poll.created"
    POLL_CHANGED = "poll.changed"
    POLL_DELETED = "poll.deleted"
    POLL_RESTORED = "poll.restored"
    POLL_PURGED = "poll.purged"
    POLL_COPIED = "poll.copied"
    POLL_IMPORTED = "poll.imported"
    POLL_EXPORTED = "poll.exported"
    SESSION_CREATED = "session.created"
    SESSION_CHANGED = "session.changed"
    SESSION_OPENED = "session.opened"
    SESSION_CLOSED = "session.closed"
    SESSION_DELETED = "session.deleted"
    SESSION_EXPORTED = "session.exported"
    ENROLLMENT_CREATED = "enrollment.created"
    ENROLLMENT_DELETED = "enrollment.deleted"
    USER_EXPORTED = "user.exported"
    USER_ERASED = "user.erased"
    TOKEN_CREATED = "token.created"  # noqa: S105 - no secret
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - no secret


class Subject(TypedDict, total=False):
    """What an entry is about; it shows no user.

    ``subject_token`` is the name of the token that was created or revoked, ``token_owner`` its
    user; ``changed`` has the names of the members that changed, ``count`` says how many were made
    at once.
    """

    poll_id: str
    session_id: int
    course_id: int | None
    enrollment_id: int
    subject_token: str
    token_owner: UserId
    changed: list[str]
    count: int


def note(
    transaction: Transaction, actor: Actor | None, action: Action, **subject: Unpack[Subject]
) -> None:
    """Writes an entry, for the transaction that does what it tells."""
    note_all(transaction, actor, action, [subject])


def note_all(
    transaction: Transaction, actor: Actor | None, action: Action, subjects: Iterable[Subject]
) -> None:
    """Writes an entry about each of ``subjects``; without an ``actor`` nothing.

    An entry proves that its transaction is stored, in place of a mark: it costs no round trip.
    """
    if actor is None:
        return
    entries = [_entry(actor, action, subject) for subject in subjects]
    transaction.bulk_write(COLLECTION, [InsertOne(dict(entry)) for entry in entries])
    if entries:
        transaction.proof = COLLECTION, {"_id": entries[0]["_id"]}


def _entry(actor: Actor, action: Action, subject: Subject) -> AuditEntryDocument:
    entry = {
        "_id": f"{place_of(actor.at)}-{secrets.token_hex(8)}",
        "at": actor.at,
        "action": action.value,
        "user_id": actor.user_id,
        "token_name": actor.token_name,
        **({"token_owner": actor.token_owner} if actor.token_owner else {}),
        **subject,
    }
    return cast(AuditEntryDocument, entry)


def place_of(moment: datetime) -> str:
    """Sorts as the times do: hexadecimal milliseconds."""
    return f"{(moment - EPOCH) // timedelta(milliseconds=1):012x}"


def forget_user(transaction: Transaction, user_id: UserId, most: int) -> int:
    """Makes some entries of an erased user those of nobody; returns how many, 0 if none is left.

    Their tokens are named no more either, whoever made them or was acted for: names of tokens often
    tell whose they are. Of most of these the token is gone long before.
    """
    nobody = {"$set": {"user_id": SERVICE_USER, "token_name": None}}
    own = _change_some(transaction, {"user_id": user_id}, nobody, most)
    made: dict[str, Any] = {"token_owner": user_id, "subject_token": {"$exists": True}}
    unnamed = {"$unset": {"subject_token": "", "token_owner": ""}}
    about = _change_some(transaction, made, unnamed, most)
    used: dict[str, Any] = {"token_owner": user_id, "subject_token": None}
    untold = {"$set": {"token_name": None}, "$unset": {"token_owner": ""}}
    return own + about + _change_some(transaction, used, untold, most)


def entries_about(user_id: UserId) -> dict[str, Any]:
    """The query of all that ``forget_user`` changes."""
    return {"$or": [{"user_id": user_id}, {"token_owner": user_id}]}


def _change_some(
    transaction: Transaction, query: dict[str, Any], update: dict[str, Any], most: int
) -> int:
    ids = [one["_id"] for one in transaction.find(COLLECTION, query, {"_id": 1}).limit(most)]
    transaction.update(COLLECTION, {"_id": {"$in": ids}}, update)
    return len(ids)
