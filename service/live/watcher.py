"""One reader of an event stream; as small as can be, since there may be many thousands."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from service.live.frames import Frame
from service.rules.policy import Caller, View
from service.rules.principal import Principal
from storage.documents import EnrollmentDocument, RightsState, SessionDocument

Shown = Callable[[SessionDocument, View], dict[str, Any] | None]
"""What is sent of a session, without ``revision``; None ends the stream with ``forbidden``.

A function of a module, which all its watchers share: one encoding serves all whose views are equal.
For that the view it is given has neither the user's id nor the ballot.
"""

SPACING_SECONDS = 0.25
"""The least time between two events of one watcher."""
HEARTBEAT_SECONDS = 15.0


class Watcher:
    """What is sent goes straight to the transport, and only when it holds nothing: it has no queue.

    An event that cannot be sent yet waits as ``pending``, until the next takes its place.
    """

    __slots__ = (
        *("_heartbeat", "_is_chunked", "_transport", "beat_at", "closed", "enrollments"),
        *("event_at", "pending"),
        *("principal", "revision", "rights_state", "session_id", "shown", "until"),
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        principal: Principal,
        session_id: int,
        shown: Shown,
        *,
        is_chunked: bool,
        revision: str,
        until: datetime | None,
        beat_at: float,
        heartbeat: Frame,
    ) -> None:
        """``revision`` is that of the state that the reader knows; empty if it knows none."""
        self._transport = transport
        self._is_chunked = is_chunked
        self.principal = principal
        self.session_id = session_id
        self.shown = shown
        self.until = until
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.revision = revision
        self.pending: Frame | None = None
        self.event_at = -SPACING_SECONDS
        self.beat_at = beat_at
        self._heartbeat = heartbeat
        # Those in the course of the session, as of this state of its rights; None for none yet.
        self.enrollments: tuple[EnrollmentDocument, ...] = ()
        self.rights_state: RightsState | None = None

    @property
    def caller(self) -> Caller:
        return Caller(self.principal, self.enrollments)

    @property
    def is_gone(self) -> bool:
        return self._transport.is_closing()

    @property
    def _takes(self) -> bool:
        return not (self._transport.get_write_buffer_size() or self._transport.is_closing())

    def offer(self, frame: Frame) -> bool:
        """Makes ``frame`` the next event; returns whether it takes the place of an unsent one."""
        had, self.pending = self.pending, None
        if frame.revision != self.revision:
            self.pending = frame
        return had is not None

    def send(self, now: float) -> bool:
        """Sends the pending event if it is time and the reader takes it; whether it did so."""
        if self.pending is None or now - self.event_at < SPACING_SECONDS or not self._takes:
            return False
        self._write(self.pending)
        self.revision, self.event_at, self.pending = self.pending.revision, now, None
        return True

    def beat(self, now: float) -> None:
        """Sends a heartbeat every 15 s: proxies and readers see that the stream lives."""
        if now >= self.beat_at:
            self.beat_at = now + HEARTBEAT_SECONDS
            if self._takes:
                self._write(self._heartbeat)

    def end(self, last: Frame) -> bool:
        """Ends the stream, with a last event for those that read; False if it had ended before."""
        if self.closed.done():
            return False
        self.pending = None
        if self._takes:
            self._write(last)
        else:
            self._transport.abort()  # what it has not read would hold up the end
        self.closed.set_result(None)
        return True

    def cut(self) -> None:
        """Ends the stream without a word."""
        self.pending = None
        self._transport.abort()
        if not self.closed.done():
            self.closed.set_result(None)

    def _write(self, frame: Frame) -> None:
        self._transport.write(frame.chunk if self._is_chunked else frame.plain)
