"""Erasing users: a task that goes on after a kill, wherever that was.

Each step is one transaction, which also notes in the task how far it is. A process holds a task by
a lease, and each of its steps finds itself still the holder, so none is done twice. A task forgets
whom it erased when it is done.

First the user's enrollments and tokens go. What these still allow has ended when the rest begins.
Polls pass to ``SERVICE_USER``, then all sessions are looked through by number for ballots of the
user, then what is kept of requests goes.
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

from storage import audit, voting
from storage.audit import Action, Actor, note
from storage.background import repeat
from storage.client import (
    BulkWriteError,
    Database,
    DeleteOne,
    Document,
    ReplaceOne,
    RunAgain,
    Transaction,
    UpdateOne,
    Write,
    round_trip,
)
from storage.documents import (
    ERASED,
    BallotDocument,
    ErasureDocument,
    ErasureStep,
    SessionDocument,
    UserId,
    VotesMode,
)
from storage.errors import require
from storage.handovers import hand_over_some
from storage.user_data import DELETED, SESSIONS, next_sessions

LEASE_SECONDS = 30
LOOK_AGAIN_SECONDS = 5.0
SETTLE_SECONDS = 10.0
"""How long requests with a token that was removed may still change something: a token counts for
4 s after it was read, and a request takes 5 s at most."""
RECORDS_AT_A_TIME = 500
VOTES_AT_A_TIME = 50
SCAN_SECONDS = 60.0
"""For the look through all records of Idempotency-Keys, of which no index tells the user.

The lease is longer for it: two processes would overtake each other without end."""
COUNTED: Document = {"counts_only": {"$ne": True}}
"""Sessions whose results are those of their ballots."""
NEVER_LEASED = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step has done: how much of what, and what the task has to be set to."""

    counts: dict[str, int] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


class _LeaseLost(Exception):
    """Another process holds the task, or it is done."""


class Access(NamedTuple):
    """What ends the access of a user: each ends some of it, and returns how much.

    ``forget_tokens`` makes this process look tokens up again.
    """

    end_enrollments: Callable[[Transaction, UserId], int]
    remove_tokens: Callable[[Transaction, UserId], int]
    forget_tokens: Callable[[], None]


