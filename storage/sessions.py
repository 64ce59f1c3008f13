"""Sessions: runs of a poll, each with results of its own."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from storage import addresses
from storage.audit import Action, Actor, Subject, note, note_all
from storage.batching import Batcher, Reader
from storage.client import Database, Transaction, round_trip, snapshot_of
from storage.courses import Teacher, enter, order
from storage.documents import (
    BallotDocument,
    LocatedPoll,
    PollDocument,
    Reach,
    SessionDocument,
    UserId,
    is_open,
    is_over,
    new_session,
    note_end,
    rights_state,
)
from storage.errors import (
    Conflict,
    CountsOnly,
    EndDatePassed,
    LimitReached,
    SessionHasSubmissions,
    StandingSession,
    require,
)
from storage.idempotency import IdempotencyKey, all_once
from storage.pagination import Page, Window, page_of, read_page
from storage.purges import Purges
from storage.totals import read_totals, totals_by_poll

MAX_SESSIONS = 1_000
"""Of a poll: a change writes them all in one transaction, and a deletion removes them in one."""
OPEN: dict[str, Any] = {"is_published": True, "rules.has_ended": {"$ne": True}}
"""The query of ``documents.is_open``."""


class Sessions:
    """``touch`` is that of ``storage.polls``, ``clock`` says whether the end of a poll has passed.

    ``ballot_id`` is that of ``Ballots.id_of``.

    Of every session that is read here and is over, the end is noted in the store first.
    """

    def __init__(
        self,
        database: Database,
        touch: Callable[[Transaction, LocatedPoll], PollDocument],
        purges: Purges,
        clock: Callable[[], datetime],
        ballot_id: Callable[[int, UserId], str],
    ) -> None:
        self._database = database
        self._sessions = database.collection("sessions")
        self._reader: Reader[int, SessionDocument] = Reader(self._sessions)
        self._ballot_id = ballot_id
        self._purges = purges
        self._touch = touch
        self._clock = clock
        self._ends: Batcher[str, None] = Batcher(self._note_ends)

    async def get(self, session_id: int) -> SessionDocument:
        """Raises ``NotFound``."""
        found = require(await self._reader.get(session_id), "poll session")
        if not is_over(found, self._clock()):
            return found
        return require((await self._ended([found])).get(session_id), "poll session")

    async def find_all(self, session_ids: Iterable[int]) -> dict[int, SessionDocument]:
        """The sessions that exist, by number."""
        found = await self._reader.get_all(session_ids)
        return {**found, **await self._ended(found.values())}

    async def find_with_own(
        self, session_ids: Iterable[int], user_id: UserId
    ) -> tuple[dict[int, SessionDocument], dict[int, BallotDocument]]:
        """The sessions that exist, and the ballots of a user in them, both by number of session.

        One round trip: all are of one moment. The ballots come without their ``requests``.
        """
        ballot_ids = {number: self._ballot_id(number, user_id) for number in session_ids}
        found = await self._read_with_own(ballot_ids)
        if await self._note(found[0].values()):
            found = await self._read_with_own(ballot_ids)
        return found

    async def _read_with_own(
        self, ballot_ids: Mapping[int, str]
    ) -> tuple[dict[int, SessionDocument], dict[int, BallotDocument]]:
        if not ballot_ids:
            return {}, {}
        ballots = [
            {"$match": {"_id": {"$in": [*ballot_ids.values()]}}},
            {"$project": {"requests": 0}},
        ]
        pipeline: list[dict[str, Any]] = [
            {"$match": {"_id": {"$in": [*ballot_ids]}}},
            {"$unionWith": {"coll": "ballots", "pipeline": ballots}},
        ]
        with round_trip():
            # One more than there can be: a full batch leaves the cursor open for another request.
            cursor = snapshot_of(self._sessions).aggregate(
                pipeline, batchSize=2 * len(ballot_ids) + 1
            )
            rows = await cursor.to_list(None)
        sessions = {one["_id"]: one for one in rows if "session_id" not in one}
        own = {one["session_id"]: one for one in rows if "session_id" in one}
        return cast(dict[int, SessionDocument], sessions), cast(dict[int, BallotDocument], own)

    async def note_ends(self, poll_ids: Iterable[str]) -> None:
        """Notes the ends of these polls that have passed."""
        await asyncio.gather(*map(self._ends.submit, poll_ids))

    async def with_ballots(
        self, session_id: int, *, limit: int, ballot_id: str | None = None
    ) -> tuple[SessionDocument, list[BallotDocument]] | None:
        """A session and ``limit`` of its ballots by number, as of one moment; None if it is gone.

        With ``ballot_id`` it is that ballot alone, if there is one. The ballots come without their
        ``requests``.
        """
        which = {"session_id": session_id} if ballot_id is None else {"_id": ballot_id}
        ballots = [
            {"$match": which},
            {"$sort": {"number": 1}},
            {"$limit": limit},
            {"$project": {"requests": 0}},
        ]
        pipeline: list[dict[str, Any]] = [
            {"$match": {"_id": session_id}},
            {"$lookup": {"from": "ballots", "pipeline": ballots, "as": "ballots"}},
        ]
        with round_trip():
            found = await snapshot_of(self._sessions).aggregate(pipeline).to_list(None)
        if not found:
            return None
        read = found[0].pop("ballots")
        return cast(SessionDocument, found[0]), cast(list[BallotDocument], read)

    async def of_poll(
        self, poll_id: str, window: Window, courses: Collection[int] | None = None
    ) -> Page[SessionDocument]:
        """The sessions of a poll by number, which is the bookmark.

        ``courses`` are those that the caller reaches, None for all; here and below the standing
        session is always among them.
        """
        return await self._read_page({"poll_id": poll_id, **_in(courses)}, window)

    async def within(self, reach: Reach, window: Window, *, is_open: bool) -> Page[SessionDocument]:
        """The sessions that a user reaches and that are open, or that are not; by number."""
        if not reach:
            return Page([])
        query = {"$and": [_reached(reach), self._in_state(is_open=is_open)]}
        return await self._read_page(query, window)

    def _in_state(self, *, is_open: bool) -> dict[str, Any]:
        closed = [
            {"is_published": False},
            {"rules.has_ended": True},
            {"rules.closes_at": {"$lte": self._clock()}},
        ]
        return {"$nor" if is_open else "$or": closed}

    async def in_courses(self, window: Window, *, is_open: bool) -> Page[SessionDocument]:
        """The sessions of all courses that are open, or that are not.

        They are listed by course and number, which are the bookmarks.
        """
        state = self._in_state(is_open=is_open)
        ranges: list[dict[str, Any]] = [{"course_id": {"$gt": 0}}]
        if window.after is not None:
            course_id, number = window.after
            ranges = [
                {"course_id": course_id, "_id": {"$gt": number}},
                {"course_id": {"$gt": course_id}},
            ]
        with round_trip():
            cursor = self._sessions.find({"$or": [{**some, **state} for some in ranges]})
            cursor = cursor.sort([("course_id", 1), ("_id", 1)]).skip(window.skip)
            found = await cursor.limit(window.limit + 1).to_list(None)
        rows = cast(list[SessionDocument], found)
        page = page_of(rows, window, lambda one: (one["course_id"], one["_id"]))
        return await self._as_ended(page)

    async def _read_page(self, query: Mapping[str, Any], window: Window) -> Page[SessionDocument]:
        return await self._as_ended(await read_page(self._sessions, query, window, "_id"))

    async def _as_ended(self, page: Page[SessionDocument]) -> Page[SessionDocument]:
        again = await self._ended(page.rows)
        return page._replace(rows=[again.get(one["_id"], one) for one in page.rows])

    async def _ended(self, found: Iterable[SessionDocument]) -> dict[int, SessionDocument]:
        """Those of the sessions that were over, read again after their end was noted."""
        return await self._reader.get_all(await self._note(found))

    async def _note(self, found: Iterable[SessionDocument]) -> Collection[int]:
        """Notes the ends of those that are over, and returns their numbers."""
        now = self._clock()
        over = {one["_id"]: one["poll_id"] for one in found if is_over(one, now)}
        if over:
            await self.note_ends(set(over.values()))
        return over

    async def _note_ends(self, poll_ids: Sequence[str]) -> Sequence[None]:
        """Notes the end of these polls in all their sessions: none is open for longer."""

        def work(transaction: Transaction) -> None:
            now = self._clock()
            query = {"poll_id": {"$in": list(set(poll_ids))}, **_over(now)}
            transaction.update("sessions", query, note_end(now))
            addresses.note_ends(transaction, set(poll_ids), now)

        await self._database.transaction(work)
        return [None] * len(poll_ids)

    async def reaches(self, poll_id: str, reach: Reach) -> bool:
        """Whether a user reaches any session of this poll."""
        if not reach:
            return False
        return await self._exists({"poll_id": poll_id, **_reached(reach)})

    async def _exists(self, query: Mapping[str, Any]) -> bool:
        with round_trip():
            return await self._sessions.find_one(query, {"_id": 1}) is not None

    async def has_open(self, poll: PollDocument, reach: Reach | None) -> bool:
        """Whether any session of the poll within ``reach`` (None: any at all) is open."""
        of_poll = {"poll_id": poll["id"]}
        over = {**of_poll, **_over(self._clock())}
        if poll["closes_at"] is not None and await self._exists(over):
            await self._ends.submit(poll["id"])
        if reach is None:
            return await self._exists({**of_poll, **OPEN})
        return bool(reach) and await self._exists({**of_poll, **OPEN, **_reached(reach)})

    async def closed_with_votes(
        self, poll_id: str, courses: Collection[int] | None = None
    ) -> list[int]:
        """The numbers of the sessions of a poll that are closed and have votes which are kept."""
        closed: dict[str, Any] = {"$nor": [OPEN, {"counts_only": True}]}
        query = {"poll_id": poll_id, "participants": {"$gt": 0}, **closed, **_in(courses)}
        with round_trip():
            found = await self._sessions.find(query, {"_id": 1}).to_list(None)
        return [one["_id"] for one in found]

    async def total_results(
        self, polls: Collection[PollDocument], courses: Collection[int] | None = None
    ) -> dict[str, dict[str, int]]:
        """By poll, the sum over its sessions of the votes of each option; no poll without votes."""
        options = sorted({option["id"] for poll in polls for option in poll["options"]})
        pipeline = totals_by_poll([poll["id"] for poll in polls], options, _in(courses))
        with round_trip():
            rows = await self._sessions.aggregate(pipeline).to_list(None)
        return read_totals(rows, options)

    async def create(
        self,
        located: LocatedPoll,
        wanted: Sequence[Mapping[str, Any]],
        teacher: Teacher,
        *,
        now: datetime,
        idempotency_key: IdempotencyKey | None = None,
        actor: Actor | None = None,
    ) -> list[SessionDocument]:
        """New sessions of a poll in courses, not open yet; all or none.

        Each of ``wanted`` has the ``course_id``, ``course_section_id`` and ``has_public_results``
        of one. They raise the version of the poll's container: a concurrent change of the poll
        conflicts, or the sessions would keep the old rules. Raises ``NotFound`` if the poll is
        gone, ``LimitReached`` if it would have more than ``MAX_SESSIONS``, and what ``teacher``
        raises.
        """

        def work(transaction: Transaction) -> list[SessionDocument]:
            poll = LocatedPoll(located.key, self._touch(transaction, located))
            enter(transaction, {one["course_id"] for one in wanted}, teacher)
            _require_room(transaction, poll.poll["id"], len(wanted))
            numbers = transaction.next_numbers("sessions", len(wanted))
            made = [
                new_session(number, poll, now, **members)
                for number, members in zip(numbers, wanted, strict=True)
            ]
            transaction.insert_numbered("sessions", [dict(session) for session in made])
            note_all(transaction, actor, Action.SESSION_CREATED, map(subject_of, made))
            return made

        return await all_once(self._database, idempotency_key, work)

    async def update(
        self,
        session_id: int,
        changes: Mapping[str, Any],
        teacher: Teacher,
        *,
        actor: Actor | None = None,
    ) -> SessionDocument:
        """Changes course, section or visibility.

        Raises ``NotFound``, ``StandingSession``, ``SessionHasSubmissions`` if course or section
        would change, and for another course what ``teacher`` raises.
        """

        def check(transaction: Transaction, found: SessionDocument) -> None:
            course = (found["course_id"], found["course_section_id"])
            after = {**found, **changes}
            if after["course_id"] != found["course_id"]:
                enter(transaction, [after["course_id"]], teacher)
            _require_course(found)
            if found["participants"] and (after["course_id"], after["course_section_id"]) != course:
                raise SessionHasSubmissions(
                    "The course and section of a session that has submissions cannot be changed."
                )

        return await self._set(session_id, changes, check, actor)

    async def set_published(
        self, session_id: int, *, is_published: bool, actor: Actor | None = None
    ) -> SessionDocument:
        """Opens or closes one session.

        Raises ``NotFound``, ``EndDatePassed`` if the poll closes on its end date, ``CountsOnly`` if
        its ballots were removed, and ``Conflict`` for a session that is final.
        """

        def check(transaction: Transaction, found: SessionDocument) -> None:
            if is_published and found.get("counts_only"):
                raise CountsOnly
            if is_published and found["course_id"] is not None:
                # Ends of enrollments pass over sessions that are not open.
                order(transaction, [found["course_id"]])
            if is_published and found.get("is_final"):
                raise Conflict(
                    "This poll session was imported without its voters: it stays closed."
                )
            opened: SessionDocument = {**found, "is_published": True}
            if is_published and (is_over(found, self._clock()) or not is_open(opened)):
                raise EndDatePassed(
                    "The end date of the poll has passed: the session stays closed."
                )

        try:
            return await self._set(session_id, {"is_published": is_published}, check, actor)
        except EndDatePassed:
            await self.get(session_id)  # which notes the end, if this is the first to tell of it
            raise

    async def delete(self, session_id: int, *, actor: Actor | None = None) -> None:
        """Raises ``NotFound`` and ``StandingSession``."""

        def work(transaction: Transaction) -> None:
            found = _read(transaction, session_id)
            _require_course(found)
            transaction.delete("sessions", {"_id": session_id})
            self._purges.note(transaction, [session_id])
            note(transaction, actor, Action.SESSION_DELETED, **subject_of(found))

        await self._database.transaction(work)
        self._purges.wake()

    async def _set(
        self,
        session_id: int,
        changes: Mapping[str, Any],
        check: Callable[[Transaction, SessionDocument], None],
        actor: Actor | None,
    ) -> SessionDocument:
        """Every change raises ``casts``: votes are ordered against it."""

        def work(transaction: Transaction) -> SessionDocument:
            found = _read(transaction, session_id)
            check(transaction, found)
            after = cast(SessionDocument, {**found, **changes})
            increments = {"casts": 1}
            is_opened = after["is_published"] and not found["is_published"]
            if is_opened or rights_state(after) != rights_state(found):
                increments["rights_changes"] = 1
            update: dict[str, Any] = {"$set": changes, "$inc": increments}
            if is_opened:
                update["$unset"] = {"closed_at": ""}
            elif found["is_published"] and not after["is_published"]:
                update["$min"] = {"closed_at": self._clock()}
            transaction.update("sessions", {"_id": session_id}, update)
            if after["course_id"] is None:
                addresses.update(transaction, [after["poll_id"]], self._clock(), after)
            _note_change(transaction, actor, found, after)
            return after

        return await self._database.transaction(work)


def _read(transaction: Transaction, session_id: int) -> SessionDocument:
    found = transaction.find_one("sessions", {"_id": session_id})
    return cast(SessionDocument, require(found, "poll session"))


def subject_of(session: SessionDocument) -> Subject:
    return {
        "poll_id": session["poll_id"],
        "session_id": session["_id"],
        "course_id": session["course_id"],
    }


def _note_change(
    transaction: Transaction, actor: Actor | None, before: SessionDocument, after: SessionDocument
) -> None:
    """Writes an entry, unless nothing changed."""
    subject = subject_of(after)
    if after["is_published"] != before["is_published"]:
        action = Action.SESSION_OPENED if after["is_published"] else Action.SESSION_CLOSED
        note(transaction, actor, action, **subject)
    elif changed := [name for name, value in after.items() if value != before.get(name)]:
        subject["changed"] = changed
        note(transaction, actor, Action.SESSION_CHANGED, **subject)


def _require_room(transaction: Transaction, poll_id: str, more: int) -> None:
    """The container was changed before: sessions of a poll are made one after the other."""
    found = transaction.find("sessions", {"poll_id": poll_id}, {"_id": 1})
    with found.skip(MAX_SESSIONS - more).limit(1) as last:
        if list(last):
            raise LimitReached(f"A poll may have at most {MAX_SESSIONS:,} sessions.")


def _over(now: datetime) -> dict[str, Any]:
    """The query of ``documents.is_over``."""
    return {"rules.closes_at": {"$lte": now}, "rules.has_ended": {"$ne": True}}


def _reached(reach: Reach) -> dict[str, Any]:
    whole = [course for course, sections in reach.items() if sections is None]
    parts: list[dict[str, Any]] = [{"course_id": {"$in": whole}}] if whole else []
    parts += [
        {"course_id": course, "course_section_id": {"$in": list(sections)}}
        for course, sections in reach.items()
        if sections is not None
    ]
    return {"$or": parts}


def _in(courses: Collection[int] | None) -> dict[str, Any]:
    return {} if courses is None else {"course_id": {"$in": [None, *courses]}}


def _require_course(session: SessionDocument) -> None:
    if session["course_id"] is None:
        raise StandingSession
