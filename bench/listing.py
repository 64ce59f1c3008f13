"""``python -m bench.listing``: the cost of a page of a workspace as its polls grow in number.

Also how long the addresses of version 0.1 take to be completed.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from schemas.content import NEW_POLL
from storage.addresses import state_of
from storage.documents import ContainerKey, LocatedPoll, PollDocument, new_session
from storage.listings import Filters
from storage.location import Location
from storage.pagination import Window
from storage.startup import open_store
from storage.store import Store

WORKSPACE = "BENCH"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
USERS = 100
AT_A_TIME = 5_000
PAGE = 100
ROUNDS = 20
SIZES = (1_000, 10_000, 100_000)
LISTS: dict[str, Filters] = {
    "all": Filters(),
    "open": Filters(is_open=True),
    "closed": Filters(is_open=False),
    "of one user": Filters(owner_id=7),
    "changed since": Filters(updated_since=BEGIN),
    "open, of one user, changed since": Filters(True, BEGIN, 7),
}


def poll_of(number: int, body: dict[str, Any]) -> PollDocument:
    options = [
        {"id": str(place), "title": option["title"], "order": place, "is_correct": False}
        for place, option in enumerate(body["options"], 1)
    ]
    made = {
        **body,
        "id": str(uuid.UUID(int=number)),
        "number": number,
        "options": options,
        "highest_option": len(options),
        "standing_session": number,
        "owner_id": number % USERS,
        "created_at": BEGIN + timedelta(seconds=number),
        "version": 1,
    }
    return cast(PollDocument, made)


async def add(store: Store, first: int, last: int) -> None:
    """Stores these polls, one in each content, past the service; every tenth is closed."""
    body = NEW_POLL.load({"title": "Tea?", "options": [{"title": "yes"}, {"title": "no"}]})
    rows: dict[str, list[dict[str, Any]]] = {"containers": [], "sessions": [], "addresses": []}
    for number in range(first, last):
        key = ContainerKey(WORKSPACE, f"{WORKSPACE}-{number}", "")
        poll = poll_of(number, body)
        moment = poll["created_at"]
        located = LocatedPoll(key, poll)
        session = new_session(number, located, moment, is_published=number % 10 != 0)
        address = {
            "_id": poll["id"],
            "number": number,
            "container": key.id,
            "workspace": WORKSPACE,
            "owner_id": poll["owner_id"],
            **state_of(session),
            # In another order than they were made.
            "updated_at": moment + timedelta(days=number * 7_919 % 365),
        }
        container = {"_id": key.id, **key._asdict(), "version": 1, "polls": [dict(poll)]}
        rows["containers"].append(container)
        rows["sessions"].append(dict(session))
        rows["addresses"].append(address)
    for name, some in rows.items():
        await store.database.collection(name).insert_many(some, ordered=False)


async def walk(store: Store, filters: Filters, pages: int) -> Any:
    """The cursor after so many pages."""
    after = None
    for _ in range(pages):
        page = await store.listings.in_workspace(WORKSPACE, filters, Window(after, limit=PAGE))
        if page.next_after is None:
            break
        after = page.next_after
    return after


async def milliseconds(store: Store, filters: Filters, after: Any) -> float:
    """The median time of a page."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        page = await store.listings.in_workspace(WORKSPACE, filters, Window(after, limit=PAGE))
        took.append((time.perf_counter() - begun) * 1000)
        if not page.rows:
            raise RuntimeError(f"{filters} lists nothing after {after}")
    return statistics.median(took)


async def measure(store: Store, sizes: list[int]) -> None:
    print(f"| polls | {' | '.join(LISTS)} | the 50th page |", flush=True)
    print("|---" * (len(LISTS) + 2) + "|")
    there = 0
    for size in sizes:
        for first in range(there, size, AT_A_TIME):
            await add(store, first + 1, min(first + AT_A_TIME, size) + 1)
        there = size
        pages = [await milliseconds(store, filters, None) for filters in LISTS.values()]
        far = await walk(store, Filters(), min(50, size // PAGE - 1))
        pages.append(await milliseconds(store, Filters(), far))
        print(f"| {size:,} | {' | '.join(f'{page:.1f} ms' for page in pages)} |", flush=True)


async def complete(store: Store, polls: int) -> None:
    added = ("workspace", "owner_id", "is_open", "ends_at", "updated_at")
    addresses = store.database.collection("addresses")
    await addresses.update_many({}, {"$unset": dict.fromkeys(added, "")})
    begun = time.perf_counter()
    await store.listings.fill()
    seconds = time.perf_counter() - begun
    print(f"\n{polls:,} addresses of version 0.1 were completed in {seconds:.1f} s.")


async def run(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory(prefix="polls-bench-") as name:
        location = Location(None, Path(name), None)
        async with open_store(location) as store:
            await measure(store, sizes)
            await complete(store, sizes[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.listing", description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=SIZES, help="how many polls")
    asyncio.run(run(sorted(parser.parse_args().sizes)))


if __name__ == "__main__":
    main()
