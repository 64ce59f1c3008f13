"""Lists of polls over many containers, read by their addresses."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, cast

import structlog

from storage.addresses import state_of
from storage.client import (
    Database,
    Document,
    TooManyConflicts,
    Transaction,
    UpdateOne,
    round_trip,
    snapshot_of,
)
from storage.documents import (
    USERS,
    AddressDocument,
    ContainerKey,
    PollDocument,
    SessionDocument,
    UserId,
)
from storage.errors import Unavailable
from storage.indexes import BY_CHANGE, BY_NUMBER, OF_ALL, OF_OWNER, index_of
from storage.pagination import Page, Window, page_of

log = structlog.get_logger(__name__)

AT_A_TIME = 500
"""How many addresses of earlier versions are completed in one transaction."""
PAUSE_SECONDS = 1.0
"""Before another look, where another process completes them."""
FILLING = "The list of polls is being prepared after an upgrade; nothing was changed."
MARGIN = 1_000
"""How far behind the last address that was completed others may still appear: polls get their
numbers before they are stored."""
BY_STATE = index_of(OF_ALL, BY_NUMBER)
OF_NUMBERS: dict[str, Any] = {"number": {"$gt": 0}}

Place = tuple[datetime, int]
"""In a list by ``updated_at``: that of a row, and its number."""


class Filters(NamedTuple):
    """Which polls of a workspace; None filters nothing.

    With ``updated_since`` the list is in the order of changes, the oldest first, and its bookmarks
    are a ``Place`` each. Otherwise the newest poll comes first, and the bookmarks are numbers.
    """

    is_open: bool | None = None
    updated_since: datetime | None = None
    owner_id: UserId | None = None


class ListedPoll(NamedTuple):
    address: AddressDocument
    key: ContainerKey
    poll: PollDocument


class Listings:
    """``note_ends`` notes the ends of polls, by their ids, in all their sessions."""

    def __init__(
        self,
        database: Database,
        note_ends: Callable[[Collection[str]], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._addresses = database.collection("addresses")
        self._note_ends = note_ends
        self._clock = clock
        self._filled_to = 0

    async def find_polls(self, poll_ids: Collection[str]) -> dict[str, ListedPoll]:
        """The polls that exist, by id; one round trip."""
        found = await self._join([{"$match": {"_id": {"$in": [*poll_ids]}}}])
        return {one.poll["id"]: one for one in found}

    async def all(self, window: Window) -> Page[ListedPoll]:
        """All polls, newest first; the bookmarks are numbers."""
        before = {"$lt": window.after} if window.after is not None else {"$gt": 0}
        found = await self._join(
            [
                {"$match": {"number": before}},
                {"$sort": {"number": -1}},
                {"$skip": window.skip},
                {"$limit": window.limit + 1},
            ]
        )
        found.sort(key=_number, reverse=True)
        return page_of(found, window, _number)

    async def made_by(self, owner_id: UserId, window: Window) -> Page[ListedPoll]:
        """The polls that a user made anywhere, oldest first; the bookmarks are numbers."""
        await self.require_filled()
        after = 0 if window.after is None else window.after
        found = await self._join(
            [
                {"$match": {"owner_id": owner_id, "number": {"$gt": after}}},
                {"$sort": {"number": 1}},
                {"$limit": window.limit + 1},
            ]
        )
        found.sort(key=_number)
        return page_of(found, window, _number)

    async def in_workspace(
        self, workspace: str, filters: Filters, window: Window
    ) -> Page[ListedPoll]:
        """The polls of a workspace that ``filters`` lets through.

        Ends that have passed are noted first, so that no poll is listed as open for longer.
        """
        await self.require_filled()
        while over := await self._overdue(self._clock()):
            await self._note_ends(over)
        by_change = filters.updated_since is not None
        order = BY_CHANGE if by_change else BY_NUMBER
        whose = OF_ALL if filters.owner_id is None else OF_OWNER
        found = await self._join(
            [
                {"$match": {"$or": _branches(workspace, filters, window.after)}},
                {"$sort": {"updated_at": 1, "number": 1} if by_change else {"number": -1}},
                {"$limit": window.limit + 1},
            ],
            # The planner may prefer one that takes a sort.
            hint=index_of(whose, order),
        )
        place = _place if by_change else _number
        found.sort(key=place, reverse=not by_change)
        return page_of(found, window, place)

    async def _join(self, rows: list[Document], **options: Any) -> list[ListedPoll]:
        """The polls of the addresses that ``rows`` selects, as of one moment and in no order.

        Each container is read once, and only these polls of it are returned.
        """
        pipeline: list[Document] = [
            *rows,
            {
                "$group": {
                    "_id": "$container",
                    "addresses": {"$push": "$$ROOT"},
                    "ids": {"$push": "$_id"},
                }
            },
            {
                "$lookup": {
                    "from": "containers",
                    "localField": "_id",
                    "foreignField": "_id",
                    "as": "container",
                }
            },
            {"$unwind": "$container"},
            {
                "$project": {
                    "addresses": 1,
                    "polls": {
                        "$filter": {
                            "input": "$container.polls",
                            "as": "poll",
                            "cond": {"$in": ["$$poll.id", "$ids"]},
                        }
                    },
                }
            },
        ]
        with round_trip():
            # One batch: a full one leaves the cursor open for another request.
            cursor = snapshot_of(self._addresses).aggregate(pipeline, batchSize=1_000, **options)
            groups = await cursor.to_list(None)
        return [one for group in groups for one in _joined(group)]

    async def _overdue(self, now: datetime) -> list[str]:
        """The ids of some polls whose end has passed at ``now`` and is not noted yet."""
        with round_trip():
            found = self._addresses.find({"ends_at": {"$lte": now}}, {"_id": 1})
            return [one["_id"] for one in await found.limit(AT_A_TIME).to_list(None)]

    # Stores of earlier versions -----------------------------------------------------------------

    async def require_filled(self) -> None:
        """Completes what earlier versions left; raises ``Unavailable`` if that takes long."""
        try:
            while await self._fill_some():
                pass
        except TooManyConflicts as error:
            raise Unavailable(FILLING) from error

    async def fill(self) -> None:
        """Completes the addresses that earlier versions made; returns when all are.

        May be killed at any time, goes on where it was, and runs in one process at a time: others
        that meet it wait.
        """
        while True:
            try:
                while await self._fill_some():
                    pass
            except (TooManyConflicts, Unavailable):
                pass
            except Exception:
                log.exception("completing the list of polls failed, and is tried again")
            else:
                return
            # Others that complete them at once would only conflict.
            await asyncio.sleep(PAUSE_SECONDS)

    async def _fill_some(self) -> int:
        """How many were completed."""
        query = _unfilled(self._filled_to)
        with round_trip():
            if await self._addresses.find_one(query, {"_id": 1}, hint=BY_STATE) is None:
                return 0
        filled, last = await self._database.transaction(partial(_fill, query), max_conflicts=2)
        self._filled_to = max(self._filled_to, last - MARGIN)
        return filled


def _unfilled(after: int) -> Document:
    """The query of addresses that version 0.1 made: they have nothing but number and container.

    Without ``after`` it would pass all those that were completed: for some minutes the database
    keeps the index entries of what they were.
    """
    return {
        "workspace": None,
        "is_open": {"$in": [None, True, False]},
        "number": {"$gt": after},
    }


def _fill(query: Document, transaction: Transaction) -> tuple[int, int]:
    """How many were completed, and the highest number of them.

    What it reads conflicts with every change of these polls: each writes the address too.
    """
    rows = transaction.find("addresses", query, batch_size=AT_A_TIME + 1)
    with rows.sort("number", 1).hint([*BY_STATE.items()]).limit(AT_A_TIME) as cursor:
        addresses = {one["_id"]: one for one in cursor}
    places = [*{one["container"] for one in addresses.values()}]
    made = transaction.aggregate(
        "containers",
        [
            {"$match": {"_id": {"$in": places}}},
            {"$unwind": "$polls"},
            {"$match": {"polls.id": {"$in": [*addresses]}}},
            {
                "$project": {
                    "_id": "$polls.id",
                    "owner_id": "$polls.owner_id",
                    "created_at": "$polls.created_at",
                }
            },
        ],
    )
    polls = {one["_id"]: one for one in made}
    of_polls = {"poll_id": {"$in": [*addresses]}, "course_id": None}
    standing = {
        one["poll_id"]: cast(SessionDocument, one)
        for one in transaction.find("sessions", of_polls, {"results": 0})
    }
    writes = [
        UpdateOne({"_id": poll_id}, {"$set": _filled(address, polls, standing)})
        for poll_id, address in addresses.items()
    ]
    transaction.bulk_write("addresses", writes)
    return len(writes), max((one["number"] for one in addresses.values()), default=0)


def _filled(
    address: Mapping[str, Any],
    polls: Mapping[str, Mapping[str, Any]],
    standing: Mapping[str, SessionDocument],
) -> dict[str, Any]:
    """An address without a poll is in no workspace: nothing is listed of it, or done again."""
    poll = polls.get(address["_id"])
    if poll is None:
        return {"workspace": ""}
    workspace = ContainerKey.of(address["container"]).workspace
    state = state_of(standing.get(address["_id"]))
    if workspace != USERS:
        state["is_open"] = bool(state["is_open"])
    return {
        "workspace": workspace,
        "owner_id": poll["owner_id"],
        "updated_at": address.get("updated_at", poll["created_at"]),
        **state,
    }


def _branches(workspace: str, filters: Filters, after: Any) -> list[Document]:
    """One range of one index each: the database merges them in order, and sorts nothing."""
    equal: Document = {"workspace": workspace}
    if filters.owner_id is not None:
        equal["owner_id"] = filters.owner_id
    states: Iterable[bool | None] = (True, False) if workspace != USERS else (None,)
    if filters.is_open is not None:
        states = [filters.is_open]
    ranges: list[Document] = [{"number": {"$lt": after}} if after is not None else OF_NUMBERS]
    if filters.updated_since is not None:
        ranges = [{"updated_at": {"$gte": filters.updated_since}}]
        if after is not None:
            moment, number = after
            ranges = [
                {"updated_at": moment, "number": {"$gt": number}},
                {"updated_at": {"$gt": moment}},
            ]
    return [{**equal, "is_open": state, **some} for state in states for some in ranges]


def _joined(group: Mapping[str, Any]) -> Iterable[ListedPoll]:
    key = ContainerKey.of(group["_id"])
    polls = {poll["id"]: poll for poll in group["polls"]}
    for address in group["addresses"]:
        if address["_id"] in polls:
            yield ListedPoll(address, key, polls[address["_id"]])


def _number(row: ListedPoll) -> int:
    return row.address["number"]


def _place(row: ListedPoll) -> Place:
    return row.address["updated_at"], row.address["number"]
