"""Live results: everybody in this process who watches a session, and what keeps them up to date.

A change of a session marks it as dirty. One task reads all dirty sessions together, decides for
each watcher what a ``GET`` would show at that moment, encodes that once for each kind of view, and
leaves the newest event with each watcher. A second task does what no change announces: end dates,
the ends of tokens and links, heartbeats. Both run only while somebody watches.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime

import structlog
from aiohttp import web

from service.live import frames
from service.live.frames import Frame, Reason
from service.live.watcher import SPACING_SECONDS, Shown, Watcher
from service.rules import policy
from service.rules.policy import View
from service.telemetry.metrics import Metrics
from service.web.concurrency import ConcurrencyLimit
from storage.batching import Batcher
from storage.documents import (
    BallotDocument,
    SessionDocument,
    UserId,
    has_passed,
    is_over,
    rights_state,
)
from storage.errors import Unavailable
from storage.store import Store

TICK_SECONDS = 0.5
RETRY_SECONDS = 0.5
"""The pause after the database could not be read."""
PENDING_SECONDS = 0.05
"""How often a reader that did not take its event is looked at again."""
RIGHTS_SECONDS = 4.0
"""How old what is known of enrollments may be where no change of the session tells of their end."""
RECHECK_SECONDS = (10.0, 20.0)
"""After so long without a change, at least and at most, a session is read again: should a change
ever not be announced, nobody sees old numbers for longer."""
RESTART_MS = (500, 5_000)
"""When readers connect again after a restart: not all at once."""
NEVER = float("inf")
TURN = 200
"""So many watchers are served before others have their turn."""
REST = 20.0
"""How long changes then wait, as a multiple of the time that the watchers of the last took: beside
1,000 watchers votes keep nine tenths of their rate."""
LONGEST_REST_SECONDS = 0.5
"""With it, and at 20 µs a watcher, 10,000 watchers hear of a change within a second."""

log = structlog.get_logger(__name__)


class _Session:
    """The watchers of one session.

    ``newest`` is the state that was last read; ``is_rechecked``: it is read without a change.
    """

    __slots__ = ("is_rechecked", "newest", "read_at", "recheck_at", "watchers")

    def __init__(self, now: float) -> None:
        self.watchers: set[Watcher] = set()
        self.newest: SessionDocument | None = None
        self.read_at = -SPACING_SECONDS
        self.is_rechecked = False
        self.put_off_recheck(now)

    def put_off_recheck(self, now: float) -> None:
        self.recheck_at = now + random.uniform(*RECHECK_SECONDS)  # noqa: S311 - no secret


class Hub:
    """The watchers of one process; belongs to the event loop in which it is made."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        limit: ConcurrencyLimit,
        draining: asyncio.Event,
        *,
        clock: Callable[[], datetime],
        admin_token_id: str | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._metrics = metrics
        self._limit = limit
        self._draining = draining
        self._clock = clock
        self._admin_token_id = admin_token_id
        self._sessions: dict[int, _Session] = {}
        # By session, when it is to be read.
        self._dirty: dict[int, float] = {}
        # Before this no changes are told: votes come first where there are many watchers.
        self._rests_until = 0.0
        self._new: list[Watcher] = []
        self._pending: set[Watcher] = set()
        self._wake = asyncio.Event()
        self._admitted = 0
        self._tasks: list[asyncio.Task[None]] = []
        # All that come while it is under way wait for the same opening.
        self._openings: Batcher[None, None] = Batcher(self._open)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Counts one more watcher inside; raises ``Unavailable`` beyond the limit."""
        with self._limit.admit(), self._metrics.stream():
            self._admitted += 1
            try:
                yield
            finally:
                self._admitted -= 1
                if not self._admitted:
                    self._stop()

    async def open(self) -> None:
        """Every change from now on reaches the watchers; raises ``Unavailable``.

        To be called within ``admit``, and before anything is sent.
        """
        if not self._tasks:
            await self._openings.submit(None)

    async def _open(self, callers: Collection[None]) -> list[None]:
        await self._store.changes.open()
        if not self._admitted:  # they have gone meanwhile
            self._store.changes.close()
        elif not self._tasks:
            work = (self._follow, self._send, self._tick, self._drain)
            # The context of a batch is empty: they have not the time limit of a request.
            self._tasks = [self._loop.create_task(_repeat(one)) for one in work]
        return [None] * len(callers)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._store.changes.close()

    async def follow(self, watcher: Watcher) -> None:
        """Keeps a watcher up to date until its stream ends; its first event comes at once."""
        session = self._sessions.get(watcher.session_id)
        if session is None:
            session = self._sessions[watcher.session_id] = _Session(self._loop.time())
        session.watchers.add(watcher)
        self._new.append(watcher)
        self._wake.set()
        try:
            if self._draining.is_set():
                self._restart(watcher)
            await watcher.closed
        finally:
            self._pending.discard(watcher)
            session.watchers.discard(watcher)
            if not session.watchers:
                del self._sessions[watcher.session_id]
                self._dirty.pop(watcher.session_id, None)

    # What changes -------------------------------------------------------------------------------

    async def _follow(self) -> None:
        changed = await self._store.changes.next()
        watched = self._sessions.keys()
        told = watched if changed is None else changed & watched
        for number in told:
            self._sessions[number].is_rechecked = False
        self._mark(told)

    def _mark(self, changed: Iterable[int]) -> None:
        for number in changed:
            if number not in self._dirty:
                self._dirty[number] = self._sessions[number].read_at + SPACING_SECONDS
                self._wake.set()

    async def _send(self) -> None:
        await self._until_due()
        due, has_changed = self._take_due(self._loop.time())
        try:
            took = await self._update(due)
            if has_changed:
                self._rests_until = self._loop.time() + min(REST * took, LONGEST_REST_SECONDS)
        except Unavailable:
            self._postpone(due)
        except Exception:
            # It must go on for the others.
            log.exception("event streams cut off")
            for watcher in _all(due):
                watcher.cut()
        await self._send_pending()

    async def _until_due(self) -> None:
        """Returns when a watcher has come, or something is due that was changed or not sent."""
        now = self._loop.time()
        times = [max(due_at, self._rests_until) for due_at in self._dirty.values()]
        if self._pending:
            times.append(now + PENDING_SECONDS)
        if not self._new and min(times, default=NEVER) > now:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(times, default=None)):
                    await self._wake.wait()

    def _take_due(self, now: float) -> tuple[dict[int, list[Watcher]], bool]:
        """By session, the watchers to be told of its state: all where it changed, else new ones.

        Also whether any has changed.
        """
        due: dict[int, list[Watcher]] = defaultdict(list)
        for watcher in self._new:
            due[watcher.session_id].append(watcher)
        self._new = []
        dirty = self._dirty.items() if now >= self._rests_until else ()
        changed = [number for number, due_at in dirty if due_at <= now]
        for number in changed:
            del self._dirty[number]
            self._sessions[number].read_at = now
            self._sessions[number].put_off_recheck(now)
            due[number] = list(self._sessions[number].watchers)
        return due, bool(changed)

    def _postpone(self, due: Iterable[int]) -> None:
        """The database cannot be read: these are tried again, as if they had changed."""
        later = self._loop.time() + RETRY_SECONDS
        self._dirty.update(dict.fromkeys(self._sessions.keys() & due, later))

    # What is shown ------------------------------------------------------------------------------

    async def _update(self, due: Mapping[int, Collection[Watcher]]) -> float:
        """Offers each watcher what a ``GET`` would show it now, or ends its stream.

        Returns how many seconds that took, without the reading.
        """
        if not due:
            return 0.0
        ended = await self._ended_tokens(_all(due))
        found = await self._store.sessions.find_all(due)
        await self._read_enrollments(due, found)
        ballots = await self._read_ballots(due, found)
        # Not the time of the loop, which stands still within a turn of uvloop.
        begun = time.monotonic()
        await self._offer_all(due, found, ballots, ended)
        return time.monotonic() - begun

    async def _offer_all(
        self,
        due: Mapping[int, Collection[Watcher]],
        found: Mapping[int, SessionDocument],
        ballots: Mapping[tuple[int, UserId], BallotDocument],
        ended: Collection[str],
    ) -> None:
        encoded: dict[tuple[int, Shown, View], Frame | None] = {}
        for number, watchers in due.items():
            session = found.get(number)
            if session is not None and number in self._sessions:
                self._note(self._sessions[number], session)
            for place, watcher in enumerate(watchers, 1):
                if not place % TURN:
                    await asyncio.sleep(0)
                if session is None:
                    self._end(watcher, "deleted")
                elif watcher.principal.token_id in ended:
                    self._end(watcher, "expired")
                else:
                    own = ballots.get((number, watcher.principal.user_id))
                    self._offer(watcher, session, own, encoded)

    def _note(self, watched: _Session, newest: SessionDocument) -> None:
        if watched.is_rechecked and watched.newest not in (None, newest):
            log.warning("a change was not announced", session=newest["_id"])
        watched.newest, watched.is_rechecked = newest, False

    def _offer(
        self,
        watcher: Watcher,
        session: SessionDocument,
        own: BallotDocument | None,
        encoded: dict[tuple[int, Shown, View], Frame | None],
    ) -> None:
        if watcher.closed.done():
            return  # it has ended since the session was read
        view = policy.view_of(watcher.caller, session, own)._replace(user_id=-1, own=None)
        kind = session["_id"], watcher.shown, view
        if kind not in encoded:
            shown = watcher.shown(session, view) if view.may_read else None
            encoded[kind] = None if shown is None else frames.results(shown)
        frame = encoded[kind]
        if frame is None:
            self._end(watcher, "forbidden")
            return
        self._metrics.overwritten_events += watcher.offer(frame)
        self._pending.add(watcher)
        self._flush(watcher)

    def _flush(self, watcher: Watcher) -> None:
        self._metrics.stream_events["results"] += watcher.send(self._loop.time())
        if watcher.pending is None:
            self._pending.discard(watcher)

    async def _send_pending(self) -> None:
        for place, watcher in enumerate(tuple(self._pending), 1):
            if not place % TURN:
                await asyncio.sleep(0)
            self._flush(watcher)

    async def _read_enrollments(
        self, due: Mapping[int, Collection[Watcher]], found: Mapping[int, SessionDocument]
    ) -> None:
        """Where rights may have changed, and of courses alone: elsewhere none matter."""
        outdated = [
            (watcher, found[number])
            for number, watchers in due.items()
            if number in found
            for watcher in watchers
            if watcher.rights_state != rights_state(found[number]) or _ends_unheard(found[number])
        ]
        users = {
            watcher.principal.user_id
            for watcher, session in outdated
            if session["course_id"] is not None
        }
        lists = await asyncio.gather(*map(self._store.enrollments.of_user, users))
        enrollments = dict(zip(users, lists, strict=True))
        for watcher, session in outdated:
            watcher.rights_state = rights_state(session)
            watcher.enrollments = tuple(
                one
                for one in enrollments.get(watcher.principal.user_id, ())
                if one["course_id"] == session["course_id"]
            )

    async def _read_ballots(
        self, due: Mapping[int, Collection[Watcher]], found: Mapping[int, SessionDocument]
    ) -> dict[tuple[int, UserId], BallotDocument]:
        """Those that decide what is seen; of the others it does not matter whether they exist."""
        voters = {
            (number, watcher.principal.user_id)
            for number, watchers in due.items()
            if number in found and policy.depends_on_vote(found[number])
            for watcher in watchers
        }
        return await self._store.ballots.of_voters(voters)

    # What no change announces -------------------------------------------------------------------

    async def _tick(self) -> None:
        await asyncio.sleep(TICK_SECONDS)
        now, moment = self._loop.time(), self._clock()
        self._mark(
            number
            for number, session in self._sessions.items()
            if session.newest is not None
            and (
                is_over(session.newest, moment)
                or (_ends_unheard(session.newest) and session.read_at + RIGHTS_SECONDS <= now)
            )
        )
        self._recheck(now)
        watchers = self._all_watchers()
        for place, watcher in enumerate(watchers, 1):
            if not place % TURN:
                await asyncio.sleep(0)
            if watcher.is_gone:
                watcher.cut()
            elif has_passed(watcher.until, moment):
                self._end(watcher, "expired")
            else:
                watcher.beat(now)
        ended = await self._ended_tokens(watchers)
        for watcher in watchers if ended else ():
            if watcher.principal.token_id in ended:
                self._end(watcher, "expired")

    def _recheck(self, now: float) -> None:
        due = [number for number, session in self._sessions.items() if session.recheck_at <= now]
        for number in due:
            self._sessions[number].is_rechecked = number not in self._dirty
        self._mark(due)

    async def _ended_tokens(self, watchers: Iterable[Watcher]) -> set[str]:
        """The ids of tokens that are revoked or expired; what is known of them is 4 s old at most.

        Raises ``Unavailable``.
        """
        wanted = {watcher.principal.token_id for watcher in watchers} - {self._admin_token_id}
        return await self._store.tokens.find_ended(wanted, self._clock())

    async def _drain(self) -> None:
        await self._draining.wait()
        for watcher in self._all_watchers():
            self._restart(watcher)
        await asyncio.Event().wait()  # those that come from now on are told by ``follow``

    def _all_watchers(self) -> list[Watcher]:
        return [one for session in self._sessions.values() for one in session.watchers]

    def _restart(self, watcher: Watcher) -> None:
        self._end(watcher, "restart", retry_ms=random.randint(*RESTART_MS))  # noqa: S311 - no secret

    def _end(self, watcher: Watcher, reason: Reason, *, retry_ms: int | None = None) -> None:
        self._pending.discard(watcher)
        if watcher.end(frames.end(reason, retry_ms=retry_ms)):
            self._metrics.stream_events["end"] += 1


async def _repeat(step: Callable[[], Awaitable[None]]) -> None:
    """Does ``step`` again and again: nothing awaits the task that would tell of an error."""
    while True:
        try:
            await step()
        except Unavailable:
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:
            log.exception("event streams not kept up to date")
            await asyncio.sleep(RETRY_SECONDS)


def _ends_unheard(session: SessionDocument) -> bool:
    """Whether the end of an enrollment does not change the session: see ``Enrollments.delete``."""
    return session["course_id"] is not None and not session["is_published"]


def _all(due: Mapping[int, Collection[Watcher]]) -> list[Watcher]:
    return [watcher for watchers in due.values() for watcher in watchers]


HUB = web.AppKey("hub", Hub)
