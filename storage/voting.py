"""The rules of casting, pure, for both APIs (docs/api.md, section 5).

``decide`` looks at a session and at the voter's ballot in it, as one transaction has read them, and
says what they become. It knows neither the database nor who may vote, which is checked before.
"""

import hmac
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from storage.documents import (
    DAY,
    IDEMPOTENCY_SECONDS,
    BallotDocument,
    BallotRequest,
    Place,
    RightsState,
    SessionDocument,
    SessionRules,
    UserId,
    day_of,
    is_open,
)
from storage.errors import Code, Conflict, KeyOutdated, LimitReached, NotFound, name_some

MAX_BALLOT_NUMBER = 10**15 - 1
"""Spreadsheets keep no more digits."""
MAX_REQUESTS = 20
"""How many Idempotency-Keys of one voter in one session get their first answer again."""
MAX_KEYS = 200
"""How many are remembered, so that none of them casts a vote again within its 24 hours."""
KEY_LIFETIME = timedelta(seconds=IDEMPOTENCY_SECONDS)
TOO_MANY_KEYS = (
    f"This vote was changed with {MAX_KEYS} Idempotency-Keys within a day; no other is accepted."
)
DAY_SECONDS = int(DAY.total_seconds())


class SessionClosed(Conflict):
    """The session is closed, or not open yet."""

    code = Code.SESSION_CLOSED


class AlreadyVoted(Conflict):
    """The user has voted in this session, and the poll does not allow changing a vote."""

    code = Code.ALREADY_VOTED


class InvalidVote(Conflict):
    """No option, too many or repeated options, or a comment that the poll does not allow.

    The text is a predicate of the options, or with ``is_comment`` of the comment. ``place`` is that
    of the first option at fault.
    """

    code = Code.INVALID_VOTE

    def __init__(self, predicate: str, *, place: int = 0, is_comment: bool = False) -> None:
        super().__init__(predicate)
        self.place = place
        self.is_comment = is_comment


class UnknownOption(Conflict):
    """The poll has no such option; text and ``place`` are those of ``InvalidVote``."""

    code = Code.UNKNOWN_OPTION

    def __init__(self, predicate: str, *, place: int) -> None:
        super().__init__(predicate)
        self.place = place


class RightsChanged(Conflict):
    """The user's right to vote in the session has to be checked again."""


class NoVote(NotFound):
    """There is nothing to withdraw."""

    code = Code.NO_VOTE


class VoteKey(NamedTuple):
    """Keyed hashes of the Idempotency-Key of a cast and of its whole request, for one ballot.

    On another ballot the same key has other hashes, or it would join the two. ``old_key`` and
    ``old_fingerprint`` are the hashes of version 0.1: compared for 24 hours, and never stored anew.
    """

    key: str
    fingerprint: str
    old_key: str
    old_fingerprint: str


class Vote(NamedTuple):
    """What a user casts in a session; ``options`` None withdraws the existing vote.

    ``ballot_id`` names session and voter; ``number`` is the one of a ballot that is new.
    ``rights_state`` is that of the session when the user's right to vote in it was checked, read
    before what that right was decided on; None for a right that depends on nothing that changes.
    ``place`` is that of the poll, where the session was known only by its number.
    """

    session_id: int
    ballot_id: str
    user_id: UserId
    options: tuple[str, ...] | None
    comment: str | None
    number: int
    cast_at: datetime
    request: VoteKey | None = None
    rights_state: RightsState | None = None
    place: Place | None = None


class Cast(NamedTuple):
    """The ballot to answer a vote with, and the session's rules at that moment.

    ``is_replay``: an earlier request under this key cast the vote; unless ``is_same`` that was
    another request, which may be said only to callers that may know the vote. ``is_change``: it
    took the place of an earlier vote.
    """

    ballot: BallotDocument
    rules: SessionRules
    is_replay: bool = False
    is_same: bool = True
    is_change: bool = False


