"""A network that loses the answer of a commit that was stored."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure


@contextmanager
def losing_commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Inside, the first commit of votes is stored, and its sender told that there was none such.

    As the embedded server answers a commit that is sent again after it was killed.
    """
    lost: list[int] = []
    commit = ClientSession.commit_transaction

    def commit_and_lose(session: ClientSession) -> None:
        commit(session)
        if not lost:
            lost.append(1)
            raise OperationFailure("no such transaction", 251)

    with monkeypatch.context() as patched:
        patched.setattr(ClientSession, "commit_transaction", commit_and_lose)
        yield lost
