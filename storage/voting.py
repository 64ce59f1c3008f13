"""The rules of casting, pure, for both APIs (docs/api.md, section 5).

``decide`` looks at a session and at the voter's ballot in it, as one transaction has read them, and
says what they become. It knows neither the database nor who may vote, which is checked before.
"""

import hmac
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from storage.documents import (
    IDEMPOTENCY_SECONDS,
    BallotDocument,
    BallotRequest,
    SessionDocument,
    SessionRules,
    is_open,
)
from storage.errors import Code, Conflict, KeyReused, NotFound, name_some

MAX_REQUESTS = 20
"""How many Idempotency-Keys of one voter in one session are remembered."""


class SessionClosed(Conflict):
    """The session is closed, or not open yet."""

    code = Code.SESSION_CLOSED


class AlreadyVoted(Conflict):
    """The user has voted in this session, and the poll does not allow changing a vote."""

    code = Code.ALREADY_VOTED


class InvalidVote(Conflict):
    """No option, too many or repeated options, or a comment that the poll does not allow.

    The text is a predicate of the options, or with ``is_comment`` of the comment.
    """

    code = Code.INVALID_VOTE

    def __init__(self, predicate: str, *, is_comment: bool = False) -> None:
        super().__init__(predicate)
        self.is_comment = is_comment


class UnknownOption(Conflict):
    """The poll has no such option; the text is a predicate of the options."""

    code = Code.UNKNOWN_OPTION


class NotAVoter(Conflict):
    """The user may not vote in the session as the transaction finds it."""


class NoVote(NotFound):
    """There is nothing to withdraw."""

    code = Code.NO_VOTE


class VoteKey(NamedTuple):
    """Keyed hashes of the Idempotency-Key of a cast and of its whole request."""

    key: str
    fingerprint: str


class Vote(NamedTuple):
    """What a user casts in a session; ``options`` None withdraws the existing vote.

    ``ballot_id`` names session and voter; ``number`` is the one of a ballot that is new.
    ``may_vote`` says whether the user may vote in a session: it is asked again with the session
    that the transaction has read, which may have moved since the request was checked. It is pure,
    and called in the thread of the transaction.
    """

    session_id: int
    ballot_id: str
    user_id: int
    options: tuple[str, ...] | None
    comment: str | None
    number: int
    cast_at: datetime
    request: VoteKey | None = None
    may_vote: Callable[[SessionDocument], bool] | None = None


class Cast(NamedTuple):
    """The ballot to answer a vote with, and the session's rules at that moment."""

    ballot: BallotDocument
    rules: SessionRules


class Decision(NamedTuple):
    """What a vote changes.

    ``stored`` is what the ballot becomes, None if it is removed; ``is_change`` is false if an
    earlier request did all this.
    """

    cast: Cast
    stored: BallotDocument | None
    session: SessionDocument
    is_change: bool


def ballot_id(secret: bytes, session_id: int, user_id: int) -> str:
    """The ``_id`` of a voter's ballot in a session; without the secret it hides the voter."""
    return f"{session_id}:{_keyed_hash(secret, f'voter:{session_id}:{user_id}')}"


def vote_key(secret: bytes, key: str, fingerprint: str) -> VoteKey:
    """Both as keyed hashes: the store without the secret reveals neither."""
    return VoteKey(
        key=_keyed_hash(secret, f"request:{key}"),
        fingerprint=_keyed_hash(secret, f"body:{fingerprint}"),
    )


def _keyed_hash(secret: bytes, text: str) -> str:
    return hmac.digest(secret, text.encode(), "sha256").hex()


