"""Tokens, by the SHA-256 of their secrets; a secret itself is never stored.

A token is 256 random bits, so a plain hash cannot be guessed backwards and a look-up by hash gives
nothing away to a clock.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from storage.client import Database, Session, round_trip
from storage.documents import TokenDocument
from storage.errors import Conflict, NotFound


def token_id(secret: str) -> str:
    """The SHA-256 of a secret, in hex: what is stored and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Tokens:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._tokens = database.collection("tokens")
        # A unique index on the name would not do: the embedded server never releases the key of a
        # document that is changed, only that of one that is deleted.
        self._live_names = database.collection("live_names")

    async def find(self, identifier: str, now: datetime) -> TokenDocument | None:
        """The token that may be used at ``now``: there, not revoked, not expired."""
        with round_trip():
            found = await self._tokens.find_one({"_id": identifier})
        token = cast(TokenDocument | None, found)
        if token is None or token["revoked_at"] is not None or _is_expired(token, now):
            return None
        return token

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

    async def is_empty(self) -> bool:
        with round_trip():
            return await self._tokens.find_one({}) is None


def _is_expired(token: Mapping[str, Any], now: datetime) -> bool:
    return token["expires_at"] is not None and token["expires_at"] <= now
