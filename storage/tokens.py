"""Tokens, by the SHA-256 of their secrets; a secret itself is never stored.

A token is 256 random bits, so a plain hash cannot be reversed by guessing, and the time that a
look-up by hash takes reveals nothing.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, cast

from storage.audit import Action, Actor, Subject, note
from storage.batching import Reader
from storage.client import Database, Transaction, round_trip
from storage.documents import Course, TokenDocument, UserId, has_passed
from storage.errors import Conflict, NotFound, require
from storage.idempotency import IdempotencyKey, transaction_once
from storage.pagination import Page, Window, read_page

FRESH_SECONDS = 4.0
MAX_RECENT = 10_000
TOKENS_AT_A_TIME = 500


def token_id(secret: str) -> str:
    """The SHA-256 of a secret, in hex: what is stored and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_secret() -> str:
    """256 random bits, and a prefix for secret scanners."""
    return f"polls_{secrets.token_urlsafe(32)}"


class _Read(NamedTuple):
    token: TokenDocument | None
    asked_at: float


class _Recent(dict[str, _Read]):
    """Bounded: the oldest goes first."""

    def fresh(self, identifier: str, now: float) -> _Read | None:
        read = self.get(identifier)
        return read if read is not None and now - read.asked_at < FRESH_SECONDS else None

    def keep(self, identifier: str, read: _Read) -> None:
        self.pop(identifier, None)
        if len(self) >= MAX_RECENT:
            del self[next(iter(self))]
        self[identifier] = read