def decide(session: SessionDocument, ballot: BallotDocument | None, vote: Vote) -> Decision:
    """What ``session`` and ``ballot`` become by ``vote``; the arguments are not changed.

    A request that was answered before gets the same answer, even if the session has changed since.
    Raises ``KeyReused``, ``SessionClosed``, ``UnknownOption``,
    ``InvalidVote``, ``AlreadyVoted``, ``NoVote``.
    """
    if ballot is not None and vote.request is not None:
        earlier = _find_request(ballot, vote.request, vote.cast_at)
        if earlier is not None:
            answered: BallotDocument = {
                **ballot,
                "choices": earlier["choices"],
                "comment": earlier["comment"],
                "updated_at": earlier["at"],
            }
            cast = Cast(answered, session["rules"])
            return Decision(cast, ballot, session, is_change=False)
    if not is_open(session):
        raise SessionClosed("This poll session is not open for submissions.")
    if vote.options is None:
        return _withdraw(session, ballot)
    _require_valid(session["rules"], vote.options, vote.comment)
    if ballot is not None and not session["rules"]["settings"]["allowRevote"]:
        raise AlreadyVoted("can only submit one choice per poll session.")
    stored = _new_ballot(session["rules"], ballot, vote, vote.options)
    counted = _count(session, -1, ballot["choices"]) if ballot is not None else session
    counted = _count(counted, +1, vote.options)
    if ballot is None:
        counted["participants"] += 1
    return Decision(Cast(stored, session["rules"]), stored, counted, is_change=True)


def _withdraw(session: SessionDocument, ballot: BallotDocument | None) -> Decision:
    if ballot is None:
        raise NoVote("There is no vote to withdraw.")
    if not session["rules"]["settings"]["allowRevote"]:
        raise AlreadyVoted("This poll does not allow changing a vote.")
    counted = _count(session, -1, ballot["choices"])
    counted["participants"] -= 1
    return Decision(Cast(ballot, session["rules"]), None, counted, is_change=True)


def _require_valid(rules: SessionRules, options: tuple[str, ...], comment: str | None) -> None:
    if unknown := [option for option in options if option not in rules["options"]]:
        raise UnknownOption(f"must be options of this poll, which has no {name_some(unknown)}")
    if not options:
        raise InvalidVote("must name at least one option")
    if len(set(options)) < len(options):
        repeated = [option for option, times in Counter(options).items() if times > 1]
        raise InvalidVote(f"must not repeat an option, as {name_some(repeated)}")
    if len(options) > 1 and not rules["settings"]["allowSelectionOfMultipleOptions"]:
        raise InvalidVote("must name one option: this poll allows only one")
    if comment is not None and not rules["settings"]["allowComment"]:
        raise InvalidVote("must not be sent: this poll does not allow comments", is_comment=True)


def _new_ballot(
    rules: SessionRules, ballot: BallotDocument | None, vote: Vote, options: tuple[str, ...]
) -> BallotDocument:
    """Names are saved by the setting at the time of the cast: a revote may also remove one."""
    requests = ballot["requests"] if ballot is not None else []
    if vote.request is not None:
        made = BallotRequest(
            key=vote.request.key,
            fingerprint=vote.request.fingerprint,
            choices=list(options),
            comment=vote.comment,
            at=vote.cast_at,
        )
        requests = [*requests[1 - MAX_REQUESTS :], made]
    return {
        "_id": vote.ballot_id,
        "session_id": vote.session_id,
        "number": ballot["number"] if ballot is not None else vote.number,
        "choices": list(options),
        "comment": vote.comment,
        "user_id": vote.user_id if rules["settings"]["saveParticipantNames"] else None,
        "requests": requests,
        "created_at": ballot["created_at"] if ballot is not None else vote.cast_at,
        "updated_at": vote.cast_at,
    }


def _count(
    session: SessionDocument, step: int, options: tuple[str, ...] | list[str]
) -> SessionDocument:
    results = dict(session["results"])
    for option_id in options:
        results[option_id] += step
    return {**session, "results": results}


def _find_request(ballot: BallotDocument, key: VoteKey, now: datetime) -> BallotRequest | None:
    day_ago = now - timedelta(seconds=IDEMPOTENCY_SECONDS)
    for request in ballot["requests"]:
        if request["key"] == key.key and request["at"] > day_ago:
            if request["fingerprint"] != key.fingerprint:
                raise KeyReused
            return request
    return None
