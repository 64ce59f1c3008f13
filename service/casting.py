"""Casting, for both faces: one way in, and each face's own words for a refusal."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from aiohttp import web

from service.telemetry.metrics import METRICS
from service.web.call import CALL, CLOCK
from service.web.responses import Refused
from service.web.store import STORE
from storage import voting
from storage.documents import Settings
from storage.errors import StorageError, Unavailable
from storage.voting import Cast, InvalidVote, Vote


@dataclass(frozen=True, slots=True)
class Face:
    """How a face answers each refusal, and what it calls the options and the comment."""

    statuses: dict[type[StorageError], int]
    options_field: str
    comment_field: str


CONTENT = Face(
    statuses={
        voting.SessionClosed: 409,
        voting.AlreadyVoted: 409,
        voting.InvalidVote: 400,
        voting.UnknownOption: 400,
        voting.NoVote: 404,
    },
    options_field="optionIds",
    comment_field="comment",
)
POLLING = Face(
    statuses={
        voting.SessionClosed: 403,
        voting.AlreadyVoted: 400,
        voting.InvalidVote: 400,
        voting.UnknownOption: 404,
    },
    options_field="poll_submissions[0].poll_choice_id",
    comment_field="poll_submissions[0].comment",
)


OUTCOMES: dict[type[StorageError], str] = {
    voting.SessionClosed: "closed",
    voting.AlreadyVoted: "already_voted",
    voting.InvalidVote: "invalid",
    voting.UnknownOption: "invalid",
    voting.NoVote: "no_vote",
    Unavailable: "unavailable",
}
"""What metrics call a refusal; all else is ``refused``."""


def note_anonymity(request: web.Request, settings: Settings) -> None:
    """The line of a cast where names are not saved shall not tell who it was.

    To be called as soon as the poll's settings are known: what is refused tells as much.
    """
    if not settings["saveParticipantNames"]:
        request[CALL].is_anonymous = True


async def cast(
    request: web.Request,
    face: Face,
    session_id: int,
    options: list[str] | None,
    *,
    comment: str | None = None,
    cast_key: tuple[str, str] | None = None,
) -> Cast:
    """Casts the caller's vote in a session; without ``options`` withdraws it.

    ``cast_key`` is an Idempotency-Key and the fingerprint of its request.

    Raises ``Refused``, ``Conflict`` for a key that was sent with another request, ``NotFound``
    where the session is gone, ``Unavailable``.
    """
    ballots = request.app[STORE].ballots
    user_id = request[CALL].principal.user_id
    vote = Vote(
        session_id=session_id,
        ballot_id=ballots.id_of(session_id, user_id),
        user_id=user_id,
        options=None if options is None else tuple(options),
        comment=comment,
        number=next(_numbers),
        cast_at=request.app[CLOCK](),
        request=ballots.vote_key(*cast_key) if cast_key is not None else None,
    )
    counts = request.app[METRICS].votes
    try:
        outcome = await ballots.cast(vote)
    except StorageError as refusal:
        counts[OUTCOMES.get(type(refusal), "refused")] += 1
        if type(refusal) in face.statuses:
            _refuse(face, refusal)
        raise
    counts["withdrawn" if options is None else "accepted"] += 1
    note_anonymity(request, outcome.rules["settings"])
    return outcome


def _refuse(face: Face, refusal: StorageError) -> NoReturn:
    field, message = None, str(refusal)
    if isinstance(refusal, InvalidVote):
        field = face.comment_field if refusal.is_comment else face.options_field
        message = f"{field} {refusal}"
    elif isinstance(refusal, voting.UnknownOption):
        field = face.options_field
        message = f"{field} {refusal}"
    raise Refused(face.statuses[type(refusal)], field, message) from refusal


def _make_numbers() -> Iterator[int]:
    """Numbers from 1 to 2^53-1 that nobody can foresee, or trace back to their order.

    The system is asked for many at once: asked by each vote it would take longer than its rules.
    """
    while True:
        drawn = os.urandom(7 * 512)
        for start in range(0, len(drawn), 7):
            number = int.from_bytes(drawn[start : start + 7]) >> 3
            if number:
                yield number


_numbers = _make_numbers()
