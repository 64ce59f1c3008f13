"""The audit as a list, and entries of what no other transaction does."""

from datetime import datetime
from typing import Any, Unpack

from storage.audit import COLLECTION, Action, Actor, Subject, note, place_of
from storage.client import Database, Transaction
from storage.documents import AuditEntryDocument
from storage.pagination import Page, Window, read_page


class AuditLog:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries = database.collection(COLLECTION)

    async def write(self, actor: Actor, action: Action, **subject: Unpack[Subject]) -> None:
        """Writes an entry of what changes nothing, such as an export; call it before that."""

        def work(transaction: Transaction) -> None:
            note(transaction, actor, action, **subject)

        await self._database.transaction(work)

    async def newest(
        self, window: Window, *, poll_id: str | None = None, since: datetime | None = None
    ) -> Page[AuditEntryDocument]:
        """The entries, of one poll or of all, from ``since`` on; newest first, by ``_id``."""
        conditions: dict[str, Any] = {}
        if poll_id is not None:
            conditions["poll_id"] = poll_id
        if since is not None:
            conditions["$and"] = [{"_id": {"$gte": place_of(since)}}]
        return await read_page(self._entries, conditions, window, "_id", is_descending=True)
