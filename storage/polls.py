"""Polls in their containers.

One container is one document, so every change of it is atomic; a transaction joins to it what it
was decided on. A poll is looked up within its container only: its id alone is no address.
"""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from storage.batching import RevalidatingReader
from storage.client import Database, DuplicateKeyError, Session, round_trip, stored_size
from storage.documents import (
    MAX_CONTAINER_BYTES,
    MAX_POLLS,
    USERS,
    Container,
    ContainerDocument,
    ContainerKey,
    LocatedPoll,
    PollDefinition,
    PollDocument,
    new_session,
    number_options,
    revision,
    rules_of,
)
from storage.errors import Conflict, NotFound, PreconditionFailed
from storage.idempotency import Idempotency, IdempotencyKey
from storage.pages import Page, Window, page_of
from storage.purges import Purges
from storage.sequences import Sequences
from storage.turns import Turns

Revisions = frozenset[str]
"""Revisions that a caller accepts; see ``documents.revision``."""

NO_POLLS = Container([])


class Polls:
    def __init__(
        self,
        database: Database,
        sequences: Sequences,
        idempotency: Idempotency,
        purges: Purges,
    ) -> None:
        self._database = database
        self._purges = purges
        self._containers = database.collection("containers")
        self._addresses = database.collection("addresses")
        self._sessions = database.collection("sessions")
        self._turns = Turns()
        self._reader: RevalidatingReader[str, Container] = RevalidatingReader(
            self._containers, lambda document: Container(document["polls"])
        )
        self._sequences = sequences
        self._idempotency = idempotency

    async def in_container(self, key: ContainerKey) -> Container:
        """The polls of a container; none where there is no such container."""
        return await self._reader.get(key.id) or NO_POLLS

    async def get(self, key: ContainerKey, poll_id: str) -> PollDocument:
        """A missing container and a missing poll are both ``NotFound``."""
        return _poll_of((await self.in_container(key)).polls, poll_id)

    async def find(self, reference: int | str) -> LocatedPoll:
        """A poll by its number or its UUID, wherever it is; raises ``NotFound``."""
        field = "number" if isinstance(reference, int) else "_id"
        with round_trip():
            address = await self._addresses.find_one({field: reference})
        if address is None:
            raise NotFound("There is no such poll.")
        key = ContainerKey.of(address["container"])
        return LocatedPoll(key, await self.get(key, address["_id"]))

    async def made_by(self, owner_id: int, window: Window) -> Page[LocatedPoll]:
        """The polls that a user made under ``/api/v1``, newest first; bookmarks are numbers."""
        query: dict[str, Any] = {"owner_id": owner_id}
        if window.after is not None:
            query["number"] = {"$lt": window.after}
        with round_trip():
            cursor = self._containers.find(query).sort("number", -1)
            found = await cursor.skip(window.skip).limit(window.limit + 1).to_list(None)
        located = [LocatedPoll(ContainerKey.of(one["_id"]), one["polls"][0]) for one in found]
        return page_of(located, window, lambda one: one.poll["number"])

    async def add(
        self,
        key: ContainerKey,
        definition: PollDefinition,
        *,
        owner_id: int,
        now: datetime,
        idempotency_key: IdempotencyKey | None = None,
    ) -> PollDocument:
        """Stores a new poll as the last of its container, with its standing session.

        Raises ``Conflict`` where a poll has the id that came along, anywhere in the store, and
        where the container is full.
        """
        made_before = await self._idempotency.find(idempotency_key)
        if made_before is not None:
            return cast(PollDocument, made_before)
        number = await self._sequences.take("polls")
        standing = await self._sequences.take("sessions")
        poll = _new_poll(definition, number, owner_id, now, standing_session=standing)

        async def push(session: Session) -> PollDocument:
            await self._push(session, key, poll)
            await self._insert_address(session, key, poll)
            run = new_session(standing, LocatedPoll(key, poll), now, is_published=True)
            await self._sessions.insert_one(dict(run), session=session)
            return poll

        async with self._turns.take(key.id):
            return await self._idempotency.transaction(idempotency_key, push)

    async def add_own(
        self,
        definition: PollDefinition,
        *,
        owner_id: int,
        now: datetime,
        idempotency_key: IdempotencyKey | None = None,
    ) -> PollDocument:
        """Stores a new poll in the workspace of users, in a container of its own."""
        made_before = await self._idempotency.find(idempotency_key)
        if made_before is not None:
            return cast(PollDocument, made_before)
        number = await self._sequences.take("polls")
        poll = _new_poll(definition, number, owner_id, now, standing_session=None)
        key = ContainerKey(USERS, str(owner_id), str(number))

        async def insert(session: Session) -> PollDocument:
            container = {**_new_container(key, poll), "owner_id": owner_id, "number": number}
            await self._containers.insert_one(container, session=session)
            await self._insert_address(session, key, poll)
            return poll

        return await self._idempotency.transaction(idempotency_key, insert)

    async def _push(self, session: Session, key: ContainerKey, poll: PollDocument) -> None:
        container = await self._read(key, session)
        polls = container["polls"] if container else []
        if len(polls) >= MAX_POLLS:
            raise Conflict(f"This content holds {MAX_POLLS} polls, and no more fit.")
        if container is None:
            await self._containers.insert_one(dict(_new_container(key, poll)), session=session)
        else:
            _require_room({**container, "polls": [*polls, poll]})
            await self._change(session, key, {"$push": {"polls": poll}})

    async def _insert_address(
        self, session: Session, key: ContainerKey, poll: PollDocument
    ) -> None:
        """Makes the poll's id unique in the store, and the poll known by its number.

        What must be unique is an ``_id``: a unique index on an array does not look into one
        document, and no shard could enforce it.
        """
        address = {"_id": poll["id"], "number": poll["number"], "container": key.id}
        try:
            await self._addresses.insert_one(address, session=session)
        except DuplicateKeyError as error:
            raise Conflict(f"There is a poll with the id {poll['id']}.") from error

    async def replace(
        self,
        key: ContainerKey,
        poll_id: str,
        definition: PollDefinition,
        *,
        if_match: Revisions | None = None,
    ) -> PollDocument:
        """Replaces the definition whole; id, number, owner and date of birth stay.

        Raises like ``edit``.
        """

        def redefine(poll: PollDocument) -> PollDocument:
            options, highest = number_options(
                definition["options"], poll["highest_option"], kept=poll["options"]
            )
            return {
                **poll,
                "title": definition["title"],
                "description": definition["description"],
                "settings": definition["settings"],
                "closes_at": definition["closes_at"],
                "options": options,
                "highest_option": highest,
            }

        return await self.edit(key, poll_id, redefine, if_match=if_match)

    async def edit(
        self,
        key: ContainerKey,
        poll_id: str,
        change: Callable[[PollDocument], PollDocument],
        *,
        if_match: Revisions | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> PollDocument:
        """Stores what the pure function ``change`` makes of the poll, and raises its version.

        The sessions of the poll get the new rules first, the container comes last: whoever creates
        a session meanwhile conflicts. Raises ``NotFound``, ``PreconditionFailed`` where the stored
        revision is not in ``if_match``, ``Conflict`` where an option with votes would be dropped or
        the container would grow too large, and what ``change`` raises.
        """

        async def work(session: Session) -> PollDocument:
            container, poll = await self._read_poll(session, key, poll_id, if_match)
            changed: PollDocument = {**change(poll), "version": poll["version"] + 1}
            await self._update_sessions(session, poll, changed)
            place = container["polls"].index(poll)
            container["polls"][place] = changed
            _require_room(container)
            # The place is the one that this transaction has read: who moves it conflicts with us.
            await self._change(session, key, {"$set": {f"polls.{place}": changed}})
            return changed

        async with self._turns.take(key.id):
            return await self._idempotency.transaction(idempotency_key, work)

    async def _update_sessions(
        self, session: Session, before: PollDocument, after: PollDocument
    ) -> None:
        rules = rules_of(after)
        if rules == rules_of(before):
            return
        kept = {option["id"] for option in after["options"]}
        had = {option["id"] for option in before["options"]}
        dropped = had - kept
        if dropped:
            with_votes = [{f"results.{option_id}": {"$gt": 0}} for option_id in dropped]
            voted = await self._sessions.find_one(
                {"poll_id": after["id"], "$or": with_votes}, {"_id": 1}, session=session
            )
            if voted is not None:
                raise Conflict("An option that has votes cannot be taken away.")
        update: dict[str, Any] = {
            "$set": {"rules": rules, **{f"results.{new}": 0 for new in kept - had}},
            "$inc": {"casts": 1},
        }
        if dropped:
            update["$unset"] = {f"results.{option_id}": "" for option_id in dropped}
        await self._sessions.update_many({"poll_id": after["id"]}, update, session=session)

    async def delete(
        self, key: ContainerKey, poll_id: str, *, if_match: Revisions | None = None
    ) -> PollDocument:
        """The poll that was there; its sessions go with it, all or none. Raises like ``edit``."""

        async def work(session: Session) -> PollDocument:
            _, poll = await self._read_poll(session, key, poll_id, if_match)
            runs = self._sessions.find({"poll_id": poll_id}, {"_id": 1}, session=session)
            await self._purges.note(session, [one["_id"] for one in await runs.to_list(None)])
            await self._sessions.delete_many({"poll_id": poll_id}, session=session)
            await self._addresses.delete_one({"_id": poll_id}, session=session)
            if key.workspace == USERS:
                await self._containers.delete_one({"_id": key.id}, session=session)
            else:
                await self._change(session, key, {"$pull": {"polls": {"id": poll_id}}})
            return poll

        async with self._turns.take(key.id):
            deleted = await self._database.transaction(work)
        self._purges.wake()
        return deleted

    async def touch(self, session: Session, key: ContainerKey, poll_id: str) -> PollDocument:
        """The poll as this transaction sees it; who changes it meanwhile conflicts with us."""
        _, poll = await self._read_poll(session, key, poll_id, None)
        await self._change(session, key, {})
        return poll

    async def is_empty(self) -> bool:
        with round_trip():
            return await self._containers.find_one({}, {"_id": 1}) is None

    async def _read(self, key: ContainerKey, session: Session) -> ContainerDocument | None:
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


def _new_poll(
    definition: PollDefinition,
    number: int,
    owner_id: int,
    now: datetime,
    *,
    standing_session: int | None,
) -> PollDocument:
    options, highest = number_options(definition["options"], 0)
    return {
        "id": definition.get("id") or str(uuid.uuid4()),
        "number": number,
        "title": definition["title"],
        "description": definition["description"],
        "settings": definition["settings"],
        "closes_at": definition["closes_at"],
        "options": options,
        "highest_option": highest,
        "standing_session": standing_session,
        "owner_id": owner_id,
        "created_at": now,
        "version": 1,
    }


def _new_container(key: ContainerKey, poll: PollDocument) -> ContainerDocument:
    return {
        "_id": key.id,
        "workspace": key.workspace,
        "content": key.content,
        "container": key.container,
        "version": 1,
        "polls": [poll],
    }


def _poll_of(polls: list[PollDocument], poll_id: str) -> PollDocument:
    for poll in polls:
        if poll["id"] == poll_id:
            return poll
    raise NotFound("There is no such poll.")


def _require_room(container: ContainerDocument) -> None:
    if stored_size(dict(container)) > MAX_CONTAINER_BYTES:
        raise Conflict("The polls of this content would take more than 4 MiB.")
