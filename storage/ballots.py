"""Casting: every vote of a batch in one transaction, each decided by ``voting``."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from storage import addresses, voting
from storage.batching import Batcher, Reader
from storage.client import (
    BulkWriteError,
    Database,
    DeleteOne,
    InsertOne,
    Proof,
    ReplaceOne,
    RunAgain,
    TooManyConflicts,
    Transaction,
    UpdateOne,
    Work,
    Write,
    round_trip,
)
from storage.documents import (
    BallotDocument,
    BallotRequest,
    ContainerKey,
    SessionDocument,
    Settings,
    UserId,
    ended,
    is_over,
    note_end,
    place_of,
    rights_state,
)
from storage.errors import NotFound, OutcomeUnknown, StorageError, Unavailable, require
from storage.idempotency import IdempotencyKey
from storage.known_sessions import KnownSessions, unchanged
from storage.metrics import batch_meters
from storage.pagination import Page, Window, read_page
from storage.turns import Turn
from storage.voting import Cast, RightsChanged, Vote, decide

MAX_CONFLICTS = 3
"""After so many, each session's votes run alone: a busy session must not delay the others."""
MAX_APART = 8
"""How many of these run at a time: other transactions need threads too."""
MAX_BATCH = 500
MAX_VOTERS = 1_000
"""Whose ballots are looked up in one round trip."""

T = TypeVar("T")
Outcomes = Sequence[Cast | StorageError]
"""One for each vote of a batch, in the order of the votes."""


