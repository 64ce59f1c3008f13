"""Casting: every vote of a batch in one transaction, each decided by ``voting``."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

from storage import voting
from storage.batching import Batcher, Reader
from storage.client import (
    OUTCOME_UNKNOWN,
    BlockingSession,
    BulkWriteError,
    Database,
    DeleteOne,
    ReplaceOne,
    RunAgain,
    TooManyConflicts,
    UpdateOne,
    round_trip,
)
from storage.documents import BallotDocument, SessionDocument
from storage.errors import NotFound, StorageError, Unavailable
from storage.meters import batch_meter
from storage.pages import Page, Window, page_of
from storage.voting import Cast, Vote, decide

MAX_CONFLICTS = 3
"""After so many, each session's votes run alone: a busy one must not hold the others."""
MAX_BATCH = 500


class Ballots:
    """``secret`` keys the hashes of voters and of their Idempotency-Keys."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._secret = secret
        self._ballots = database.collection("ballots")
        self._blocking_sessions = database.blocking_collection("sessions")
        self._blocking_ballots = database.blocking_collection("ballots")
        self._casts = Batcher(
            self._cast_all,
            max_size=MAX_BATCH,
            meter=batch_meter("casts"),
            unanswered=OUTCOME_UNKNOWN,
        )
        self._reader: Reader[str, BallotDocument] = Reader(self._ballots)

    def id_of(self, session_id: int, user_id: int) -> str:
        """The ``_id`` of the ballot that this user has, or would have, in a session."""
        return voting.ballot_id(self._secret, session_id, user_id)

    def vote_key(self, key: str, fingerprint: str) -> voting.VoteKey:
        """An Idempotency-Key and the request it came with, as they are stored on a ballot."""
        return voting.vote_key(self._secret, key, fingerprint)

    async def cast(self, vote: Vote) -> Cast:
        """Casts, changes or withdraws one vote; the answer is on the disk before it is given.

        Raises ``NotFound`` where there is no such session, ``Unavailable``, and what
        ``voting.decide`` raises; nothing is stored then.
        """
        return await self._casts.submit(vote)

    async def find(self, ballot_id: str) -> BallotDocument | None:
        """The ballot of a voter in a session, if there is one."""
        return await self._reader.get(ballot_id)

    async def find_all(self, ballot_ids: Iterable[str]) -> dict[str, BallotDocument]:
        """Those of the ballots that are there, by ``_id``."""
        return await self._reader.get_all(ballot_ids)

    async def get(self, session_id: int, number: int) -> BallotDocument:
        """A ballot by its number; raises ``NotFound``."""
        with round_trip():
            found = await self._ballots.find_one({"session_id": session_id, "number": number})
        if found is None:
            raise NotFound("There is no such poll submission.")
        return cast(BallotDocument, found)

    async def of_session(self, session_id: int, window: Window) -> Page[BallotDocument]:
        """The ballots of a session in the order of their random numbers, their bookmarks."""
        query: dict[str, Any] = {"session_id": session_id}
        if window.after is not None:
            query["number"] = {"$gt": window.after}
        with round_trip():
            cursor = self._ballots.find(query).sort("number", 1)
            found = await cursor.skip(window.skip).limit(window.limit + 1).to_list(None)
        return page_of(cast(list[BallotDocument], found), window, lambda one: one["number"])

    async def drain(self) -> None:
        await self._casts.drain()

    async def _cast_all(self, votes: Sequence[Vote]) -> Sequence[Cast | StorageError]:
        session_ids = sorted({vote.session_id for vote in votes})
        if len(session_ids) == 1:
            return await self._transaction(votes)
        try:
            return await self._transaction(votes, max_conflicts=MAX_CONFLICTS)
        except TooManyConflicts:
            outcomes: dict[int, Cast | StorageError] = {}
            for session_id in session_ids:
                places = [n for n, vote in enumerate(votes) if vote.session_id == session_id]
                outcomes.update(zip(places, await self._alone(votes, places), strict=True))
            return [outcomes[place] for place in range(len(votes))]

    async def _alone(
        self, votes: Sequence[Vote], places: Sequence[int]
    ) -> Sequence[Cast | StorageError]:
        try:
            return await self._transaction([votes[place] for place in places])
        except Unavailable as error:
            return [error] * len(places)

    async def _transaction(
        self, votes: Sequence[Vote], *, max_conflicts: int | None = None
    ) -> Sequence[Cast | StorageError]:
        def work(session: BlockingSession) -> Sequence[Cast | StorageError]:
            tally = self._read(session, votes)
            outcomes = [tally.take(vote) for vote in votes]
            if all(isinstance(outcome, StorageError) for outcome in outcomes):
                raise _AllRefused(outcomes)
            self._write(session, tally)
            return outcomes

        try:
            return await self._database.transaction_at_once(work, max_conflicts=max_conflicts)
        except _AllRefused as refused:
            return refused.outcomes

    def _read(self, session: BlockingSession, votes: Sequence[Vote]) -> "_Tally":
        session_ids = sorted({vote.session_id for vote in votes})
        ballot_ids = list({vote.ballot_id for vote in votes})
        # Batches have room for one more, or a full one would be asked for what comes after it.
        sessions = self._blocking_sessions.find(
            {"_id": {"$in": session_ids}}, session=session, batch_size=len(session_ids) + 1
        )
        ballots = self._blocking_ballots.find(
            {"_id": {"$in": ballot_ids}}, session=session, batch_size=len(ballot_ids) + 1
        )
        return _Tally(
            {one["_id"]: cast(SessionDocument, one) for one in sessions},
            {one["_id"]: cast(BallotDocument, one) for one in ballots},
        )

    def _write(self, session: BlockingSession, tally: "_Tally") -> None:
        """The sessions first: who closes one of them meanwhile conflicts before much is written."""
        updates = tally.session_updates()
        if updates:
            self._blocking_sessions.bulk_write(updates, session=session)
        inserts, others = tally.ballot_writes()
        try:
            if inserts:
                self._blocking_ballots.insert_many(inserts, session=session)
            if others:
                self._blocking_ballots.bulk_write(others, session=session)
        except BulkWriteError as error:
            # Somebody cast the same ballot since we read: read again, and decide again.
            raise RunAgain from error


class _AllRefused(Exception):
    """Nothing is to be stored, so there is nothing to commit."""

    def __init__(self, outcomes: Sequence[Cast | StorageError]) -> None:
        super().__init__()
        self.outcomes = outcomes


class _Tally:
    """The sessions and ballots of one batch, before and after its votes."""

    def __init__(
        self, sessions: dict[int, SessionDocument], ballots: dict[str, BallotDocument]
    ) -> None:
        self._sessions_before = sessions
        self._ballots_before = ballots
        self._sessions = dict(sessions)
        self._ballots: dict[str, BallotDocument | None] = dict(ballots)
        self._changes: Counter[int] = Counter()
        self._touched: set[str] = set()

    def take(self, vote: Vote) -> Cast | StorageError:
        """Decides one vote on what the votes before it have left."""
        session = self._sessions.get(vote.session_id)
        if session is None:
            return NotFound("There is no such poll session.")
        try:
            decision = decide(session, self._ballots.get(vote.ballot_id), vote)
        except StorageError as refusal:
            return refusal
        if decision.is_change:
            self._sessions[vote.session_id] = decision.session
            self._ballots[vote.ballot_id] = decision.stored
            self._changes[vote.session_id] += 1
            self._touched.add(vote.ballot_id)
        return decision.cast

    def session_updates(self) -> list[UpdateOne]:
        """Each really changes its session, by ``casts``, also where the counts cancel out.

        Otherwise two revotes that cross would not conflict with a close, and could commit after it.
        """
        updates = []
        for session_id, changes in self._changes.items():
            before, after = self._sessions_before[session_id], self._sessions[session_id]
            steps = {
                f"results.{option_id}": votes - before["results"][option_id]
                for option_id, votes in after["results"].items()
            }
            steps["participants"] = after["participants"] - before["participants"]
            increments = {path: step for path, step in steps.items() if step}
            update = {"$inc": {**increments, "casts": changes}}
            updates.append(UpdateOne({"_id": session_id}, update))
        return updates

    def ballot_writes(
        self,
    ) -> tuple[list[dict[str, Any]], list[ReplaceOne[dict[str, Any]] | DeleteOne]]:
        """The new ballots, and what becomes of those that were there."""
        inserts: list[dict[str, Any]] = []
        others: list[ReplaceOne[dict[str, Any]] | DeleteOne] = []
        for ballot_id in self._touched:
            ballot = self._ballots[ballot_id]
            if ballot_id not in self._ballots_before:
                if ballot is not None:
                    inserts.append(dict(ballot))
            elif ballot is None:
                others.append(DeleteOne({"_id": ballot_id}))
            else:
                others.append(ReplaceOne({"_id": ballot_id}, dict(ballot)))
        return inserts, others
