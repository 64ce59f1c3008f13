"""What a network can do to a commit: it is stored, and nobody is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClientSession as ClientSession
from pymongo.errors import OperationFailure


@contextmanager
def losing_commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Inside, the first commit is stored, and its sender told that there was no such transaction.

    As the embedded server answers a commit that is sent again after it was killed.
    """
    lost: list[int] = []
    commit = ClientSession.commit_transaction

    async def commit_and_lose(session: Any) -> None:
        await commit(session)
        if not lost:
            lost.append(1)
            raise OperationFailure("no such transaction", 251)

    with monkeypatch.context() as patched:
        patched.setattr(ClientSession, "commit_transaction", commit_and_lose)
        yield lost
