"""What storage says when it cannot do what was asked."""


class StorageError(Exception):
    """The base of all errors below; its text may be shown to callers."""


class NotFound(StorageError):
    """No such container, poll or token: callers cannot tell a missing one from one elsewhere."""


class Conflict(StorageError):
    """The request contradicts what is stored; the text names what."""


class PreconditionFailed(StorageError):
    """The stored revision is none of those that the caller would accept (``If-Match``)."""


class Unavailable(StorageError):
    """The database gave no answer in time. Nothing is half-done; asking again is safe."""


class StartupRefused(Exception):
    """The store cannot be opened as asked; the text is one sentence for who starts it."""
