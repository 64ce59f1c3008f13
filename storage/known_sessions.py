"""Sessions as this process last read them, so that new votes need not read them again.

Nothing is trusted: what is decided on one of these is stored by an update whose query is
``unchanged``, so only if the session is still the same in all that a decision depends on.
"""

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from storage.documents import ContainerKey, Place, SessionDocument, place_of

MAX_KNOWN = 1_000
MAX_SKIPPED = 64


@dataclass(slots=True)
class _Known:
    """``skips`` is how many batches do without it; ``penalty`` how many did after the last try."""

    session: SessionDocument
    skips: int = 0
    penalty: int = 0


class KnownSessions:
    """Bounded: what was not read for the longest time goes first.

    After a try in vain a session is not tried for the next 1, 2, 4 ... 64 batches: where many votes
    are changed, most batches have one that has to be read.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._standing: dict[Place, int] = {}
        self._keeping = threading.Lock()

    def keep(self, sessions: Iterable[SessionDocument]) -> None:
        """Remembers them as they were just read; for any thread."""
        with self._keeping:
            for session in sessions:
                self._keep(session)

    def _keep(self, session: SessionDocument) -> None:
        known = self._known.pop(session["_id"], None) or _Known(session)
        if place_of(known.session) != place_of(session):
            self._standing.pop(place_of(known.session), None)
        known.session = session
        self._known[session["_id"]] = known
        if session["course_id"] is None:
            self._standing[place_of(session)] = session["_id"]
        if len(self._known) > MAX_KNOWN:
            self._forget(next(iter(self._known)))

    def _forget(self, number: int) -> None:
        session = self._known.pop(number).session
        if self._standing.get(place_of(session)) == number:
            del self._standing[place_of(session)]

    def get(self, number: int) -> SessionDocument | None:
        """The session as it was last read."""
        known = self._known.get(number)
        return None if known is None else known.session

    def standing(self, key: ContainerKey, poll_id: str) -> int | None:
        """The number of the standing session of a poll."""
        return self._standing.get((key.id, poll_id))

    def find(self, numbers: Collection[int]) -> dict[int, SessionDocument] | None:
        """All these sessions; None if one is not known, or is not to be tried now."""
        known = [self._known.get(number) for number in numbers]
        found = {one.session["_id"]: one.session for one in known if one is not None}
        skipped = [one for one in known if one is not None and one.skips]
        for one in skipped:
            one.skips -= 1
        return found if len(found) == len(numbers) and not skipped else None

    def note(self, numbers: Iterable[int], *, is_success: bool) -> None:
        """Tells how a try with these sessions has ended."""
        for number in numbers:
            if (known := self._known.get(number)) is not None:
                known.penalty = 0 if is_success else min(2 * known.penalty or 1, MAX_SKIPPED)
                known.skips = known.penalty


def unchanged(session: SessionDocument) -> dict[str, Any]:
    """The query that finds the session only while all is the same that casting looks at.

    Counts may differ, since they are changed by increments. A member that is missing is None here.
    """
    return {
        "_id": session["_id"],
        "poll_id": session["poll_id"],
        "container": session["container"],
        "is_published": session["is_published"],
        "rules": session["rules"],
        "course_id": session["course_id"],
        "course_section_id": session["course_section_id"],
        "rights_changes": session.get("rights_changes"),
        "withdrawals": session.get("withdrawals"),
    }