class Ballots:
    """``secret`` keys the hashes of voters and of their Idempotency-Keys.

    ``clock`` says whether the end of a poll has passed, at each run of a batch. ``turn`` is that of
    this process among those of its machine.
    """

    def __init__(
        self, database: Database, secret: bytes, clock: Callable[[], datetime], turn: Turn
    ) -> None:
        self._database = database
        self._secret = secret
        self._clock = clock
        self._ballots = database.collection("ballots")
        self._casts = Batcher(
            self._cast_all,
            max_size=MAX_BATCH,
            meter=batch_meters["casts"],
            unanswered=OutcomeUnknown,
            ready=turn.take,
            done=turn.end,
        )
        self._reader: Reader[str, BallotDocument] = Reader(self._ballots)
        self._known = KnownSessions()
        self._end_turn = turn.end

    def id_of(self, session_id: int, user_id: UserId) -> str:
        """The ``_id`` of the ballot that this user has, or would have, in a session."""
        return voting.ballot_id(self._secret, session_id, user_id)

    def vote_key(self, ballot_id: str, key: IdempotencyKey) -> voting.VoteKey:
        """An Idempotency-Key and its request, as they are stored on this ballot."""
        return voting.vote_key(self._secret, ballot_id, key.key, key.fingerprint)

    def known_session(self, key: ContainerKey, poll_id: str) -> int | None:
        """The standing session of a poll as this process knows it: ``cast`` tells if it is gone."""
        return self._known.standing(key, poll_id)

    def known_settings(self, session_id: int) -> Settings | None:
        """Those of its poll, as they were when a batch with a vote in it last read the session."""
        session = self._known.get(session_id)
        return None if session is None else session["rules"]["settings"]

    async def cast(self, vote: Vote) -> Cast:
        """Casts, changes or withdraws one vote; it is on disk before this returns.

        Raises ``NotFound`` if there is no such session, ``RightsChanged`` if its ``rights_state``
        is not that of the vote, ``Unavailable``, and what ``voting.decide`` raises; nothing is
        stored then.
        """
        return await self._casts.submit(vote)

    async def find(self, session_id: int, user_id: UserId) -> BallotDocument | None:
        """The ballot of this user in a session, if there is one."""
        return await self._reader.get(self.id_of(session_id, user_id))

    async def find_all(
        self, session_ids: Iterable[int], user_id: UserId
    ) -> dict[int, BallotDocument]:
        """The ballots of this user in these sessions, by session; one round trip."""
        found = await self._reader.get_all(self.id_of(number, user_id) for number in session_ids)
        return {ballot["session_id"]: ballot for ballot in found.values()}

    async def of_voters(
        self, voters: Collection[tuple[int, UserId]]
    ) -> dict[tuple[int, UserId], BallotDocument]:
        """The ballots of these pairs of a session and a user, by pair: only whose they are."""
        wanted = {self.id_of(*voter): voter for voter in voters}
        ids = list(wanted)
        found: dict[tuple[int, UserId], BallotDocument] = {}
        for start in range(0, len(ids), MAX_VOTERS):
            query = {"_id": {"$in": ids[start : start + MAX_VOTERS]}}
            with round_trip():
                cursor = self._ballots.find(query, {"user_id": 1}, batch_size=MAX_VOTERS + 1)
                rows = await cursor.to_list(None)
            found.update((wanted[one["_id"]], cast(BallotDocument, one)) for one in rows)
        return found

    async def has_any(self, session_ids: Iterable[int], user_id: UserId) -> bool:
        """Whether this user has a ballot in any of these sessions."""
        ids = [self.id_of(number, user_id) for number in session_ids]
        with round_trip():
            return await self._ballots.find_one({"_id": {"$in": ids}}, {"_id": 1}) is not None

    async def get(self, session_id: int, number: int) -> BallotDocument:
        """A ballot by its number; raises ``NotFound``."""
        with round_trip():
            found = await self._ballots.find_one({"session_id": session_id, "number": number})
        return cast(BallotDocument, require(found, "poll submission"))

    async def of_session(self, session_id: int, window: Window) -> Page[BallotDocument]:
        """The ballots of a session by their random numbers, which are the bookmarks."""
        return await read_page(self._ballots, {"session_id": session_id}, window, "number")

    async def drain(self) -> None:
        """Returns when every vote that was cast has its outcome."""
        await self._casts.drain()

    async def _cast_all(self, votes: Sequence[Vote]) -> Outcomes:
        sessions = sorted({vote.session_id for vote in votes})
        if len(sessions) == 1:
            return await self._transaction(votes)
        try:
            return await self._transaction(votes, max_conflicts=MAX_CONFLICTS)
        except TooManyConflicts:
            return await self._cast_apart(votes, sessions)

    async def _cast_apart(self, votes: Sequence[Vote], sessions: Iterable[int]) -> Outcomes:
        """The votes of each session in a transaction of their own, some at a time."""
        outcomes: dict[int, Cast | StorageError] = {}
        room = asyncio.Semaphore(MAX_APART)

        async def cast_one(session_id: int) -> None:
            places = [n for n, vote in enumerate(votes) if vote.session_id == session_id]
            async with room:
                try:
                    some = await self._transaction([votes[place] for place in places])
                except Unavailable as error:
                    some = [error] * len(places)
            outcomes.update(zip(places, some, strict=True))

        async with asyncio.TaskGroup() as group:
            for session_id in sessions:
                group.create_task(cast_one(session_id))
        return [outcomes[place] for place in range(len(votes))]

    async def _transaction(
        self, votes: Sequence[Vote], *, max_conflicts: int | None = None
    ) -> Outcomes:
        outcomes = await self._cast_unread(votes, max_conflicts)
        return outcomes or await self._cast_read(votes, max_conflicts)

    async def _cast_unread(
        self, votes: Sequence[Vote], max_conflicts: int | None
    ) -> Outcomes | None:
        """Stores votes in three round trips if all are new ones in sessions that have not changed.

        Else nothing is stored, and the votes have to be decided on what is read: None.
        """
        sessions = self._known.find({vote.session_id for vote in votes})
        if sessions is None or any(_must_be_read(vote, sessions) for vote in votes):
            return None
        tally = _Tally(sessions, {}, {}, self._clock(), self._secret, query=unchanged)
        outcomes = [tally.take(vote) for vote in votes]
        if any(isinstance(outcome, StorageError) for outcome in outcomes):
            return None

        def work(transaction: Transaction) -> None:
            if any(is_over(session, self._clock()) for session in sessions.values()):
                raise _Outdated  # the end has passed since an earlier run
            try:
                self._write(transaction, tally)
            except RunAgain as error:
                raise _Outdated from error
            transaction.proof = tally.proof()

        try:
            await self._transact(work, max_conflicts)
        except _Outdated:
            self._known.note(sessions, is_success=False)
            return None
        self._known.note(sessions, is_success=True)
        return outcomes

    async def _cast_read(self, votes: Sequence[Vote], max_conflicts: int | None) -> Outcomes:
        """Decides votes on their sessions and ballots, which the same transaction reads."""

        def work(transaction: Transaction) -> Outcomes:
            tally = self._read(transaction, votes)
            outcomes = [tally.take(vote) for vote in votes]
            is_refused = all(isinstance(outcome, StorageError) for outcome in outcomes)
            if is_refused and not tally.ended:
                raise _AllRefused(outcomes)
            self._write(transaction, tally)
            return outcomes

        try:
            return await self._transact(work, max_conflicts)
        except _AllRefused as refused:
            return refused.outcomes

    async def _transact(self, work: Work[T], max_conflicts: int | None) -> T:
        return await self._database.transaction(
            work, max_conflicts=max_conflicts, committed=self._end_turn
        )

    def _read(self, transaction: Transaction, votes: Sequence[Vote]) -> "_Tally":
        def read(name: str, ids: list[Any]) -> dict[Any, Any]:
            # Room for one more, or a full batch would be followed by a request for the next.
            found = transaction.find(name, {"_id": {"$in": ids}}, batch_size=len(ids) + 1)
            return {one["_id"]: one for one in found}

        sessions = read("sessions", sorted({vote.session_id for vote in votes}))
        self._known.keep(sessions.values())
        ballots = read("ballots", list({vote.ballot_id for vote in votes}))
        missing = {
            vote.ballot_id
            for vote in votes
            if vote.ballot_id not in ballots
            and sessions.get(vote.session_id, {}).get("withdrawals")
        }
        withdrawn = read("idempotency", list(missing)) if missing else {}
        return _Tally(sessions, ballots, withdrawn, self._clock(), self._secret, query=_by_id)

    def _write(self, transaction: Transaction, tally: "_Tally") -> None:
        """The sessions first: if one is being closed, this conflicts before much is written.

        Raises ``RunAgain`` if a session or a ballot is not what the votes were decided on.
        """
        updates = tally.session_updates()
        if transaction.bulk_write("sessions", updates) < len(updates):
            raise RunAgain
        if tally.ended:
            polls = {one["poll_id"] for one in tally.ended.values()}
            addresses.note_ends(transaction, polls, tally.now)
        try:
            transaction.bulk_write("ballots", tally.ballot_writes())
        except BulkWriteError as error:
            # The same ballot was cast since it was read here, or it was not read.
            raise RunAgain from error
        transaction.bulk_write("idempotency", tally.withdrawal_writes())


