"""Comparing the results of sessions with their ballots."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from storage.client import Database, Document, Transaction, round_trip

MAX_BALLOTS = 250_000
"""About how many ballots are counted as of one moment. MongoDB ends a transaction after a minute;
a ballot takes it 2 to 5 µs, or 30 if each has to be found on disk by itself."""
MAX_COUNTS = 20_000
"""How many counts, an option of a session each, are held in memory at once."""
SCAN_FROM = 8
"""If at least one in so many of all ballots is counted, all are read in the order in which they are
stored. The index leads to each by itself, which takes up to 25 times as long for each."""
SECONDS = 50.0
"""For one transaction and all its runs: nobody waits for a recount, but see above."""
DOCUMENTS_AT_A_TIME = 100
COUNTS_AT_A_TIME = 1_000

COUNTED: Document = {"counts_only": {"$ne": True}}
STATED = {"results": 1, "participants": 1, "rules.options": 1}


class Recount(NamedTuple):
    """One session: the results that it states, and what its ballots add up to."""

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
        """How many sessions there are to compare."""
        with round_trip():
            return int(await self._sessions.count_documents(COUNTED))

    async def run(self, *, fix: bool) -> AsyncIterator[Recount]:
        """Every session of the store by number, each with its ballots as of one moment.

        The server counts, and memory here does not grow with the store. With ``fix``, the results
        of a session that differs are corrected. Deleted sessions are skipped, whether or not their
        ballots are removed yet, and so are those whose counts alone are kept. Raises
        ``Unavailable``.
        """
        last = 0
        while some := await self._compare_next(last):
            last = some[-1].session_id
            for recount in some:
                if recount.agrees or not fix:
                    yield recount
                elif fixed := await self._fix(recount.session_id):
                    yield fixed

    async def _compare_next(self, last: int) -> list[Recount]:
        """As many of the sessions after ``last`` as one transaction can compare."""
        stored = await self._estimate()
        return await self._database.transaction(
            lambda transaction: self._compare(transaction, _find_next(transaction, last), stored),
            seconds=SECONDS,
        )

    async def _fix(self, session_id: int) -> Recount | None:
        """Counts again and stores the counts; None if the session was deleted."""
        stored = await self._estimate()
        query = {"_id": session_id}

        def work(transaction: Transaction) -> Recount | None:
            # Written before it is counted: concurrent votes conflict, and come after. Written last,
            # this would conflict with them, for as long as they come.
            transaction.update("sessions", query, {"$inc": {"casts": 1}})
            found = transaction.find_one("sessions", {**query, **COUNTED}, STATED)
            if found is None:
                return None
            [recount] = self._compare(transaction, [found], stored)
            if not recount.agrees:
                right = {"results": recount.counted, "participants": recount.ballots}
                transaction.update("sessions", query, {"$set": right})
            return recount

        return await self._database.transaction(work, seconds=SECONDS)

    async def _estimate(self) -> int:
        with round_trip():
            return await self._ballots.estimated_document_count()

    def _compare(
        self, transaction: Transaction, sessions: Sequence[Document], stored: int
    ) -> list[Recount]:
        """These sessions, given in order, with their ballots; about ``stored`` ballots exist."""
        recounts = {}
        for one in sessions:
            counted = dict.fromkeys(one["rules"]["options"], 0)
            stated = one["results"], one["participants"]
            recounts[one["_id"]] = Recount(one["_id"], *stated, counted, ballots=0)
        if not recounts:
            return []
        is_scan = SCAN_FROM * sum(one["participants"] for one in sessions) >= stored
        options: dict[str, Any] = {"hint": {"$natural": 1}} if is_scan else {}
        ids = {"$gte": sessions[0]["_id"], "$lte": sessions[-1]["_id"]}
        pipeline = [{"$match": {"session_id": ids}}, *COUNT]
        for row in transaction.aggregate(
            "ballots", pipeline, batchSize=COUNTS_AT_A_TIME, **options
        ):
            session_id, option_id = row["_id"]["session"], row["_id"].get("option")
            recount = recounts.get(session_id)
            if recount is None:
                continue  # it was deleted
            if option_id is not None:
                recount.counted[option_id] = row["votes"]
            recounts[session_id] = recount._replace(ballots=recount.ballots + row["ballots"])
        return list(recounts.values())


def _find_next(transaction: Transaction, last: int) -> list[Document]:
    some: list[Document] = []
    counts = ballots = 0
    query = {"_id": {"$gt": last}, **COUNTED}
    found = transaction.find("sessions", query, STATED, batch_size=DOCUMENTS_AT_A_TIME)
    with found.sort("_id", 1).limit(MAX_COUNTS) as cursor:
        for one in cursor:
            counts += 1 + len(one["rules"]["options"])
            ballots += one["participants"]
            if some and (counts > MAX_COUNTS or ballots > MAX_BALLOTS):
                break
            some.append(one)
    return some


COUNT: list[Document] = [
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
"""For each session and option its votes, and the ballots that name it before other options."""
