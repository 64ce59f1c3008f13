"""Polls in their containers.

One container is one document, so every change of it is atomic; a transaction joins to it what it
was decided on. A poll is looked up within its container only: its id alone is no address.
"""

import uuid
from datetime import datetime
from typing import Any, cast

from storage.client import Database, DuplicateKeyError, Session, round_trip, stored_size
from storage.documents import (
    MAX_CONTAINER_BYTES,
    MAX_POLLS,
    ContainerDocument,
    ContainerKey,
    PollDefinition,
    PollDocument,
    number_options,
    revision,
)
from storage.errors import Conflict, NotFound, PreconditionFailed
from storage.idempotency import Idempotency, IdempotencyKey
from storage.sequences import Sequences

Revisions = frozenset[str]
"""Revisions that a caller accepts; see ``documents.revision``."""


class Polls:
    def __init__(self, database: Database, sequences: Sequences, idempotency: Idempotency) -> None:
        self._database = database
        self._containers = database.collection("containers")
        self._claims = database.collection("claims")
        self._sequences = sequences
        self._idempotency = idempotency

    async def in_container(self, key: ContainerKey) -> list[PollDocument]:
        """The polls of a container, oldest first; none where there is no such container."""
        with round_trip():
            container = await self._read(key)
        return container["polls"] if container else []

    async def get(self, key: ContainerKey, poll_id: str) -> PollDocument:
        """A missing container and a missing poll are both ``NotFound``."""
        return _poll_of(await self.in_container(key), poll_id)

    async def add(
        self,
        key: ContainerKey,
        definition: PollDefinition,
        *,
        owner_id: int,
        now: datetime,
        idempotency_key: IdempotencyKey | None = None,
    ) -> PollDocument:
        """Stores a new poll as the last of its container.

        Raises ``Conflict`` where a poll has the id that came along, anywhere in the store, and
        where the container is full.
        """
        made_before = await self._idempotency.find(idempotency_key, now)
        if made_before is not None:
            return cast(PollDocument, made_before)
        options, highest = number_options(definition["options"], 0)
        poll: PollDocument = {
            "id": definition.get("id") or str(uuid.uuid4()),
            "number": await self._sequences.take("polls"),
            "title": definition["title"],
            "description": definition["description"],
            "settings": definition["settings"],
            "options": options,
            "highest_option": highest,
            "owner_id": owner_id,
            "created_at": now,
            "version": 1,
        }

        async def make(session: Session) -> PollDocument:
            if "id" in definition:
                await self._claim(session, poll["id"], now)
            return await self._push(session, key, poll)

        async def work(session: Session) -> PollDocument:
            return await self._idempotency.once(
                session, idempotency_key, now, lambda: make(session)
            )

        return await self._database.transaction(work)

    async def _claim(self, session: Session, poll_id: str, now: datetime) -> None:
        """Lets those who bring the same id at once conflict, so that one sees the other's poll.

        The unique index does not do that: where polls are pushed into two containers at once, the
        embedded server looks only at what either transaction has read.
        """
        # Counted, since a write that changes nothing conflicts with nothing.
        claim = {"$set": {"created_at": now}, "$inc": {"claims": 1}}
        await self._claims.update_one({"_id": poll_id}, claim, upsert=True, session=session)

    async def _push(self, session: Session, key: ContainerKey, poll: PollDocument) -> PollDocument:
        container = await self._read(key, session)
        polls = container["polls"] if container else []
        # Within one document the unique index does not look.
        if any(other["id"] == poll["id"] for other in polls):
            raise Conflict(f"There is a poll with the id {poll['id']}.")
        if len(polls) >= MAX_POLLS:
            raise Conflict(f"This content holds {MAX_POLLS} polls, and no more fit.")
        grown: ContainerDocument = {
            "_id": key.id,
            **key._asdict(),  # type: ignore[typeddict-item] # mypy cannot see a named tuple's keys
            "version": container["version"] + 1 if container else 1,
            "polls": [*polls, poll],
        }
        _require_room(grown)
        try:
            if container is None:
                await self._containers.insert_one(dict(grown), session=session)
            else:
                await self._change(session, key, {"$push": {"polls": poll}})
        except DuplicateKeyError as error:
            raise Conflict(f"There is a poll with the id {poll['id']}.") from error
        return poll

    async def replace(
        self,
        key: ContainerKey,
        poll_id: str,
        definition: PollDefinition,
        *,
        if_match: Revisions | None = None,
    ) -> PollDocument:
        """Replaces the definition whole; id, number, owner and date of birth stay.

        Raises ``NotFound``, ``PreconditionFailed`` where the stored revision is not in
        ``if_match``, ``Conflict`` where the container would grow too large.
        """

        async def work(session: Session) -> PollDocument:
            container, poll = await self._read_poll(session, key, poll_id, if_match)
            options, highest = number_options(
                definition["options"], poll["highest_option"], kept=poll["options"]
            )
            changed: PollDocument = {
                **poll,
                "title": definition["title"],
                "description": definition["description"],
                "settings": definition["settings"],
                "options": options,
                "highest_option": highest,
                "version": poll["version"] + 1,
            }
            place = container["polls"].index(poll)
            container["polls"][place] = changed
            _require_room(container)
            # The place is the one that this transaction has read: who moves it conflicts with us.
            await self._change(session, key, {"$set": {f"polls.{place}": changed}})
            return changed

        return await self._database.transaction(work)

    async def delete(
        self, key: ContainerKey, poll_id: str, *, if_match: Revisions | None = None
    ) -> PollDocument:
        """The poll that was there; raises like ``replace``."""

        async def work(session: Session) -> PollDocument:
            container, poll = await self._read_poll(session, key, poll_id, if_match)
            container["polls"].remove(poll)
            container["version"] += 1
            # Not a $pull: the embedded server never takes an entry of an array out of a unique
            # index by an update, and the id could not come back in another container.
            await self._containers.delete_one({"_id": key.id}, session=session)
            await self._containers.insert_one(dict(container), session=session)
            return poll

        return await self._database.transaction(work)

    async def is_empty(self) -> bool:
        with round_trip():
            return await self._containers.find_one({}, {"_id": 1}) is None

    async def _read(
        self, key: ContainerKey, session: Session | None = None
    ) -> ContainerDocument | None:
        found = await self._containers.find_one({"_id": key.id}, session=session)
        return cast(ContainerDocument | None, found)

    async def _read_poll(
        self, session: Session, key: ContainerKey, poll_id: str, if_match: Revisions | None
    ) -> tuple[ContainerDocument, PollDocument]:
        container = await self._read(key, session)
        poll = _poll_of(container["polls"] if container else [], poll_id)
        assert container is not None  # noqa: S101 - for the type checker
        if if_match is not None and revision(poll) not in if_match:
            raise PreconditionFailed("The poll has changed since the revision in If-Match.")
        return container, poll

    async def _change(self, session: Session, key: ContainerKey, update: dict[str, Any]) -> None:
        """Every change raises the container's version: what read it in a transaction conflicts."""
        await self._containers.update_one(
            {"_id": key.id}, {**update, "$inc": {"version": 1}}, session=session
        )


def _poll_of(polls: list[PollDocument], poll_id: str) -> PollDocument:
    for poll in polls:
        if poll["id"] == poll_id:
            return poll
    raise NotFound("There is no such poll.")


def _require_room(container: ContainerDocument) -> None:
    if stored_size(dict(container)) > MAX_CONTAINER_BYTES:
        raise Conflict("The polls of this content would take more than 4 MiB.")