def _must_be_read(vote: Vote, sessions: dict[int, SessionDocument]) -> bool:
    """Whether a vote cannot be decided without reading what its voter cast before.

    A withdrawal removes that: taken together with a new vote before it, it would write nothing that
    could conflict. Keys of a withdrawn vote cast nothing again, and a new ballot takes them over.
    """
    return vote.options is None or bool(sessions[vote.session_id].get("withdrawals"))


def _by_id(session: SessionDocument) -> dict[str, Any]:
    return {"_id": session["_id"]}


class _Outdated(Exception):
    """A session is not what it was when it was last read, or a ballot is there already.

    Or the end of a session has come.
    """


class _AllRefused(Exception):
    """Nothing is to be stored, so there is nothing to commit."""

    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__()
        self.outcomes = outcomes


class _Tally:
    """The sessions and ballots of one batch, before and after its votes.

    ``ended`` has the sessions that are over at ``now``. A refusal tells that they are closed, so
    this is noted along with it. ``query`` finds a session to be updated by what it was before.
    """

    def __init__(
        self,
        sessions: dict[int, SessionDocument],
        ballots: dict[str, BallotDocument],
        withdrawn: dict[str, dict[str, Any]],
        now: datetime,
        secret: bytes,
        *,
        query: Callable[[SessionDocument], dict[str, Any]],
    ) -> None:
        self._secret = secret
        self._query = query
        self.now = now
        over = {number: one for number, one in sessions.items() if is_over(one, now)}
        self.ended = {number: ended(one, now) for number, one in over.items()}
        self._sessions_before = sessions
        self._ballots_before = ballots
        self._sessions = {**sessions, **self.ended}
        self._ballots: dict[str, BallotDocument | None] = dict(ballots)
        self._changes: Counter[int] = Counter()
        self._touched: set[str] = set()
        self._withdrawn: dict[str, Sequence[BallotRequest]] = {
            ballot_id: record["requests"] for ballot_id, record in withdrawn.items()
        }

    def take(self, vote: Vote) -> Cast | StorageError:
        """Decides one vote on what the votes before it have left."""
        session = self._sessions.get(vote.session_id)
        if session is None or vote.place not in (None, place_of(session)):
            return NotFound("There is no such poll session.")
        if vote.rights_state is not None and vote.rights_state != rights_state(session):
            return RightsChanged("The right to vote in the session has to be checked again.")
        try:
            decision = decide(
                session,
                self._ballots.get(vote.ballot_id),
                vote,
                self._withdrawn.get(vote.ballot_id, ()),
                secret=self._secret,
            )
        except StorageError as refusal:
            return refusal
        if decision.is_change:
            self._sessions[vote.session_id] = decision.session
            self._ballots[vote.ballot_id] = decision.stored
            self._changes[vote.session_id] += 1
            self._touched.add(vote.ballot_id)
            if decision.stored is None:
                self._withdrawn[vote.ballot_id] = decision.withdrawn
        return decision.cast

    def session_updates(self) -> list[UpdateOne]:
        """Each really changes its session, by ``casts``, even if the counts cancel out.

        Otherwise two revotes that cross would not conflict with a close, and could commit after it.
        """
        updates = [UpdateOne({"_id": session_id}, note_end(self.now)) for session_id in self.ended]
        for session_id, changes in self._changes.items():
            before, after = self._sessions_before[session_id], self._sessions[session_id]
            update = {"$inc": {**voting.steps(before, after), "casts": changes}}
            updates.append(UpdateOne(self._query(before), update))
        return updates

    def proof(self) -> Proof | None:
        """Finds a new ballot once it is stored, since nobody else makes one of its number.

        None where votes can be withdrawn: then there may be none, although they were stored.
        """
        if any(one["rules"]["settings"]["allowRevote"] for one in self._sessions.values()):
            return None
        numbers = [ballot["number"] for ballot in self._ballots.values() if ballot is not None]
        return "ballots", {"_id": {"$in": list(self._ballots)}, "number": {"$in": numbers}}

    def ballot_writes(self) -> list[Write]:
        """The writes of each kind together: the driver sends a command for each series of them."""
        inserts, replacements, deletions = list[Write](), list[Write](), list[Write]()
        for ballot_id in self._touched:
            ballot = self._ballots[ballot_id]
            if ballot_id not in self._ballots_before:
                if ballot is not None:
                    inserts.append(InsertOne(dict(ballot)))
            elif ballot is None:
                deletions.append(DeleteOne({"_id": ballot_id}))
            else:
                replacements.append(ReplaceOne({"_id": ballot_id}, dict(ballot)))
        return [*inserts, *replacements, *deletions]

    def withdrawal_writes(self) -> list[Write]:
        """The keys of withdrawn ballots, which the database removes when they have expired."""
        return [
            ReplaceOne({"_id": ballot_id}, voting.remembered(ballot_id, requests), upsert=True)
            for ballot_id, requests in self._withdrawn.items()
            if ballot_id in self._touched and self._ballots[ballot_id] is None and requests
        ]
