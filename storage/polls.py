"""Polls in their containers.

A container is one document, so every change of it is atomic; a transaction joins to it what it was
decided on. A poll is looked up within its container only: its id alone is not an address.
"""

import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from storage import addresses, deletions
from storage.audit import Action, Actor, Subject, note, note_all
from storage.batching import RevalidatingReader
from storage.client import Database, InsertOne, Transaction, round_trip, stored_size
from storage.courses import AnyTeacher, order, require_teacher
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
    SessionDocument,
    UserId,
    new_session,
    number_options,
    poll_in,
    revision,
    rules_of,
)
from storage.errors import (
    LimitReached,
    OptionHasVotes,
    PreconditionFailed,
    name_some,
    require,
)
from storage.idempotency import IdempotencyKey, all_once, transaction_once
from storage.locks import Locks
from storage.pagination import Page, Window, read_page
from storage.purges import Purges
from storage.totals import read_totals, totals_by_poll

Revisions = frozenset[str]
"""Revisions that a caller accepts; see ``documents.revision``."""

CheckCourses = Callable[[Iterable[int | None]], None]
"""Is given the courses of all sessions of a poll, and raises unless the caller may change these."""

NO_POLLS = Container([])
MAX_READ_BYTES = 12 * 1024 * 1024
"""Of containers for one answer. They come in one reply, since the database sends 16 MB in each."""


