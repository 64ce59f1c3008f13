"""The errors that storage raises; their texts may be shown to clients and operators.

A class of its own, with its ``code``, for each refusal that a program may want to tell apart.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, TypeVar

T = TypeVar("T")

MAX_NAMED = 10
MAX_NAME = 64
NOTHING_CHANGED = "The database did not answer in time; nothing was changed."
UNKNOWN = (
    "The database did not answer in time, and it is not known yet whether the change was stored. "
    "Read it back, or send the request again with the same Idempotency-Key."
)


class Code(StrEnum):
    """What tells refusals apart for programs; docs/api.md, section 1, says when each is answered.

    A closed list, also of refusals that other packages answer: this one imports nothing above it.
    A code never changes its meaning.
    """

    INVALID_REQUEST = "invalid_request"
    INVALID_VOTE = "invalid_vote"
    UNKNOWN_OPTION = "unknown_option"
    TOKEN_REQUIRED = "token_required"  # noqa: S105 - no secret
    BAD_TOKEN = "bad_token"  # noqa: S105 - no secret
    FORBIDDEN = "forbidden"
    RESULTS_HIDDEN = "results_hidden"
    SESSION_CLOSED = "session_closed"
    ALREADY_VOTED = "already_voted"
    ROUTE_NOT_FOUND = "route_not_found"
    NOT_FOUND = "not_found"
    NO_VOTE = "no_vote"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_KEY_OUTDATED = "idempotency_key_outdated"
    ID_TAKEN = "id_taken"
    LIMIT_REACHED = "limit_reached"
    OPTION_HAS_VOTES = "option_has_votes"
    END_DATE_PASSED = "end_date_passed"
    COUNTS_ONLY = "counts_only"
    SESSION_HAS_SUBMISSIONS = "session_has_submissions"
    STANDING_SESSION = "standing_session"
    NO_STANDING_SESSION = "no_standing_session"
    PRECONDITION_FAILED = "precondition_failed"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    EXPECTATION_FAILED = "expectation_failed"
    RATE_LIMITED = "rate_limited"
    HEADERS_TOO_LARGE = "headers_too_large"
    INTERNAL_ERROR = "internal_error"
    UNAVAILABLE = "unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"
    HTTP_VERSION_NOT_SUPPORTED = "http_version_not_supported"


class StorageError(Exception):
    """The base of what storage raises once the store is open."""

    code: ClassVar[Code]


class NotFound(StorageError):
    """There is no such document; it is not told apart from one that exists elsewhere."""

    code = Code.NOT_FOUND


class Conflict(StorageError):
    """The request contradicts what is stored; the text says how."""

    code = Code.CONFLICT


class KeyReused(Conflict):
    """The Idempotency-Key was used for another request."""

    code = Code.IDEMPOTENCY_KEY_REUSED

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before, with a different request.")


class KeyOutdated(Conflict):
    """The vote of the Idempotency-Key was replaced or withdrawn since."""

    code = Code.IDEMPOTENCY_KEY_OUTDATED

    def __init__(self) -> None:
        super().__init__(
            "The vote of this Idempotency-Key was replaced or withdrawn; it is not cast again."
        )


class IdTaken(Conflict):
    """Another poll has the given id."""

    code = Code.ID_TAKEN


class LimitReached(Conflict):
    """No more of this kind fit where it is to be stored."""

    code = Code.LIMIT_REACHED


class OptionHasVotes(Conflict):
    """An option that has votes was to be removed."""

    code = Code.OPTION_HAS_VOTES


class EndDatePassed(Conflict):
    """The poll closed on its end date, so that the session cannot be opened."""

    code = Code.END_DATE_PASSED


class CountsOnly(Conflict):
    """The votes of the session were removed, so that nobody could tell who has voted."""

    code = Code.COUNTS_ONLY

    def __init__(self) -> None:
        super().__init__(
            "The votes of this session are no longer kept, only their counts: it stays closed."
        )


class SessionHasSubmissions(Conflict):
    """Course and section of a session stay as they were when its submissions came."""

    code = Code.SESSION_HAS_SUBMISSIONS


class StandingSession(Conflict):
    """The standing session of a content poll can only be opened and closed."""

    code = Code.STANDING_SESSION

    def __init__(self) -> None:
        super().__init__("The standing session of a content poll can only be opened and closed.")


class NoStandingSession(Conflict):
    """The poll was made under ``/api/v1``: its votes and results are in its sessions."""

    code = Code.NO_STANDING_SESSION


class PreconditionFailed(StorageError):
    """The stored revision is not one that the caller accepts (``If-Match``)."""

    code = Code.PRECONDITION_FAILED


class Unavailable(StorageError):
    """The database did not answer in time. Nothing is half-done, and a retry is safe."""

    code = Code.UNAVAILABLE

    def __init__(self, message: str = NOTHING_CHANGED) -> None:
        super().__init__(message)


class OutcomeUnknown(Unavailable):
    """Like ``Unavailable``, but the change may have been stored, or may still be."""

    code = Code.OUTCOME_UNKNOWN

    def __init__(self, message: str = UNKNOWN) -> None:
        super().__init__(message)


class StartupRefused(Exception):
    """The store cannot be opened; the text is one sentence for the operator."""


def require(found: T | None, kind: str) -> T:
    """``found``; raises ``NotFound`` if it is None."""
    if found is None:
        raise NotFound(f"There is no such {kind}.")
    return found


def name_some(ids: Sequence[str]) -> str:
    """The ids for a message, which stays short however many and long they are."""
    named = ", ".join(one[:MAX_NAME] for one in ids[:MAX_NAMED])
    more = len(ids) - MAX_NAMED
    return f"{named} and {more} more" if more > 0 else named
