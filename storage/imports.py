"""Polls that are moved here from another store or system, with their sessions and ballots.

Each line of an import is one transaction, and importing it again changes nothing: what is there
already must be what the line says. Ids and numbers that are given are kept.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from storage.audit import Action, Actor, Subject, note
from storage.client import Database, Transaction
from storage.courses import order
from storage.documents import (
    USERS,
    BallotDocument,
    ContainerKey,
    LocatedPoll,
    PollDocument,
    SessionDocument,
    UserId,
    day_of,
    has_passed,
    is_open,
    new_session,
    poll_in,
)
from storage.errors import LimitReached, require
from storage.import_checks import (
    NOT_KEPT,
    require_choices,
    require_distinct,
    require_same_ballots,
    require_same_counts,
    require_same_poll,
    require_same_session,
)
from storage.import_lines import (
    Imported,
    ImportedBallot,
    ImportedPoll,
    ImportedSession,
    LineRefused,
    Taken,
    UnknownChoice,
)
from storage.polls import append, claim, claim_given, new_poll, touch
from storage.sessions import MAX_SESSIONS
from storage.voting import MAX_BALLOT_NUMBER

WHERE_SESSIONS_ARE = {
    "sessions": "another session",
    "deleted_sessions": "a session of a deleted poll, which can be restored",
    "purges": "a deleted session, whose votes are not removed yet",
}
"""What has the number of a session, by collection."""
UNKNOWN_VOTERS = (
    "has voters that are not known under this POLLS_SECRET: only a closed session can be imported"
)


class _Unchanged(Exception):
    """All is there already, so there is nothing to commit."""

    def __init__(self, imported: Imported) -> None:
        super().__init__()
        self.imported = imported


class Imports:
    """``ballot_id`` is that of ``Ballots.id_of``; ``clock`` says what time it is.

    ``voter_key`` tells the exports of stores with the same secret from others.
    """

    def __init__(
        self,
        database: Database,
        ballot_id: Callable[[int, UserId], str],
        key: bytes,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._ballot_id = ballot_id
        self.voter_key = key.hex()[:32]
        self._clock = clock

    async def add_poll(self, poll: ImportedPoll, actor: Actor) -> Imported:
        """Stores a poll with its sessions and ballots; one that names no owner is the actor's.

        Raises ``LineRefused``, ``IdTaken`` and ``LimitReached``.
        """
        now = self._clock()

        def work(transaction: Transaction) -> Imported:
            _skip_numbers(transaction, "polls", [poll.number])
            _skip_numbers(transaction, "sessions", [one.number for one in poll.sessions])
            found = _find(transaction, poll)
            if found is not None:
                require_same_poll(found, poll, _expected(found.poll, poll))
                self._require_same_sessions(transaction, found.poll, poll.sessions, "sessions")
                raise _Unchanged(_imported(found.poll, is_new=False))
            number = _take_number(transaction, poll.number)
            is_content = poll.key is not None
            owner = actor.user_id if poll.owner_id is None else poll.owner_id
            key = poll.key or ContainerKey(USERS, str(owner), str(number))
            wanted = [*poll.sessions]
            standing: int | None = None
            if is_content:
                if all(one.course_id is not None for one in wanted):
                    wanted.append(ImportedSession())
                place = [one.course_id for one in wanted].index(None)
                standing = wanted[place].number or transaction.next_number("sessions")
                wanted[place] = wanted[place]._replace(number=standing)
            document = new_poll(
                poll.definition,
                number,
                owner,
                poll.created_at or now,
                standing_session=standing,
            )
            located = LocatedPoll(key, document)
            made = self._new_sessions(transaction, located, wanted, poll.voter_key, now)
            by_number = {one["_id"]: one for one in made}
            append(transaction, located, by_number.get(standing or 0), now)
            note(transaction, actor, Action.POLL_IMPORTED, poll_id=document["id"])
            return _imported(document, is_new=True)

        return await self._run(work)

    async def add_sessions(
        self,
        poll_id: str,
        sessions: Sequence[ImportedSession],
        voter_key: str | None,
        actor: Actor,
    ) -> Imported:
        """Stores more sessions of a poll; raises ``NotFound`` and like ``add_poll``."""
        now = self._clock()

        def work(transaction: Transaction) -> Imported:
            _skip_numbers(transaction, "sessions", [one.number for one in sessions])
            located = _require_poll(transaction, poll_id)
            numbers = [one.number for one in sessions]
            query = {"_id": {"$in": numbers}, "poll_id": poll_id}
            if transaction.find_one("sessions", query, {"_id": 1}) or not sessions:
                self._require_same_sessions(transaction, located.poll, sessions, "sessions")
                raise _Unchanged(_imported(located.poll, is_new=False))
            located = LocatedPoll(located.key, touch(transaction, located))
            _require_room(transaction, poll_id, len(sessions))
            self._new_sessions(transaction, located, sessions, voter_key, now)
            note(transaction, actor, Action.POLL_IMPORTED, poll_id=poll_id)
            return _imported(located.poll, is_new=True)

        return await self._run(work)

    async def add_ballots(
        self,
        poll_id: str,
        session_id: int | None,
        ballots: Sequence[ImportedBallot],
        voter_key: str | None,
        actor: Actor,
    ) -> Imported:
        """Stores ballots of a session that an import has announced.

        Without ``session_id`` it is the standing session. All or none of them are there already.
        Raises like ``add_sessions``.
        """
        now = self._clock()

        def work(transaction: Transaction) -> Imported:
            poll = _require_poll(transaction, poll_id).poll
            number = session_id if session_id is not None else poll["standing_session"]
            query = {"_id": number, "poll_id": poll_id}
            found = cast(SessionDocument | None, transaction.find_one("sessions", query))
            session = require(found, "poll session")
            new = self._documents(session, ballots, now)
            if session.get("counts_only"):
                raise Taken("ballots", NOT_KEPT)
            stored = _find_ballots(transaction, [one["_id"] for one in new])
            if stored or not ballots:
                require_same_ballots(new, stored, "ballots")
                raise _Unchanged(_imported(poll, is_new=False))
            self._require_voters(session, ballots, voter_key, "ballots")
            if len(new) > session.get("awaited", 0):
                raise LineRefused(
                    "ballots", "are more votes than participants of the session announced"
                )
            require_choices(session, new, "ballots")
            _require_numbers(transaction, session, new, "ballots")
            counted = _counted(session["results"], new)
            steps = {
                f"results.{option}": counted[option] - votes
                for option, votes in session["results"].items()
                if counted[option] != votes
            }
            # The session first: if votes are cast in it, this conflicts before much is written.
            update: dict[str, Any] = {
                "$inc": {**steps, "participants": len(new), "casts": 1, "awaited": -len(new)}
            }
            if self._is_foreign(ballots, voter_key):
                update["$set"] = {"is_final": True, "is_published": False}
            if len(new) == session["awaited"]:
                del update["$inc"]["awaited"]
                update["$unset"] = {"awaited": ""}
            transaction.update("sessions", {"_id": number}, update)
            transaction.insert_numbered("ballots", [dict(one) for one in new])
            about = Subject(poll_id=poll_id, session_id=session["_id"])
            note(transaction, actor, Action.POLL_IMPORTED, **about)
            return _imported(poll, is_new=True)

        return await self._run(work)

    async def _run(self, work: Callable[[Transaction], Imported]) -> Imported:
        try:
            return await self._database.transaction(work)
        except _Unchanged as unchanged:
            return unchanged.imported

    # Sessions ------------------------------------------------------------------------------------

    def _new_sessions(
        self,
        transaction: Transaction,
        located: LocatedPoll,
        wanted: Sequence[ImportedSession],
        voter_key: str | None,
        now: datetime,
    ) -> list[SessionDocument]:
        """Stores sessions that are not there, with their ballots and what these add up to."""
        _require_free(transaction, wanted)
        order(transaction, {one.course_id for one in wanted if one.course_id is not None})
        sessions: list[SessionDocument] = []
        ballots: list[BallotDocument] = []
        for place, one in enumerate(wanted):
            session = _new_session(located, one, now)
            path = f"sessions[{place}].ballots"
            self._require_voters(session, one.ballots, voter_key, path)
            if one.is_final or self._is_foreign(one.ballots, voter_key):
                session |= {"is_final": True, "is_published": False}
            new = self._documents(session, one.ballots, now)
            require_distinct(new, path)
            require_choices(session, new, path)
            session["results"] = _counted(session["results"], new)
            session["participants"] = len(new)
            awaited = (one.participants or 0) - len(new)
            if one.counts is not None:
                _state(session, one.counts, awaited, f"sessions[{place}]")
            elif awaited > 0:
                session["awaited"] = awaited
            sessions.append(session)
            ballots += new
        transaction.insert_numbered("sessions", [dict(one) for one in sessions])
        transaction.insert_numbered("ballots", [dict(one) for one in ballots])
        return sessions

    def _require_same_sessions(
        self,
        transaction: Transaction,
        poll: PollDocument,
        wanted: Sequence[ImportedSession],
        path: str,
    ) -> None:
        """Raises ``Taken`` unless these sessions and their ballots are stored as they are given.

        Votes that were cast since do not matter, nor that the end date has passed.
        """
        numbers = [one.number or poll["standing_session"] for one in wanted]
        found = transaction.find("sessions", {"_id": {"$in": numbers}, "poll_id": poll["id"]})
        sessions = {one["_id"]: cast(SessionDocument, one) for one in found}
        for place, (number, one) in enumerate(zip(numbers, wanted, strict=True)):
            at = f"{path}[{place}]"
            session = sessions.get(cast(int, number))
            if session is None:
                raise Taken(f"{at}.id", "is not that of a session of the stored poll")
            require_same_session(session, one, at)
            new = self._documents(session, one.ballots, session["created_at"])
            if session.get("counts_only"):
                require_same_counts(session, new, f"{at}.ballots")
                continue
            stored = _find_ballots(transaction, [ballot["_id"] for ballot in new])
            require_same_ballots(new, stored, f"{at}.ballots")

    # Ballots -------------------------------------------------------------------------------------

    def _documents(
        self, session: SessionDocument, ballots: Sequence[ImportedBallot], now: datetime
    ) -> list[BallotDocument]:
        is_named = session["rules"]["settings"]["saveParticipantNames"]
        return [self._document(session["_id"], one, now, is_named=is_named) for one in ballots]

    def _document(
        self, session_id: int, ballot: ImportedBallot, now: datetime, *, is_named: bool
    ) -> BallotDocument:
        """The user is stored only where names are saved, as of a vote that is cast here."""
        if ballot.user_id is not None:
            ballot_id = self._ballot_id(session_id, ballot.user_id)
        else:
            ballot_id = f"{session_id}:{ballot.voter}"
        user_id = ballot.user_id if is_named else None
        created_at = ballot.created_at or now
        updated_at = ballot.updated_at or created_at
        return {
            "_id": ballot_id,
            "session_id": session_id,
            "number": ballot.number or 1 + secrets.randbelow(MAX_BALLOT_NUMBER),
            "choices": ballot.choices,
            "comment": ballot.comment,
            "user_id": user_id,
            "requests": [],
            "created_at": created_at if user_id is not None else day_of(created_at),
            "updated_at": updated_at if user_id is not None else day_of(updated_at),
        }

    def _is_foreign(self, ballots: Iterable[ImportedBallot], voter_key: str | None) -> bool:
        """Whether it is not known here which users have cast these."""
        return voter_key != self.voter_key and any(one.voter is not None for one in ballots)

    def _require_voters(
        self,
        session: SessionDocument,
        ballots: Iterable[ImportedBallot],
        voter_key: str | None,
        path: str,
    ) -> None:
        """Voters that are not known could vote again, so their session must be closed for ever."""
        if self._is_foreign(ballots, voter_key) and is_open(session):
            raise LineRefused(path, UNKNOWN_VOTERS)


def _skip_numbers(transaction: Transaction, sequence: str, numbers: Iterable[int | None]) -> None:
    """So that nothing that is made from now on gets one of the given numbers."""
    if last := max((number for number in numbers if number is not None), default=0):
        transaction.skip_numbers(sequence, last)


def _imported(poll: PollDocument, *, is_new: bool) -> Imported:
    return Imported(poll["id"], poll["number"], is_new)


def _find(transaction: Transaction, poll: ImportedPoll) -> LocatedPoll | None:
    """The stored poll of the given id or number; raises ``Taken`` if these are of two polls."""
    poll_id = poll.definition.get("id")
    named: list[dict[str, Any]] = []
    if poll_id is not None:
        named.append({"_id": poll_id})
    if poll.number is not None:
        named.append({"number": poll.number})
    found = [*transaction.find("addresses", {"$or": named})]
    if any(poll_id not in (None, one["_id"]) for one in found):
        raise Taken("number", "is that of another poll")
    return _located(transaction, found[0]) if found else None


def _expected(stored: PollDocument, poll: ImportedPoll) -> PollDocument:
    """What the line makes of the stored poll."""
    return new_poll(
        poll.definition,
        stored["number"],
        stored["owner_id"],
        stored["created_at"],
        standing_session=stored["standing_session"],
    )


def _require_poll(transaction: Transaction, poll_id: str) -> LocatedPoll:
    return _located(
        transaction, require(transaction.find_one("addresses", {"_id": poll_id}), "poll")
    )


def _located(transaction: Transaction, address: Mapping[str, Any]) -> LocatedPoll:
    container = require(
        transaction.find_one("containers", {"_id": address["container"]}), "container"
    )
    key = ContainerKey.of(address["container"])
    return LocatedPoll(key, poll_in(container["polls"], address["_id"]))


def _take_number(transaction: Transaction, given: int | None) -> int:
    if given is None:
        number = transaction.next_number("polls")
        claim(transaction, [number])
        return number
    if transaction.find_one("deleted_polls", {"_id": given}, {"_id": 1}) is not None:
        raise Taken("number", "is that of a deleted poll, which can be restored")
    claim_given(transaction, given)
    return given


def _new_session(located: LocatedPoll, one: ImportedSession, now: datetime) -> SessionDocument:
    is_standing = one.course_id is None
    session = new_session(
        cast(int, one.number),
        located,
        one.created_at or (located.poll["created_at"] if is_standing else now),
        course_id=one.course_id,
        course_section_id=one.course_section_id,
        is_published=is_standing if one.is_published is None else one.is_published,
        has_public_results=one.has_public_results,
    )
    if one.has_ended or has_passed(located.poll["closes_at"], now):
        session["rules"]["has_ended"] = True
    if one.closed_at is not None and not is_open(session):
        session["closed_at"] = one.closed_at
    return session


def _state(
    session: SessionDocument, counts: Mapping[str, int], participants: int, path: str
) -> None:
    """The counts of a session as they are given, since there are no ballots to count."""
    if not counts.keys() <= session["results"].keys():
        raise UnknownChoice(f"{path}.results", "must be of options of the poll")
    session["results"] |= counts
    session["participants"] = participants
    session["counts_only"] = True


def _require_room(transaction: Transaction, poll_id: str, more: int) -> None:
    there = sum(1 for _ in transaction.find("sessions", {"poll_id": poll_id}, {"_id": 1}))
    if there + more > MAX_SESSIONS:
        raise LimitReached(f"A poll may have at most {MAX_SESSIONS:,} sessions.")


def _require_free(transaction: Transaction, wanted: Sequence[ImportedSession]) -> None:
    """Raises ``Taken`` where a number is that of another session, or of a deleted one.

    The ballots of a deleted session are removed later, by its number.
    """
    numbers = [one.number for one in wanted]
    for name, whose in WHERE_SESSIONS_ARE.items():
        found = transaction.find_one(name, {"_id": {"$in": numbers}}, {"_id": 1})
        if found is not None:
            place = numbers.index(found["_id"])
            raise Taken(f"sessions[{place}].id", f"is that of {whose}")


def _find_ballots(transaction: Transaction, ids: Collection[str]) -> dict[str, BallotDocument]:
    found = transaction.find("ballots", {"_id": {"$in": [*ids]}}, {"requests": 0})
    return {one["_id"]: cast(BallotDocument, one) for one in found}


def _require_numbers(
    transaction: Transaction, session: SessionDocument, ballots: Sequence[BallotDocument], path: str
) -> None:
    require_distinct(ballots, path)
    numbers = [one["number"] for one in ballots]
    query = {"session_id": session["_id"], "number": {"$in": numbers}}
    found = transaction.find_one("ballots", query, {"number": 1})
    if found is not None:
        raise Taken(f"{path}[{numbers.index(found['number'])}].id", "is that of another vote")


def _counted(before: Mapping[str, int], ballots: Iterable[BallotDocument]) -> dict[str, int]:
    results = dict(before)
    for ballot in ballots:
        for option_id in ballot["choices"]:
            results[option_id] += 1
    return results
