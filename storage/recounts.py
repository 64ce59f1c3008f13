"""Comparing the results of sessions with their ballots."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from storage.client import Database, Document, Session, round_trip

MAX_BALLOTS = 250_000
"""About how many ballots are counted as of one moment. MongoDB ends a transaction after a minute;
a ballot takes it 2 to 5 µs, or 30 where each has to be found on the disk by itself."""
MAX_COUNTS = 20_000
"""How many counts, an option of a session each, are held in memory at once."""
SCAN_FROM = 8
"""One part in so many of all ballots is counted by reading them all, in the order in which they
are stored. The index leads to each by itself, which takes up to 25 times as long for each."""
SECONDS = 50.0
"""For one transaction and all its reruns: nobody waits for a recount, but see above."""
DOCUMENTS_AT_A_TIME = 100
COUNTS_AT_A_TIME = 1_000

SAID = {"results": 1, "participants": 1, "rules.options": 1}


class Recount(NamedTuple):
    """One session: what it says, and what its ballots say."""

    session_id: int
    results: dict[str, int]
    participants: int
    counted: dict[str, int]
    ballots: int

    @property
    def agrees(self) -> bool:
        return self.results == self.counted and self.participants == self.ballots


class Recounts:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions = database.collection("sessions")
        self._ballots = database.collection("ballots")

    async def total(self) -> int:
        """How many sessions there are."""
        with round_trip():
            return int(await self._sessions.count_documents({}))

    async def run(self, *, fix: bool) -> AsyncIterator[Recount]:
        """Every session of the store by number, each with its ballots as of one moment.

        The server counts, and memory here does not grow with the store. With ``fix`` a session
        that differs is made to say what its ballots do. Sessions that were deleted are passed over,
        whether or not their ballots are swept. Raises ``Unavailable``.
        """
        last = 0
        while some := await self._compare_next(last):
            last = some[-1].session_id
            for recount in some:
                if recount.agrees or not fix:
                    yield recount
                elif mended := await self._mend(recount.session_id):
                    yield mended

    async def _compare_next(self, last: int) -> list[Recount]:
        """As many of the sessions after ``last`` as one transaction can do."""

        async def work(session: Session) -> list[Recount]:
            return await self._compare(await self._find_next(last, session), session)

        return await self._database.transaction(work, seconds=SECONDS)

    async def _find_next(self, last: int, session: Session) -> list[Document]:
        some: list[Document] = []
        counts = ballots = 0
        query = {"_id": {"$gt": last}}
        cursor = self._sessions.find(query, SAID, session=session, batch_size=DOCUMENTS_AT_A_TIME)
        try:
            async for one in cursor.sort("_id", 1).limit(MAX_COUNTS):
                counts += 1 + len(one["rules"]["options"])
                ballots += one["participants"]
                if some and (counts > MAX_COUNTS or ballots > MAX_BALLOTS):
                    break
                some.append(one)
        finally:
            # The embedded server keeps a cursor whose transaction has ended.
            await cursor.close()
        return some

    async def _mend(self, session_id: int) -> Recount | None:
        """Counts again and stores what was counted; None where the session was deleted."""

        async def work(session: Session) -> Recount | None:
            # Written before it is counted: votes that are cast meanwhile conflict, and come after.
            # Written last, this would conflict with them, for as long as they come.
            found = await self._sessions.find_one_and_update(
                {"_id": session_id}, {"$inc": {"casts": 1}}, SAID, session=session
            )
            if found is None:
                return None
            [recount] = await self._compare([found], session)
            if not recount.agrees:
                right = {"results": recount.counted, "participants": recount.ballots}
                await self._sessions.update_one(
                    {"_id": session_id}, {"$set": right}, session=session
                )
            return recount

        return await self._database.transaction(work, seconds=SECONDS)

    async def _compare(self, sessions: Sequence[Document], session: Session) -> list[Recount]:
        """These sessions, which are in order, with their ballots as the transaction sees them."""
        recounts = {
            one["_id"]: Recount(
                one["_id"],
                one["results"],
                one["participants"],
                dict.fromkeys(one["rules"]["options"], 0),
                0,
            )
            for one in sessions
        }
        if not recounts:
            return []
        # An estimate, which no transaction gives.
        stored = await self._ballots.estimated_document_count()
        scan = SCAN_FROM * sum(one["participants"] for one in sessions) >= stored
        ids = {"$gte": sessions[0]["_id"], "$lte": sessions[-1]["_id"]}
        async for row in self._count({"session_id": ids}, session, scan=scan):
            session_id, option_id = row["_id"]["session"], row["_id"].get("option")
            recount = recounts.get(session_id)
            if recount is None:
                continue  # it was deleted
            if option_id is not None:
                recount.counted[option_id] = row["votes"]
            recounts[session_id] = recount._replace(ballots=recount.ballots + row["ballots"])
        return list(recounts.values())

    def _count(
        self, query: dict[str, Any], session: Session, *, scan: bool
    ) -> AsyncIterator[Document]:
        """For each session and option its votes, and the ballots that name it before others."""
        pipeline = [
            {"$match": query},
            {
                "$unwind": {
                    "path": "$choices",
                    "includeArrayIndex": "place",
                    "preserveNullAndEmptyArrays": True,
                }
            },
            {
                "$group": {
                    "_id": {"session": "$session_id", "option": "$choices"},
                    "votes": {"$sum": 1},
                    "ballots": {"$sum": {"$cond": [{"$gt": ["$place", 0]}, 0, 1]}},
                }
            },
        ]
        options: dict[str, Any] = {"hint": {"$natural": 1}} if scan else {}
        return self._ballots.aggregate(
            pipeline, session=session, batchSize=COUNTS_AT_A_TIME, **options
        )
