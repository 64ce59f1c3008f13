"""Work that nobody waits for: it goes on for as long as the service runs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from storage.client import Collection, DuplicateKeyError, round_trip
from storage.errors import Unavailable

log = structlog.get_logger(__name__)


async def repeat(
    work: Callable[[], Awaitable[bool]], noted: asyncio.Event, seconds: float, failure: str
) -> None:
    """Calls ``work`` until it returns false, since there is no more, and so on; never ends.

    That is when there is more work to be ``noted``, or after ``seconds``. What cannot be reached
    now is done later, and what fails is logged as ``failure``.
    """
    while True:
        noted.clear()
        try:
            with suppress(Unavailable):
                while await work():
                    pass
        except Exception:
            # Nothing awaits this task: it would end, and nothing be done until a restart.
            log.exception(failure)
        with suppress(TimeoutError):
            # Not wait_for(): in Python 3.11 it loses a cancellation that comes together with the
            # wake-up, and a stop would wait for this task without end.
            async with asyncio.timeout(seconds):
                await noted.wait()


async def take_turn(meta: Collection, name: str, now: datetime, every: timedelta) -> bool:
    """Whether work of this name is to be done now, and by this process: by one of all, so often.

    A next time that is much further ahead was set by a clock that was wrong: waiting for it, nobody
    would do the work for years.
    """
    has_come = [{"next_at": {"$lte": now}}, {"next_at": {"$gt": now + 2 * every}}]
    due = {"_id": name, "$or": has_come}
    with suppress(DuplicateKeyError), round_trip():
        await meta.update_one(due, {"$set": {"next_at": now + every}}, upsert=True)
        return True
    return False
