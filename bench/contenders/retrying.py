"""How long contenders try, and what the embedded server does not tell drivers of its conflicts."""

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import OperationFailure

TIMEOUT_MS = 4000
"""As long as the service does; the driver would retry a transaction for two minutes."""

LOCK_TIMEOUT = 24
TRANSIENT = "TransientTransactionError"


@contextmanager
def transient() -> Iterator[None]:
    """Labels its code 24 as MongoDB would, so that ``with_transaction`` tries again."""
    try:
        yield
    except OperationFailure as error:
        if error.code == LOCK_TIMEOUT and not error.has_error_label(TRANSIENT):
            error._add_error_label(TRANSIENT)  # noqa: SLF001 - there is no public way
        raise