class Erasures:
    """``ready`` returns once the maker of every poll can be found."""

    def __init__(
        self,
        database: Database,
        secret: bytes,
        access: Access,
        ready: Callable[[], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._erasures = database.collection("erasures")
        self._secret = secret
        self._access = access
        self._ready = ready
        self._clock = clock
        self._noted = asyncio.Event()
        self._steps: dict[ErasureStep, Callable[[ErasureDocument], Awaitable[ErasureDocument]]] = {
            "access": self._end_access,
            "polls": self._hand_polls_over,
            "votes": self._erase_votes,
            "records": self._remove_records,
        }

    async def begin(
        self, user_id: UserId, votes: VotesMode, actor: Actor | None = None
    ) -> ErasureDocument:
        """A new task, or the one that does the same already."""
        now = self._clock()
        new: ErasureDocument = {
            "_id": str(uuid.uuid4()),
            "user_id": user_id,
            "votes": votes,
            "step": "access",
            "after": 0,
            "counts": dict.fromkeys(ERASED, 0),
            "created_at": now,
            "updated_at": now,
            "leased_until": NEVER_LEASED,
        }

        def work(transaction: Transaction) -> ErasureDocument:
            same = {"user_id": user_id, "votes": votes}
            found = transaction.find_one("erasures", same)
            if found is None:
                # Without this, two that begin at once would not conflict.
                transaction.put("meta", {"_id": "erasures", "begun": new["_id"]})
                transaction.insert("erasures", dict(new))
                note(transaction, actor, Action.USER_ERASED)
            return cast(ErasureDocument, found or new)

        begun = await self._database.transaction(work)
        self._noted.set()
        return begun

    async def get(self, erasure_id: str) -> ErasureDocument:
        """Raises ``NotFound``, also a day after its end."""
        with round_trip():
            found = await self._erasures.find_one({"_id": erasure_id})
        return cast(ErasureDocument, require(found, "erasure"))

    async def run(self) -> None:
        """Does the tasks of all processes; never returns."""
        await repeat(
            self.erase_one,
            self._noted,
            LOOK_AGAIN_SECONDS,
            "erasing a user failed, and is tried again",
        )

    async def erase_one(self) -> bool:
        """Does one task that no other process does; false if there is none."""
        holder = uuid.uuid4().hex
        now = self._clock()
        lease = {"leased_until": now + timedelta(seconds=LEASE_SECONDS), "holder": holder}
        with round_trip():
            found = await self._erasures.find_one_and_update(
                {"leased_until": {"$lte": now}}, {"$set": lease}
            )
        if found is None:
            return False
        task = cast(ErasureDocument, {**found, **lease})
        try:
            while task["step"] is not None:
                settles_at = task.get("settles_at")
                if task["step"] != "access" and settles_at and settles_at > self._clock():
                    await self._note(task, Progress(changes={"leased_until": settles_at}))
                    return True
                task = await self._steps[task["step"]](task)
        except _LeaseLost:
            pass
        return True

    async def _note(self, task: ErasureDocument, progress: Progress) -> ErasureDocument:
        """Notes progress that changes nothing else."""
        return await self._do(task, lambda *_: progress)

    async def _hold(self, task: ErasureDocument, seconds: float) -> None:
        """Holds the task for longer than a step takes otherwise."""
        held = {"_id": task["_id"], "holder": task.get("holder")}
        until = self._clock() + timedelta(seconds=seconds)
        with round_trip():
            done = await self._erasures.update_one(held, {"$set": {"leased_until": until}})
        if not done.matched_count:
            raise _LeaseLost

    async def _do(
        self, task: ErasureDocument, work: Callable[[Transaction, ErasureDocument], Progress]
    ) -> ErasureDocument:
        """The task after one step, unless another process holds it."""
        which = {"_id": task["_id"]}

        def step(transaction: Transaction) -> ErasureDocument:
            found = transaction.find_one("erasures", which)
            if found is None or found.get("holder") != task.get("holder"):
                raise _LeaseLost
            now = self._clock()
            progress = work(transaction, cast(ErasureDocument, found))
            kept = {"leased_until": now + timedelta(seconds=LEASE_SECONDS), "updated_at": now}
            counts = {name: found["counts"][name] + n for name, n in progress.counts.items()}
            after = {**found, **kept, **progress.changes, "counts": {**found["counts"], **counts}}
            if after["step"] is None:
                for name in ("user_id", "after", "settles_at", "holder", "leased_until"):
                    after.pop(name, None)
            transaction.put("erasures", after)
            return cast(ErasureDocument, after)

        return await self._database.transaction(step)

    async def _end_access(self, task: ErasureDocument) -> ErasureDocument:
        """Ends the enrollments in a course, or removes some tokens."""

        def work(transaction: Transaction, found: ErasureDocument) -> Progress:
            if ended := self._access.end_enrollments(transaction, found["user_id"]):
                return Progress({"enrollments": ended})
            if removed := self._access.remove_tokens(transaction, found["user_id"]):
                settles_at = self._clock() + timedelta(seconds=SETTLE_SECONDS)
                return Progress({"tokens": removed}, {"settles_at": settles_at})
            return Progress(changes={"step": "polls"})

        after = await self._do(task, work)
        self._access.forget_tokens()
        return after

    async def _hand_polls_over(self, task: ErasureDocument) -> ErasureDocument:
        await self._ready()

        def work(transaction: Transaction, found: ErasureDocument) -> Progress:
            if handed := hand_over_some(transaction, found["user_id"], self._clock()):
                return Progress({"polls": handed})
            return Progress(changes={"step": "votes"})

        return await self._do(task, work)

    async def _erase_votes(self, task: ErasureDocument) -> ErasureDocument:
        """Looks through the next sessions, as far as they have no more votes than one step takes.

        A vote that is cast meanwhile in one of these is erased, or comes after this.
        """
        user_id = task["user_id"]
        numbers = await next_sessions(self._database, task["after"])
        if not numbers:
            return await self._note(task, Progress(changes={"step": "records"}))
        by_ballot = {voting.ballot_id(self._secret, number, user_id): number for number in numbers}
        with round_trip():
            cursor = self._database.collection("ballots").find(
                {"_id": {"$in": [*by_ballot]}}, {"_id": 1}, batch_size=len(by_ballot) + 1
            )
            voted = sorted(by_ballot[one["_id"]] for one in await cursor.to_list(None))
        some = voted[:VOTES_AT_A_TIME]
        after = some[-1] if len(some) < len(voted) else numbers[-1]
        changes = {"after": after}
        looked = sum(number <= after for number in numbers)
        if not some:
            return await self._note(task, Progress({"sessions": looked}, changes))
        chosen = {one: number for one, number in by_ballot.items() if number in set(some)}

        def work(transaction: Transaction, found: ErasureDocument) -> Progress:
            if found["votes"] == "anonymize":
                votes = _anonymize(transaction, chosen, self._secret)
            else:
                votes = _withdraw(transaction, chosen, self._secret, self._clock())
            return Progress({"sessions": looked, "votes": votes}, changes)

        return await self._do(task, work)

    async def _remove_records(self, task: ErasureDocument) -> ErasureDocument:
        """Removes the name in the audit, and the outcomes of requests that tell of the user.

        A request whose outcome is removed is a new one when it is repeated. These are looked for
        when the audit is done, since all records have to be looked through for it.
        """
        is_audited = await self._is_audited(task["user_id"])
        found: Collection[str] = ()
        if not is_audited:
            await self._hold(task, SCAN_SECONDS + LEASE_SECONDS)
            found = await self._records_of(task["user_id"])

        def work(transaction: Transaction, task: ErasureDocument) -> Progress:
            transaction.delete("idempotency", {"_id": {"$in": [*found]}})
            entries = audit.forget_user(transaction, task["user_id"], RECORDS_AT_A_TIME)
            if is_audited or found or entries:
                return Progress()
            return Progress(changes={"step": None, "finished_at": self._clock()})

        return await self._do(task, work)

    async def _is_audited(self, user_id: UserId) -> bool:
        with round_trip():
            query = audit.entries_about(user_id)
            found = await self._database.collection(audit.COLLECTION).find_one(query, {"_id": 1})
        return found is not None

    async def _records_of(self, user_id: UserId) -> Collection[str]:
        members = ("owner_id", "user_id", "made.owner_id", "made.user_id")
        query: Document = {"$or": [{f"outcome.{member}": user_id} for member in members]}
        with round_trip(time.monotonic() + SCAN_SECONDS):
            cursor = self._database.collection("idempotency").find(query, {"_id": 1})
            return [one["_id"] for one in await cursor.limit(RECORDS_AT_A_TIME).to_list(None)]


# Votes -----------------------------------------------------------------------------------------


def _anonymize(transaction: Transaction, ballots: Mapping[str, int], secret: bytes) -> int:
    """Takes names, comments and times from these votes, which still count; returns how many.

    Here and below ``ballots`` are the numbers of sessions by the id of the user's ballot in each.
    A ballot whose session is being purged, or is kept with its counts only, is removed: nothing
    counts it any more.
    """
    numbers = [*ballots.values()]
    counted = {
        one["_id"]
        for name in (SESSIONS, DELETED)
        for one in transaction.find(name, {"_id": {"$in": numbers}, **COUNTED}, {"poll_id": 1})
    }
    found = _find(transaction, ballots)
    writes: list[Write] = [
        ReplaceOne({"_id": one["_id"]}, dict(voting.without_name(one, _new_number(), secret)))
        if one["session_id"] in counted
        else DeleteOne({"_id": one["_id"]})
        for one in found
    ]
    try:
        transaction.bulk_write("ballots", writes)
    except BulkWriteError as error:
        raise RunAgain from error  # a number was taken
    return len(found)


def _withdraw(
    transaction: Transaction, ballots: Mapping[str, int], secret: bytes, now: datetime
) -> int:
    """Removes these votes, and their counts, whatever the state of their session; how many.

    The sessions first: votes conflict with that, and the fewer come in between the better.
    """
    these: Document = {"_id": {"$in": [*ballots.values()]}, **COUNTED}
    removed = 0
    sessions: dict[int, tuple[str, SessionDocument]] = {}
    for name in (SESSIONS, DELETED):
        transaction.update(name, these, {"$inc": {"casts": 1}})
        for one in transaction.find(name, these):
            sessions[one["_id"]] = name, cast(SessionDocument, one)
    for ballot in _find(transaction, ballots):
        removed += 1
        transaction.delete("ballots", {"_id": ballot["_id"]})
        if ballot["session_id"] in sessions:
            name, session = sessions[ballot["session_id"]]
            keys = [
                key
                for key in ballot["requests"]
                if not voting.is_expired(key, secret, ballot["_id"], now)
            ]
            removal = voting.removal(session, ballot, keys, secret)
            update = UpdateOne(
                {"_id": session["_id"]}, {"$inc": voting.steps(session, removal.session)}
            )
            transaction.bulk_write(name, [update])
            if removal.withdrawn:
                transaction.put("idempotency", voting.remembered(ballot["_id"], removal.withdrawn))
    return removed


def _find(transaction: Transaction, ballots: Mapping[str, int]) -> list[BallotDocument]:
    found = transaction.find("ballots", {"_id": {"$in": [*ballots]}}, batch_size=len(ballots) + 1)
    return cast(list[BallotDocument], list(found))


def _new_number() -> int:
    """A random number of a ballot, as ``service.casting`` draws them."""
    return 1 + secrets.randbelow(10**15 - 1)