class Tokens:
    """``monotonic`` gives seconds; what was read is kept for ``FRESH_SECONDS`` of them."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._tokens = database.collection("tokens")
        self._live_names = database.collection("live_names")
        self._reader: Reader[str, TokenDocument] = Reader(self._tokens)
        self._monotonic = monotonic
        # Two, so that guessing many secrets does not push out valid ones.
        self._known = _Recent()
        self._unknown = _Recent()
        self._revocations = 0

    async def find(self, identifier: str, now: datetime) -> TokenDocument | None:
        """The token that is valid at ``now``: it exists and is neither revoked nor expired.

        A revoked token stops working within 5 s everywhere: a read counts for 4 s, from before the
        database was asked. The token is shared, so callers must not change it.
        """
        asked_at = self._monotonic()
        recent = self._known.fresh(identifier, asked_at) or self._unknown.fresh(
            identifier, asked_at
        )
        if recent is None:
            revocations = self._revocations
            found = await self._reader.get(identifier)
            recent = _Read(found, asked_at)
            if revocations == self._revocations:  # else it may have been read before that
                (self._unknown if found is None else self._known).keep(identifier, recent)
        return recent.token if _is_valid(recent.token, now) else None

    async def find_ended(self, identifiers: Iterable[str], now: datetime) -> set[str]:
        """Those that ``find`` would not find, in one round trip at most."""
        asked_at = self._monotonic()
        known: dict[str, TokenDocument | None] = {}
        asked: list[str] = []
        for identifier in identifiers:
            recent = self._known.fresh(identifier, asked_at)
            if recent is None:
                asked.append(identifier)
            else:
                known[identifier] = recent.token
        revocations = self._revocations
        found = await self._reader.get_all(asked)
        for identifier in asked:
            known[identifier] = token = found.get(identifier)
            if revocations == self._revocations:
                kept = self._unknown if token is None else self._known
                kept.keep(identifier, _Read(token, asked_at))
        return {identifier for identifier, token in known.items() if not _is_valid(token, now)}

    def is_known(self, identifier: str) -> bool:
        """Whether a token of this id was found before, however long ago, by this process."""
        return identifier in self._known

    async def create(
        self,
        secret: str,
        *,
        name: str,
        user_id: UserId,
        now: datetime,
        admin: bool = False,
        workspaces: Sequence[str] = (),
        actions: Sequence[str] = (),
        courses: Sequence[Course] = (),
        polls: Sequence[str] = (),
        expires_at: datetime | None = None,
        idempotency_key: IdempotencyKey | None = None,
        actor: Actor | None = None,
    ) -> TokenDocument:
        """The new token, or the one that was made under this key: then it has another secret.

        Raises ``Conflict`` if a token of that name is neither revoked nor expired.
        """
        token: TokenDocument = {
            "_id": token_id(secret),
            "name": name,
            "user_id": user_id,
            "admin": admin,
            "workspaces": list(workspaces),
            "actions": list(actions),
            "courses": list(courses),
            "polls": list(polls),
            "created_at": now,
            "expires_at": expires_at,
            "revoked_at": None,
        }

        def work(transaction: Transaction) -> TokenDocument:
            # What must be unique is an _id. A name is unique among live tokens only, and no shard
            # could enforce an index of these.
            holder = transaction.find_one("live_names", {"_id": name})
            if holder is not None and not has_passed(holder["expires_at"], now):
                raise Conflict(
                    f"A token named {name!r} already exists. Choose another name, or revoke it."
                )
            held = {"_id": name, "token": token["_id"], "expires_at": expires_at}
            transaction.put("live_names", held)
            transaction.insert("tokens", dict(token))
            note(transaction, actor, Action.TOKEN_CREATED, **_subject(token))
            return token

        return await transaction_once(self._database, idempotency_key, work)

    async def live(self, window: Window, now: datetime) -> Page[TokenDocument]:
        """The tokens that are neither revoked nor expired, by name, which is the bookmark."""
        query = {"$or": [{"expires_at": None}, {"expires_at": {"$gt": now}}]}
        names = await read_page(self._live_names, query, window, "_id")
        found = await self._reader.get_all(one["token"] for one in names.rows)
        rows = [found[one["token"]] for one in names.rows if one["token"] in found]
        return Page(rows, names.next_after)

    async def of_user(self, user_id: UserId, window: Window) -> Page[TokenDocument]:
        """The tokens of a user, ended ones too, by their ids, which are the bookmarks."""
        return await read_page(self._tokens, {"user_id": user_id}, window, "_id")

    async def all(self) -> list[TokenDocument]:
        """All tokens, oldest first, including revoked and expired ones."""
        with round_trip():
            found = await self._tokens.find({}).sort("created_at", 1).to_list(None)
        return cast(list[TokenDocument], found)

    async def revoke(
        self, name: str, now: datetime, *, actor: Actor | None = None
    ) -> TokenDocument:
        """Revokes the live token of that name; raises ``NotFound`` if there is none.

        In this process it stops working at once.
        """

        def work(transaction: Transaction) -> TokenDocument:
            holder = transaction.find_one("live_names", {"_id": name})
            if holder is None:
                raise NotFound(f"There is no live token named {name!r}.")
            transaction.delete("live_names", {"_id": name})
            found = transaction.find_one("tokens", {"_id": holder["token"]})
            token = cast(TokenDocument, require(found, "token"))
            transaction.update("tokens", {"_id": token["_id"]}, {"$set": {"revoked_at": now}})
            note(transaction, actor, Action.TOKEN_REVOKED, **_subject(token))
            return token

        revoked = await self._database.transaction(work)
        self.forget()
        return revoked

    def forget(self) -> None:
        """Makes the next look-ups ask the database, as they would after 4 s."""
        self._revocations += 1
        self._known.clear()
        self._unknown.clear()


def remove_some_of(transaction: Transaction, user_id: UserId) -> int:
    """Removes some tokens of a user, and frees their names; returns how many they were.

    After the commit ``Tokens.forget`` makes them stop in this process at once.
    """
    found = list(transaction.find("tokens", {"user_id": user_id}).limit(TOKENS_AT_A_TIME))
    names = {one["name"]: one["_id"] for one in found}
    held = transaction.find("live_names", {"_id": {"$in": [*names]}})
    # Ended tokens had the names of others, perhaps.
    own = [one["_id"] for one in held if one["token"] in names.values()]
    transaction.delete("live_names", {"_id": {"$in": own}})
    transaction.delete("tokens", {"_id": {"$in": [one["_id"] for one in found]}})
    return len(found)


def _subject(token: TokenDocument) -> Subject:
    return {"subject_token": token["name"], "token_owner": token["user_id"]}


def _is_valid(token: TokenDocument | None, now: datetime) -> bool:
    """Whether it exists and is neither revoked nor expired."""
    if token is None or token["revoked_at"] is not None:
        return False
    return not has_passed(token["expires_at"], now)