class Decision(NamedTuple):
    """What a vote changes.

    ``stored`` is what the ballot becomes, None if it is removed; ``is_change`` is false if an
    earlier request did all this. ``withdrawn`` has the keys to remember of a removed ballot.
    """

    cast: Cast
    stored: BallotDocument | None
    session: SessionDocument
    is_change: bool
    withdrawn: Sequence[BallotRequest] = ()


def ballot_id(secret: bytes, session_id: int, user_id: UserId) -> str:
    """The ``_id`` of a voter's ballot in a session; without the secret it hides the voter.

    One more colon marks a string, so that no string has the ballot of a number, whatever it says.
    """
    voter = f":{user_id}" if isinstance(user_id, str) else user_id
    return f"{session_id}:{_keyed_hash(secret, f'voter:{session_id}:{voter}')}"


def vote_key(secret: bytes, ballot: str, key: str, fingerprint: str) -> VoteKey:
    """All as keyed hashes: the store without the secret reveals nothing. ``ballot`` is its id."""
    return VoteKey(
        key=_keyed_hash(secret, f"request:{ballot} {key}"),
        fingerprint=_keyed_hash(secret, f"body:{ballot} {fingerprint}"),
        old_key=_keyed_hash(secret, f"request:{key}"),
        old_fingerprint=_keyed_hash(secret, f"body:{fingerprint}"),
    )


def _keyed_hash(secret: bytes, text: str) -> str:
    """Its HMAC, by a copy of a prepared one.

    ``hmac.digest`` takes twice as long, and lets other threads run before it returns.
    """
    code = _keyed(secret).copy()
    code.update(text.encode())
    return code.hexdigest()


@lru_cache(maxsize=8)
def _keyed(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod="sha256")


def decide(
    session: SessionDocument,
    ballot: BallotDocument | None,
    vote: Vote,
    withdrawn: Sequence[BallotRequest] = (),
    *,
    secret: bytes,
) -> Decision:
    """What ``session`` and ``ballot`` become by ``vote``; the arguments are not changed.

    ``withdrawn`` has the keys of the voter's last ballot if that was withdrawn; ``secret`` tells
    how old keys are. A request that was answered before gets the same answer, even if the session
    has changed since. Raises ``KeyOutdated``, ``LimitReached`` (of keys), ``SessionClosed``,
    ``UnknownOption``, ``InvalidVote``, ``AlreadyVoted``, ``NoVote``.
    """
    found = withdrawn if ballot is None else ballot["requests"]
    requests = [one for one in found if not is_expired(one, secret, vote.ballot_id, vote.cast_at)]
    if vote.request is not None and vote.options is not None:
        earlier = _find_request(requests, vote.request)
        if earlier is not None:
            cast = _repeat(session, ballot, vote, vote.options, earlier)
            return Decision(cast, ballot, session, is_change=False)
    if not is_open(session):
        raise SessionClosed("This poll session is not open for submissions.")
    if vote.options is None:
        return _withdraw(session, ballot, requests, secret)
    _require_valid(session["rules"], vote.options, vote.comment)
    if ballot is not None and not session["rules"]["settings"]["allowRevote"]:
        raise AlreadyVoted("You have already voted, and this poll does not allow changing a vote.")
    stored = _new_ballot(session["rules"], ballot, vote, vote.options, requests, secret=secret)
    counted = _count(session, -1, ballot["choices"]) if ballot is not None else session
    counted = _count(counted, +1, vote.options)
    if ballot is None:
        counted["participants"] += 1
    cast = Cast(stored, session["rules"], is_change=ballot is not None)
    return Decision(cast, stored, counted, is_change=True)


def _withdraw(
    session: SessionDocument,
    ballot: BallotDocument | None,
    keys: Sequence[BallotRequest],
    secret: bytes,
) -> Decision:
    if ballot is None:
        raise NoVote("There is no vote to withdraw.")
    if not session["rules"]["settings"]["allowRevote"]:
        raise AlreadyVoted("This poll does not allow withdrawing a vote.")
    return removal(session, ballot, keys, secret)


