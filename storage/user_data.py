"""The votes of one user, in whatever session of the store."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, cast

from storage.client import Database, Document, round_trip, snapshot_of
from storage.documents import BallotDocument, SessionDocument, UserId

SESSIONS_AT_A_TIME = 1_000
SESSIONS, DELETED, PURGED = "sessions", "deleted_sessions", "purges"
"""Where the number of a session with ballots is: exactly one of these at any moment, but for those
whose ballots are being removed."""


class HeldVote(NamedTuple):
    """A ballot, and the session that it was cast in."""

    session: SessionDocument
    ballot: BallotDocument


class UserData:
    """``ballot_id`` is that of ``Ballots.id_of``."""

    def __init__(self, database: Database, ballot_id: Callable[[int, UserId], str]) -> None:
        self._database = database
        self._ballot_id = ballot_id

    async def votes(self, user_id: UserId) -> AsyncIterator[Sequence[HeldVote]]:
        """All votes of a user, with and without a name, by session; some sessions at a time.

        A batch may be empty. The ballots come without their
        ``requests``.
        """
        after = 0
        while numbers := await next_sessions(self._database, after):
            after = numbers[-1]
            yield await self._votes_in(numbers, user_id)

    async def _votes_in(self, numbers: Sequence[int], user_id: UserId) -> Sequence[HeldVote]:
        ids = [self._ballot_id(number, user_id) for number in numbers]
        with round_trip():
            cursor = self._database.collection("ballots").find(
                {"_id": {"$in": ids}}, {"requests": 0}, batch_size=len(ids) + 1
            )
            ballots = {one["session_id"]: one for one in await cursor.to_list(None)}
        if not ballots:
            return []
        these: list[Document] = [{"$match": {"_id": {"$in": [*ballots]}}}]
        pipeline = [*these, {"$unionWith": {"coll": DELETED, "pipeline": these}}]
        with round_trip():
            found = snapshot_of(self._database.collection(SESSIONS)).aggregate(
                pipeline, batchSize=len(ids) + 1
            )
            sessions = {one["_id"]: one for one in await found.to_list(None)}
        return [
            HeldVote(cast(SessionDocument, sessions[number]), cast(BallotDocument, ballots[number]))
            for number in sorted(ballots.keys() & sessions.keys())
            if not sessions[number].get("counts_only", False)  # they are about to be removed
        ]


async def next_sessions(database: Database, after: int) -> list[int]:
    """The numbers of the next sessions that have, or may still have, ballots; none at the end.

    As of one moment: a session that is being deleted or restored is left out of no list.
    """
    page: list[Document] = [
        {"$match": {"_id": {"$gt": after}}},
        {"$sort": {"_id": 1}},
        {"$limit": SESSIONS_AT_A_TIME},
        {"$project": {"poll_id": 1}},
    ]
    others = [{"$unionWith": {"coll": name, "pipeline": page}} for name in (DELETED, PURGED)]
    pipeline = [*page, *others, {"$sort": {"_id": 1}}, {"$limit": SESSIONS_AT_A_TIME}]
    with round_trip():
        cursor = snapshot_of(database.collection(SESSIONS)).aggregate(
            pipeline, batchSize=SESSIONS_AT_A_TIME + 1
        )
        return sorted({one["_id"] for one in await cursor.to_list(None)})
