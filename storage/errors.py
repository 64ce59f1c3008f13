"""The errors that storage raises; their texts may be shown to clients and operators."""

from typing import TypeVar

T = TypeVar("T")


class StorageError(Exception):
    """The base of what storage raises once the store is open."""


class NotFound(StorageError):
    """There is no such document; it is not told apart from one that exists elsewhere."""


class Conflict(StorageError):
    """The request contradicts what is stored; the text says how."""


class PreconditionFailed(StorageError):
    """The stored revision is not one that the caller accepts (``If-Match``)."""


class Unavailable(StorageError):
    """The database did not answer in time. Nothing is half-done, and a retry is safe."""


class StartupRefused(Exception):
    """The store cannot be opened; the text is one sentence for the operator."""


def require(found: T | None, kind: str) -> T:
    """``found``; raises ``NotFound`` if it is None."""
    if found is None:
        raise NotFound(f"There is no such {kind}.")
    return found