def removal(
    session: SessionDocument,
    ballot: BallotDocument,
    keys: Sequence[BallotRequest],
    secret: bytes,
) -> Decision:
    """What ``session`` becomes without ``ballot``, whatever its state and its rules.

    ``keys`` are those of the ballot that have not expired: none of them casts a vote again.
    """
    counted = _count(session, -1, ballot["choices"])
    counted["participants"] -= 1
    if keys:
        counted["withdrawals"] = counted.get("withdrawals", 0) + 1
    return Decision(
        Cast(ballot, session["rules"]),
        None,
        counted,
        is_change=True,
        withdrawn=[_reduced(key, secret, ballot["_id"], is_named=False) for key in keys],
    )


def without_name(ballot: BallotDocument, number: int, secret: bytes) -> BallotDocument:
    """The ballot as it stays where its voter is erased: it counts, and is the voter's only one.

    A ballot that loses its name is shown as a new one, under ``number``; see ``_new_ballot``. Its
    keys are only remembered: what was sent with them must not be found out by sending it again.
    """
    was_named = ballot["user_id"] is not None
    keys = (_reduced(key, secret, ballot["_id"], is_named=False) for key in ballot["requests"])
    return {
        **ballot,
        "number": number if was_named else ballot["number"],
        "comment": None,
        "user_id": None,
        "requests": [*keys],
        "created_at": day_of(ballot["created_at"]),
        "updated_at": day_of(ballot["updated_at"]),
    }


def steps(before: SessionDocument, after: SessionDocument) -> dict[str, int]:
    """By path, what the counts of ``before`` must be incremented by to be those of ``after``."""
    paths = {
        f"results.{option_id}": votes - before["results"][option_id]
        for option_id, votes in after["results"].items()
    }
    paths["participants"] = after["participants"] - before["participants"]
    paths["withdrawals"] = after.get("withdrawals", 0) - before.get("withdrawals", 0)
    return {path: step for path, step in paths.items() if step}


def remembered(ballot: str, requests: Sequence[BallotRequest]) -> dict[str, Any]:
    """What is stored of the keys of a ballot that is gone; removed when they have expired."""
    return {
        "_id": ballot,
        "requests": requests,
        "created_at": max(map(remembered_from, requests)),
    }


def _require_valid(rules: SessionRules, options: tuple[str, ...], comment: str | None) -> None:
    if unknown := [option for option in options if option not in rules["options"]]:
        raise UnknownOption(
            f"must name options of this poll by their ids: it has no {name_some(unknown)}",
            place=options.index(unknown[0]),
        )
    if not options:
        raise InvalidVote("must name at least one option")
    if len(set(options)) < len(options):
        repeated = [option for option, times in Counter(options).items() if times > 1]
        again = options.index(repeated[0], options.index(repeated[0]) + 1)
        raise InvalidVote(f"must not repeat options: {name_some(repeated)}", place=again)
    if len(options) > 1 and not rules["settings"]["allowSelectionOfMultipleOptions"]:
        raise InvalidVote("must name one option: this poll allows only one", place=1)
    if comment is not None and not rules["settings"]["allowComment"]:
        raise InvalidVote("must not be sent: this poll does not allow comments", is_comment=True)


def _new_ballot(
    rules: SessionRules,
    ballot: BallotDocument | None,
    vote: Vote,
    options: tuple[str, ...],
    requests: Sequence[BallotRequest],
    *,
    secret: bytes,
) -> BallotDocument:
    """Names are saved by the setting at the time of the cast: a revote may also remove one.

    Where they are not, nothing that is kept tells the time of a cast more precisely than the day.
    A ballot that gets or loses its name is shown as a new one: its number and its date would lead
    from the named vote to the one without a name.
    """
    is_named = rules["settings"]["saveParticipantNames"]
    was_named = ballot is not None and ballot["user_id"] is not None
    cast_at = vote.cast_at if is_named else day_of(vote.cast_at)
    number, created_at = vote.number, cast_at
    if ballot is not None and is_named == was_named:
        number = ballot["number"]
        created_at = ballot["created_at"] if is_named else day_of(ballot["created_at"])
    return {
        "_id": vote.ballot_id,
        "session_id": vote.session_id,
        "number": number,
        "choices": list(options),
        "comment": vote.comment,
        "user_id": vote.user_id if is_named else None,
        "requests": _new_requests(requests, vote, secret, is_named=is_named, was_named=was_named),
        "created_at": created_at,
        "updated_at": cast_at,
    }