class Polls:
    """``clock`` gives the times of changes."""

    def __init__(self, database: Database, purges: Purges, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._addresses = database.collection("addresses")
        self._purges = purges
        self._clock = clock
        self._containers = database.collection("containers")
        self._turns = Locks()
        self._reader: RevalidatingReader[str, Container] = RevalidatingReader(
            self._containers, lambda document: Container(document["polls"])
        )

    async def in_container(self, key: ContainerKey) -> Container:
        """The polls of a container; empty if there is no such container."""
        return await self._reader.get(key.id) or NO_POLLS

    async def in_containers(self, keys: Iterable[ContainerKey]) -> dict[str, Container]:
        """The containers that exist, by the id of their key; one round trip.

        Raises ``LimitReached`` if they are too large for one answer.
        """
        return await self._reader.get_within({key.id for key in keys}, max_bytes=MAX_READ_BYTES)

    async def get(self, key: ContainerKey, poll_id: str) -> PollDocument:
        """A missing container and a missing poll are both ``NotFound``."""
        return poll_in((await self.in_container(key)).polls, poll_id)

    async def find(self, reference: int | str, kind: str = "poll") -> LocatedPoll:
        """A poll by its number or its UUID, in whichever container.

        Raises ``NotFound``, which names the ``kind``.
        """
        field = "number" if isinstance(reference, int) else "_id"
        with round_trip():
            address = require(await self._addresses.find_one({field: reference}), kind)
        key = ContainerKey.of(address["container"])
        return LocatedPoll(key, await self.get(key, address["_id"]))

    async def made_by(self, owner_id: UserId, window: Window) -> Page[PollDocument]:
        """The polls that a user made under ``/api/v1``, newest first; the bookmarks are numbers."""
        page = await read_page(
            self._containers, {"owner_id": owner_id}, window, "number", is_descending=True
        )
        return Page([one["polls"][0] for one in page.rows], page.next_after)

    async def add(
        self,
        key: ContainerKey,
        definition: PollDefinition,
        *,
        owner_id: UserId,
        now: datetime,
        idempotency_key: IdempotencyKey | None = None,
        actor: Actor | None = None,
        action: Action = Action.POLL_CREATED,
    ) -> PollDocument:
        """Stores a new poll as the last of its container, with its standing session.

        Raises ``IdTaken`` if a poll anywhere in the store has the given id, and ``LimitReached`` if
        the container is full.
        """

        def push(transaction: Transaction) -> PollDocument:
            number, standing = map(transaction.next_number, ("polls", "sessions"))
            poll = new_poll(definition, number, owner_id, now, standing_session=standing)
            session = new_session(standing, LocatedPoll(key, poll), now, is_published=True)
            claim(transaction, [number])
            append(transaction, LocatedPoll(key, poll), session, now)
            transaction.insert_numbered("sessions", [dict(session)])
            note(transaction, actor, action, poll_id=poll["id"])
            return poll

        async with self._turns.take(key.id):
            return await transaction_once(self._database, idempotency_key, push)

    async def add_own(
        self,
        definitions: Sequence[PollDefinition],
        teacher: AnyTeacher,
        *,
        owner_id: UserId,
        now: datetime,
        idempotency_key: IdempotencyKey | None = None,
        actor: Actor | None = None,
    ) -> list[PollDocument]:
        """Stores new polls in the workspace of users, each in a container of its own; all or none.

        Their numbers are in the order of ``definitions``. Raises what ``teacher`` raises.
        """

        def insert(transaction: Transaction) -> list[PollDocument]:
            require_teacher(transaction, teacher)
            numbers = transaction.next_numbers("polls", len(definitions))
            claim(transaction, numbers)
            made = [
                new_poll(definition, number, owner_id, now, standing_session=None)
                for definition, number in zip(definitions, numbers, strict=True)
            ]
            for poll in made:
                key = ContainerKey(USERS, str(owner_id), str(poll["number"]))
                append(transaction, LocatedPoll(key, poll), None, now)
            about = [Subject(poll_id=poll["id"]) for poll in made]
            note_all(transaction, actor, Action.POLL_CREATED, about)
            return made

        return await all_once(self._database, idempotency_key, insert)

    async def edit(
        self,
        located: LocatedPoll,
        change: Callable[[PollDocument], PollDocument],
        *,
        if_match: Revisions | None = None,
        idempotency_key: IdempotencyKey | None = None,
        check: CheckCourses | None = None,
        actor: Actor | None = None,
    ) -> PollDocument:
        """Stores what the pure function ``change`` makes of the poll, and raises its version.

        ``located`` is the poll that the caller's rights were checked on; ``change`` is given the
        poll as the transaction finds it. The sessions of the poll get the new rules first, the
        container comes last, so that a session that is created meanwhile conflicts. Raises
        ``NotFound``, also if another poll has taken the id since, ``PreconditionFailed`` if the
        stored revision is not in ``if_match``, ``OptionHasVotes`` if one would be dropped,
        ``LimitReached`` if the container would grow too large, and what ``change`` and ``check``
        raise.
        """

        def work(transaction: Transaction) -> PollDocument:
            _check_courses(transaction, located, check)
            container, poll = _read_poll(transaction, located, if_match)
            changed: PollDocument = {
                **change(poll),
                "version": poll["version"] + 1,
                "stamp": _new_stamp(),
            }
            _update_sessions(transaction, poll, changed)
            session = _moved_end(transaction, poll, changed)
            addresses.update(transaction, [changed["id"]], self._clock(), session)
            place = container["polls"].index(poll)
            container["polls"][place] = changed
            _require_room(container)
            # By the place that this transaction has read: whatever moves it conflicts.
            _change(transaction, located.key, {"$set": {f"polls.{place}": changed}})
            members = _changed_members(poll, changed)
            note(transaction, actor, Action.POLL_CHANGED, poll_id=changed["id"], changed=members)
            return changed

        async with self._turns.take(located.key.id):
            return await transaction_once(self._database, idempotency_key, work)

    async def delete(
        self,
        located: LocatedPoll,
        *,
        if_match: Revisions | None = None,
        check: CheckCourses | None = None,
        restorable_for: timedelta = timedelta(),
        actor: Actor | None = None,
    ) -> PollDocument:
        """Deletes a poll with its sessions, all or none, and returns it. Raises like ``edit``.

        It can be restored for the time that is given; without any its ballots are purged at once.
        """
        key, poll_id = located.key, located.poll["id"]

        def work(transaction: Transaction) -> PollDocument:
            _check_courses(transaction, located, check)
            _, poll = _read_poll(transaction, located, if_match)
            if restorable_for:
                place = LocatedPoll(key, poll)
                deletions.keep(transaction, place, self._clock(), restorable_for)
            else:
                sessions = transaction.find("sessions", {"poll_id": poll_id}, {"_id": 1})
                self._purges.note(transaction, [one["_id"] for one in sessions])
            transaction.delete("sessions", {"poll_id": poll_id})
            transaction.delete("addresses", {"_id": poll_id})
            if key.workspace == USERS:
                transaction.delete("containers", {"_id": key.id})
            else:
                _change(transaction, key, {"$pull": {"polls": {"id": poll_id}}})
            note(transaction, actor, Action.POLL_DELETED, poll_id=poll_id)
            return poll

        async with self._turns.take(key.id):
            deleted = await self._database.transaction(work)
        self._purges.wake()
        return deleted

    async def restore(
        self,
        key: ContainerKey,
        number: int,
        *,
        check: CheckCourses | None = None,
        idempotency_key: IdempotencyKey | None = None,
        actor: Actor | None = None,
    ) -> PollDocument:
        """Brings back a deleted poll of this container with its sessions and votes; all or none.

        It comes last in its container. No decision on a vote that was made before holds: the
        ``rights_state`` of its sessions is another one, and ends of enrollments that pass over them
        conflict. Raises ``NotFound`` if it was restored or purged, ``IdTaken`` if another poll has
        its id now, ``LimitReached`` if the container is full, and what ``check`` raises.
        """

        def work(transaction: Transaction) -> PollDocument:
            deleted, sessions = deletions.take(transaction, number)
            courses = [one["course_id"] for one in sessions]
            if check is not None:
                check(courses)
            order(transaction, {one for one in courses if one is not None})
            poll = deleted["poll"]
            located = LocatedPoll(ContainerKey.of(deleted["container"]), poll)
            standing = (one for one in sessions if one["_id"] == poll["standing_session"])
            append(transaction, located, next(standing, None), self._clock())
            restored = [InsertOne(_restored(one)) for one in sessions]
            transaction.bulk_write("sessions", restored)
            note(transaction, actor, Action.POLL_RESTORED, poll_id=poll["id"])
            return poll

        async with self._turns.take(key.id):
            return await transaction_once(self._database, idempotency_key, work)


def claim(transaction: Transaction, numbers: Sequence[int]) -> None:
    """For a transaction that makes polls of these numbers, which it has taken from the sequence.

    An import may have stored a poll under one of them since. Then this runs again with the next
    numbers: nothing else would conflict. The claims are the marks of the transaction, too.
    """
    marks = [_claim(number) for number in numbers]
    transaction.insert_numbered("attempts", marks)
    transaction.proof = "attempts", {"_id": marks[0]["_id"], "stamp": marks[0]["stamp"]}


def claim_given(transaction: Transaction, number: int) -> None:
    """For a transaction that found no poll of this number, which it was given: see ``claim``.

    The claim of a poll that has gone since may be there.
    """
    transaction.put("attempts", _claim(number))


def _claim(number: int) -> dict[str, Any]:
    return {
        "_id": f"polls:{number}",
        "stamp": secrets.token_hex(8),
        "created_at": datetime.now(UTC),
    }


def append(
    transaction: Transaction, located: LocatedPoll, session: SessionDocument | None, now: datetime
) -> None:
    """Stores a poll as the last of its container, with its address.

    ``session`` is its standing session. Raises ``IdTaken`` and ``LimitReached``.
    """
    key, poll = located
    # A poll of a user is alone in its container.
    container = _read(transaction, key) if key.workspace != USERS else None
    polls = container["polls"] if container else []
    if len(polls) >= MAX_POLLS:
        raise LimitReached(f"This content already has {MAX_POLLS} polls, the most that fit.")
    if container is None:
        transaction.insert("containers", _new_container(key, poll))
    else:
        _require_room({**container, "polls": [*polls, poll]})
        _change(transaction, key, {"$push": {"polls": poll}})
    addresses.insert(transaction, located, session, now)


def touch(transaction: Transaction, located: LocatedPoll) -> PollDocument:
    """The poll as this transaction sees it; a concurrent change of it conflicts."""
    _, poll = _read_poll(transaction, located, None)
    _change(transaction, located.key, {})
    return poll


def redefined(poll: PollDocument, definition: PollDefinition) -> PollDocument:
    """``poll`` with another definition; id, number, owner and time of creation stay."""
    return cast(PollDocument, {**poll, **_defined(definition, poll)})


def _read(transaction: Transaction, key: ContainerKey) -> ContainerDocument | None:
    return cast(ContainerDocument | None, transaction.find_one("containers", {"_id": key.id}))


def _read_poll(
    transaction: Transaction, located: LocatedPoll, if_match: Revisions | None
) -> tuple[ContainerDocument, PollDocument]:
    """The poll as this transaction sees it, in its container.

    An id can be deleted and taken again, by another owner; numbers are never used again.
    """
    container = require(_read(transaction, located.key), "poll")
    poll = poll_in(container["polls"], located.poll["id"])
    require(poll if poll["number"] == located.poll["number"] else None, "poll")
    if if_match is not None and revision(poll) not in if_match:
        raise PreconditionFailed("If-Match does not name the current version of the poll.")
    return container, poll


def _check_courses(
    transaction: Transaction, located: LocatedPoll, check: CheckCourses | None
) -> None:
    """A session that comes meanwhile conflicts: it changes the container of the poll as well."""
    if check is not None:
        found = transaction.find("sessions", {"poll_id": located.poll["id"]}, {"course_id": 1})
        check([one["course_id"] for one in found])


def _change(transaction: Transaction, key: ContainerKey, update: dict[str, Any]) -> None:
    """Every change raises the container's version, so that a transaction that read it conflicts."""
    transaction.update("containers", {"_id": key.id}, {**update, "$inc": {"version": 1}})


def _update_sessions(transaction: Transaction, before: PollDocument, after: PollDocument) -> None:
    rules = rules_of(after)
    of_poll = {"poll_id": after["id"]}
    if rules == rules_of(before):
        if _texts(after) != _texts(before):
            transaction.update("sessions", of_poll, {"$set": {"edition": after["version"]}})
        return
    kept = {option["id"] for option in after["options"]}
    had = {option["id"] for option in before["options"]}
    dropped = [option["id"] for option in before["options"] if option["id"] not in kept]
    if dropped:
        _require_no_votes(transaction, after["id"], dropped, has_new=not kept <= had)
    removed = [f"results.{option_id}" for option_id in dropped]
    if after["closes_at"] != before["closes_at"]:
        removed.append("rules.has_ended")
    copied = {f"rules.{name}": value for name, value in rules.items()}
    copied["edition"] = after["version"]
    update = {
        "$set": {**copied, **{f"results.{new}": 0 for new in kept - had}},
        "$unset": dict.fromkeys(removed, ""),
        "$inc": {"casts": 1},
    }
    transaction.update("sessions", of_poll, {name: one for name, one in update.items() if one})
    if after["closes_at"] != before["closes_at"]:
        # Those that its end had closed are open again.
        open_again = {**of_poll, "is_published": True}
        transaction.update("sessions", open_again, {"$unset": {"closed_at": ""}})


def _restored(session: SessionDocument) -> dict[str, Any]:
    changes = session.get("rights_changes", 0) + 1
    return {**session, "casts": session["casts"] + 1, "rights_changes": changes}


def _changed_members(before: PollDocument, after: PollDocument) -> list[str]:
    """The names of the members of the definition that differ, as ``/rest`` names them."""
    members = [
        name for name in ("title", "description", "options") if before.get(name) != after.get(name)
    ]
    had, has = dict(before["settings"]), dict(after["settings"])
    return members + [
        f"settings.{name}" for name in sorted({*had, *has}) if had.get(name) != has.get(name)
    ]


def _texts(poll: PollDocument) -> list[Any]:
    """What readers of a poll see that its sessions have no copy of."""
    options = [(option["id"], option["title"], option["order"]) for option in poll["options"]]
    return [poll["title"], poll["description"], options]


def _moved_end(
    transaction: Transaction, before: PollDocument, after: PollDocument
) -> SessionDocument | None:
    """The standing session after its end has moved; None if it has none, or its end stays."""
    if after["standing_session"] is None or after["closes_at"] == before["closes_at"]:
        return None
    found = transaction.find_one("sessions", {"_id": after["standing_session"]}, {"results": 0})
    return cast(SessionDocument | None, found)


def _require_no_votes(
    transaction: Transaction, poll_id: str, options: Sequence[str], *, has_new: bool
) -> None:
    rows = transaction.aggregate("sessions", totals_by_poll([poll_id], options))
    totals = read_totals(rows, options).get(poll_id, {})
    if voted := [option_id for option_id, votes in totals.items() if votes]:
        hint = " To keep an option, send it with its id." if has_new else ""
        raise OptionHasVotes(
            f"Options that have votes cannot be removed: {name_some(voted)}.{hint}"
        )


def _defined(definition: PollDefinition, before: PollDocument | None = None) -> dict[str, Any]:
    """The members of a poll that its definition says, with numbers for options without an id."""
    given = definition.get("highest_option", 0)
    highest, kept = (before["highest_option"], before["options"]) if before else (given, [])
    options, highest = number_options(definition["options"], highest, kept)
    return {
        "title": definition["title"],
        "description": definition["description"],
        "settings": definition["settings"],
        "closes_at": definition["closes_at"],
        "options": options,
        "highest_option": highest,
    }


def new_poll(
    definition: PollDefinition,
    number: int,
    owner_id: UserId,
    now: datetime,
    *,
    standing_session: int | None,
) -> PollDocument:
    poll = {
        "id": definition.get("id") or str(uuid.uuid4()),
        "number": number,
        **_defined(definition),
        "standing_session": standing_session,
        "owner_id": owner_id,
        "created_at": now,
        "version": 1,
        "stamp": _new_stamp(),
    }
    return cast(PollDocument, poll)


def _new_stamp() -> str:
    return secrets.token_hex(4)


def _new_container(key: ContainerKey, poll: PollDocument) -> dict[str, Any]:
    container = {"_id": key.id, **key._asdict(), "version": 1, "polls": [poll]}
    if key.workspace == USERS:
        container |= {"owner_id": poll["owner_id"], "number": poll["number"]}
    return container


def _require_room(container: ContainerDocument) -> None:
    if stored_size(dict(container)) > MAX_CONTAINER_BYTES:
        raise LimitReached("The polls of this content would take more than 4 MiB.")
