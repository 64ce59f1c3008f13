"""Tokens, by the SHA-256 of their secrets; a secret itself is never stored.

A token is 256 random bits, so a plain hash cannot be guessed backwards and a look-up by hash gives
nothing away to a clock.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from storage.batching import Reader
from storage.client import Database, Session, round_trip
from storage.documents import Token, TokenDocument
from storage.errors import Conflict, NotFound

FRESH_SECONDS = 4.0
MAX_RECENT = 10_000


def token_id(secret: str) -> str:
    """The SHA-256 of a secret, in hex: what is stored and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class _Read(NamedTuple):
    token: Token | None
    asked_at: float


class _Recent:
    """What was read a moment ago, bounded: the oldest goes first."""

    def __init__(self) -> None:
        self._reads: dict[str, _Read] = {}

    def get(self, identifier: str, now: float) -> _Read | None:
        read = self._reads.get(identifier)
        return read if read is not None and now - read.asked_at < FRESH_SECONDS else None

    def put(self, identifier: str, token: Token | None, asked_at: float) -> _Read:
        self._reads.pop(identifier, None)
        if len(self._reads) >= MAX_RECENT:
            del self._reads[next(iter(self._reads))]
        read = self._reads[identifier] = _Read(token, asked_at)
        return read

    def clear(self) -> None:
        self._reads.clear()


class Tokens:
    """``monotonic`` gives seconds; what was read is kept for ``FRESH_SECONDS`` of them."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._tokens = database.collection("tokens")
        # What must be unique is an _id: names are so among live tokens only, and no shard could
        # enforce an index of them.
        self._live_names = database.collection("live_names")
        self._reader: Reader[str, TokenDocument] = Reader(self._tokens)
        self._monotonic = monotonic
        # Two, so that who tries many secrets does not push out those that are good.
        self._known = _Recent()
        self._unknown = _Recent()

    def recall(self, identifier: str, now: datetime) -> Token | None:
        """What ``find`` gives, where that was read a moment ago; None where it has to be asked."""
        recent = self._known.get(identifier, self._monotonic())
        if recent is None or recent.token is None or not recent.token.is_valid(now):
            return None
        return recent.token

    async def find(self, identifier: str, now: datetime) -> Token | None:
        """The token that may be used at ``now``: there, not revoked, not expired.

        A revoked token stops working within 5 s everywhere: what was read counts for 4 s, from
        before it was asked for.
        """
        asked_at = self._monotonic()
        recent = self._known.get(identifier, asked_at) or self._unknown.get(identifier, asked_at)
        if recent is None:
            found = await self._reader.get(identifier)
            token = None if found is None else Token.of(found)
            kept = self._unknown if token is None else self._known
            recent = kept.put(identifier, token, asked_at)
        token = recent.token
        return token if token is not None and token.is_valid(now) else None

    async def create(
        self,
        secret: str,
        *,
        name: str,
        user_id: int,
        now: datetime,
        admin: bool = False,
        workspaces: Sequence[str] = (),
        actions: Sequence[str] = (),
        expires_at: datetime | None = None,
    ) -> TokenDocument:
        """Raises ``Conflict`` where a live token, neither revoked nor expired, has that name."""
        token: TokenDocument = {
            "_id": token_id(secret),
            "name": name,
            "user_id": user_id,
            "admin": admin,
            "workspaces": list(workspaces),
            "actions": list(actions),
            "created_at": now,
            "expires_at": expires_at,
            "revoked_at": None,
        }

        async def work(session: Session) -> None:
            holder = await self._live_names.find_one({"_id": name}, session=session)
            if holder is not None and not _is_expired(holder, now):
                raise Conflict(f"There is a live token named {name!r}.")
            await self._live_names.replace_one(
                {"_id": name},
                {"_id": name, "token": token["_id"], "expires_at": expires_at},
                upsert=True,
                session=session,
            )
            await self._tokens.insert_one(dict(token), session=session)

        await self._database.transaction(work)
        return token

    async def all(self) -> list[TokenDocument]:
        """All tokens, oldest first, the revoked and expired ones too."""
        with round_trip():
            found = await self._tokens.find({}).sort("created_at", 1).to_list(None)
        return cast(list[TokenDocument], found)

    async def revoke(self, name: str, now: datetime) -> None:
        """Ends the live token of that name; raises ``NotFound`` where there is none."""

        async def work(session: Session) -> None:
            holder = await self._live_names.find_one({"_id": name}, session=session)
            if holder is None:
                raise NotFound(f"There is no live token named {name!r}.")
            await self._live_names.delete_one({"_id": name}, session=session)
            await self._tokens.update_one(
                {"_id": holder["token"]}, {"$set": {"revoked_at": now}}, session=session
            )

        await self._database.transaction(work)
        self.forget()

    def forget(self) -> None:
        """Lets the next look-ups ask the database, as 4 s would."""
        self._known.clear()
        self._unknown.clear()

    async def is_empty(self) -> bool:
        with round_trip():
            return await self._tokens.find_one({}) is None


def _is_expired(token: Mapping[str, Any], now: datetime) -> bool:
    return token["expires_at"] is not None and token["expires_at"] <= now
