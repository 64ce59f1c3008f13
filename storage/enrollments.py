"""Who is in which course, as what."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from storage.batching import Batcher
from storage.client import OUTCOME_UNKNOWN, Database, Session, round_trip
from storage.documents import EnrollmentDocument, EnrollmentType
from storage.errors import NotFound
from storage.idempotency import Idempotency, IdempotencyKey
from storage.pages import Page, Window, page_of
from storage.sequences import Sequences


class Enrollments:
    def __init__(self, database: Database, sequences: Sequences, idempotency: Idempotency) -> None:
        self._enrollments = database.collection("enrollments")
        self._reader: Batcher[int, list[EnrollmentDocument]] = Batcher(
            self._find_by_user, staggered=True
        )
        self._sequences = sequences
        self._idempotency = idempotency

    async def of_user(self, user_id: int) -> list[EnrollmentDocument]:
        """Where a user is enrolled; shared between callers, nobody changes it."""
        return await self._reader.submit(user_id)

    async def _find_by_user(self, user_ids: Sequence[int]) -> list[list[EnrollmentDocument]]:
        found: dict[int, list[EnrollmentDocument]] = {user_id: [] for user_id in user_ids}
        with round_trip():
            cursor = self._enrollments.find({"user_id": {"$in": list(found)}})
            for one in await cursor.to_list(None):
                found[one["user_id"]].append(cast(EnrollmentDocument, one))
        return [found[user_id] for user_id in user_ids]

    async def of_course(self, course_id: int, window: Window) -> Page[EnrollmentDocument]:
        """The enrollments of a course, oldest first; bookmarks are their numbers."""
        query: Mapping[str, object] = {"course_id": course_id}
        if window.after is not None:
            query = {**query, "number": {"$gt": window.after}}
        with round_trip():
            cursor = self._enrollments.find(query).sort("number", 1)
            found = await cursor.skip(window.skip).limit(window.limit + 1).to_list(None)
        return page_of(
            cast(list[EnrollmentDocument], found), window, lambda enrollment: enrollment["number"]
        )

    async def add(
        self,
        *,
        user_id: int,
        course_id: int,
        course_section_id: int | None,
        kind: EnrollmentType,
        now: datetime,
        idempotency_key: IdempotencyKey | None = None,
    ) -> EnrollmentDocument:
        """The new enrollment, or the one there is of the same user, course, section and type."""
        key = f"{course_id}:{user_id}:{course_section_id or ''}:{kind}"
        enrollment: EnrollmentDocument = {
            "_id": key,
            "number": await self._sequences.take("enrollments"),
            "user_id": user_id,
            "course_id": course_id,
            "course_section_id": course_section_id,
            "type": kind,
            "created_at": now,
        }

        async def work(session: Session) -> EnrollmentDocument:
            there = await self._enrollments.find_one({"_id": key}, session=session)
            if there is not None:
                return cast(EnrollmentDocument, there)
            await self._enrollments.insert_one(dict(enrollment), session=session)
            return enrollment

        return await self._idempotency.transaction(idempotency_key, work)

    async def require(self, course_id: int, number: int) -> None:
        """Raises ``NotFound`` where the course has no such enrollment."""
        query = {"course_id": course_id, "number": number}
        with round_trip():
            found = await self._enrollments.find_one(query, {"_id": 1})
        if found is None:
            raise NotFound("There is no such enrollment.")

    async def delete(self, course_id: int, number: int) -> EnrollmentDocument:
        """The enrollment that was there; raises ``NotFound``."""
        with round_trip(unavailable=OUTCOME_UNKNOWN):
            found = await self._enrollments.find_one_and_delete(
                {"course_id": course_id, "number": number}
            )
        if found is None:
            raise NotFound("There is no such enrollment.")
        return cast(EnrollmentDocument, found)
