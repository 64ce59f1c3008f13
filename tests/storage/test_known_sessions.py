"""Known sessions: kept by transactions, several of which may read sessions at the same time."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from storage import known_sessions
from storage.documents import SessionDocument
from storage.known_sessions import KnownSessions

THREADS, ROUNDS = 8, 20_000


def session(number: int) -> SessionDocument:
    document: dict[str, Any] = {"_id": number, "poll_id": str(number), "course_id": None}
    return cast(SessionDocument, {**document, "container": "C"})


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often")
def test_transactions_that_read_sessions_at_once_do_not_disturb_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known_sessions, "MAX_KNOWN", 1)
    known = KnownSessions()

    def keep(thread: int) -> None:
        for number in range(ROUNDS):
            known.keep([session(THREADS * (number % 2) + thread)])

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(keep, range(THREADS)))
    found = [known.get(number) for number in range(THREADS * 2)]
    assert len([one for one in found if one is not None]) == 1
