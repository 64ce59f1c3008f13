"""Who is enrolled in which course, and as what."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from storage import courses
from storage.audit import Action, Actor, Subject, note
from storage.batching import Batcher
from storage.client import (
    BulkWriteError,
    Database,
    InsertOne,
    RunAgain,
    Transaction,
    round_trip,
)
from storage.documents import EnrollmentDocument, UserId
from storage.errors import require
from storage.idempotency import IdempotencyKey, all_once
from storage.pagination import Page, Window, read_page


class Enrollments:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._enrollments = database.collection("enrollments")
        self._reader: Batcher[UserId, list[EnrollmentDocument]] = Batcher(
            self._find_by_user, staggered=True
        )

    async def of_user(self, user_id: UserId) -> list[EnrollmentDocument]:
        """The enrollments of a user; the list is shared, so callers must not change it."""
        return await self._reader.submit(user_id)

    async def _find_by_user(self, user_ids: Sequence[UserId]) -> list[list[EnrollmentDocument]]:
        found: dict[UserId, list[EnrollmentDocument]] = {user_id: [] for user_id in user_ids}
        with round_trip():
            cursor = self._enrollments.find({"user_id": {"$in": list(found)}})
            for one in await cursor.to_list(None):
                found[one["user_id"]].append(cast(EnrollmentDocument, one))
        return [found[user_id] for user_id in user_ids]

    async def of_course(self, course_id: int, window: Window) -> Page[EnrollmentDocument]:
        """The enrollments of a course, oldest first; the bookmarks are their numbers."""
        return await read_page(self._enrollments, {"course_id": course_id}, window, "number")

    async def add(
        self,
        course_id: int,
        wanted: Sequence[Mapping[str, Any]],
        *,
        now: datetime,
        idempotency_key: IdempotencyKey | None = None,
        actor: Actor | None = None,
    ) -> list[EnrollmentDocument]:
        """The enrollments of ``wanted`` in a course, each new or the existing one; all or none.

        Each of ``wanted`` has ``user_id``, ``course_section_id`` and ``type``. Takes as many round
        trips for a thousand as for one.
        """
        ids = [id_of(course_id, one) for one in wanted]
        by_id = dict(zip(ids, wanted, strict=True))

        def enroll(transaction: Transaction) -> list[EnrollmentDocument]:
            # Room for one more, or a full batch would be followed by a request for the next.
            rows = transaction.find(
                "enrollments", {"_id": {"$in": [*by_id]}}, batch_size=len(by_id) + 1
            )
            enrolled = {one["_id"]: cast(EnrollmentDocument, one) for one in rows}
            missing = [key for key in by_id if key not in enrolled]
            if missing:
                numbers = transaction.next_numbers("enrollments", len(missing))
                for key, number in zip(missing, numbers, strict=True):
                    enrolled[key] = _new(key, number, course_id, by_id[key], now)
            inserts = [InsertOne(dict(enrolled[key])) for key in missing]
            try:
                transaction.bulk_write("enrollments", inserts)
            except BulkWriteError as error:
                # One was enrolled since they were read here: read and decide again.
                raise RunAgain from error
            if missing:
                made: Subject = {"course_id": course_id, "count": len(missing)}
                note(transaction, actor, Action.ENROLLMENT_CREATED, **made)
            return [enrolled[key] for key in ids]

        return await all_once(self._database, idempotency_key, enroll)

    async def require(self, course_id: int, number: int) -> None:
        """Raises ``NotFound`` if the course has no such enrollment."""
        query = {"course_id": course_id, "number": number}
        with round_trip():
            require(await self._enrollments.find_one(query, {"_id": 1}), "enrollment")

    async def delete(
        self, course_id: int, number: int, *, actor: Actor | None = None
    ) -> EnrollmentDocument:
        """Returns the deleted enrollment; raises ``NotFound``.

        Changes the ``rights_state`` of all open sessions of the course: votes that are under way
        conflict with that, and their rights are checked again. That of others changes when they are
        opened, so a course may have very many.
        """

        def work(transaction: Transaction) -> EnrollmentDocument:
            ended = _end(transaction, course_id, {"number": number})
            enrollment = require(ended[0] if ended else None, "enrollment")
            about: Subject = {"course_id": course_id, "enrollment_id": number}
            note(transaction, actor, Action.ENROLLMENT_DELETED, **about)
            return enrollment

        return await self._database.transaction(work)


def end_some_of(transaction: Transaction, user_id: UserId) -> int:
    """Ends the enrollments of a user in one of their courses, and returns how many they were.

    In one course at a time: where a course votes much, this conflicts.
    """
    found = transaction.find_one("enrollments", {"user_id": user_id})
    return 0 if found is None else len(_end(transaction, found["course_id"], {"user_id": user_id}))


def _end(
    transaction: Transaction, course_id: int, which: dict[str, Any]
) -> list[EnrollmentDocument]:
    # First, since these are what conflicts: the fewer votes come in between the better.
    published = {"course_id": course_id, "is_published": True}
    transaction.update("sessions", published, {"$inc": {"rights_changes": 1}})
    courses.order(transaction, [course_id])
    found = list(transaction.find("enrollments", {"course_id": course_id, **which}))
    transaction.delete("enrollments", {"_id": {"$in": [one["_id"] for one in found]}})
    return cast(list[EnrollmentDocument], found)


def id_of(course_id: int, wanted: Mapping[str, Any]) -> str:
    section_id = wanted["course_section_id"] or ""
    return f"{course_id}:{wanted['user_id']}:{section_id}:{wanted['type']}"


def _new(
    key: str, number: int, course_id: int, wanted: Mapping[str, Any], now: datetime
) -> EnrollmentDocument:
    return {
        "_id": key,
        "number": number,
        "user_id": wanted["user_id"],
        "course_id": course_id,
        "course_section_id": wanted["course_section_id"],
        "type": wanted["type"],
        "created_at": now,
    }