def _new_requests(
    keys: Sequence[BallotRequest], vote: Vote, secret: bytes, *, is_named: bool, was_named: bool
) -> list[BallotRequest]:
    """The keys of the ballot, the oldest first, with that of this cast if it has one.

    Those beyond ``MAX_REQUESTS`` are only remembered. So are those from before names were saved,
    or no longer saved: what a request said then must not be found out by sending it again.
    """
    made = []
    if (request := vote.request) is not None:
        if len(keys) >= MAX_KEYS:
            raise LimitReached(TOO_MANY_KEYS)
        new = BallotRequest(key=request.key, fingerprint=request.fingerprint, at=vote.cast_at)
        made = [_reduced(new, secret, vote.ballot_id, is_named=is_named, is_answered=True)]
    answered = len(keys) if is_named != was_named else len(keys) + len(made) - MAX_REQUESTS
    return [
        *(
            _reduced(key, secret, vote.ballot_id, is_named=is_named, is_answered=place >= answered)
            for place, key in enumerate(keys)
        ),
        *made,
    ]


def _reduced(
    request: BallotRequest,
    secret: bytes,
    ballot: str,
    *,
    is_named: bool,
    is_answered: bool = False,
) -> BallotRequest:
    """As much of it as is still needed; without a name its time becomes a day and a secret."""
    reduced = BallotRequest(
        key=request["key"],
        fingerprint=request["fingerprint"] if is_answered else None,
        at=request["at"],
    )
    if "second" in request:
        reduced["second"] = request["second"]
    elif not is_named:
        day = day_of(request["at"])
        passed = int((request["at"] - day).total_seconds())
        reduced["at"] = day
        reduced["second"] = (passed + _mask(secret, ballot, request["key"])) % DAY_SECONDS
    return reduced


def _mask(secret: bytes, ballot: str, key: str) -> int:
    """Hides the second of the day at which a key was cast; without the secret only the day shows.

    Those that hold the secret could find out the voter of a ballot anyway.
    """
    return int(_keyed_hash(secret, f"second:{ballot} {key}")[:16], 16) % DAY_SECONDS


def is_expired(request: BallotRequest, secret: bytes, ballot: str, now: datetime) -> bool:
    """Whether a key on this ballot is older than 24 hours."""
    sent_at = request["at"]
    if now - sent_at < KEY_LIFETIME:
        return False
    if "second" in request:
        mask = _mask(secret, ballot, request["key"])
        sent_at += timedelta(seconds=(request["second"] - mask) % DAY_SECONDS)
    return now - sent_at >= KEY_LIFETIME


def remembered_from(request: BallotRequest) -> datetime:
    """When it was cast at the latest: at the end of its day if nothing else can be told."""
    return request["at"] + DAY if "second" in request else request["at"]


def _count(
    session: SessionDocument, step: int, options: tuple[str, ...] | list[str]
) -> SessionDocument:
    results = dict(session["results"])
    for option_id in options:
        results[option_id] += step
    return {**session, "results": results}


def _find_request(requests: Iterable[BallotRequest], key: VoteKey) -> BallotRequest | None:
    return next((one for one in requests if one["key"] in (key.key, key.old_key)), None)


def _repeat(
    session: SessionDocument,
    ballot: BallotDocument | None,
    vote: Vote,
    options: tuple[str, ...],
    earlier: BallotRequest,
) -> Cast:
    """The first answer again, made of the request itself: it says what the earlier one said."""
    if ballot is None or earlier["fingerprint"] is None:
        raise KeyOutdated
    answered: BallotDocument = {
        **ballot,
        "choices": list(options),
        "comment": vote.comment,
        "updated_at": earlier["at"],
    }
    sent = vote.request
    same = () if sent is None else (sent.fingerprint, sent.old_fingerprint)
    is_same = earlier["fingerprint"] in same
    return Cast(answered, session["rules"], is_replay=True, is_same=is_same)
