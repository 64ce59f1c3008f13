"""Casting, for both APIs and the page of a link: they differ only in how they report a refusal."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from aiohttp import web

from service.rules import policy
from service.telemetry.metrics import METRICS
from service.web.call import CALL, CLOCK
from service.web.randomness import draws
from service.web.responses import Refused
from service.web.store_key import STORE
from storage.ballots import Ballots
from storage.documents import Place, RightsState, Settings
from storage.errors import (
    KeyOutdated,
    KeyReused,
    LimitReached,
    NotFound,
    OutcomeUnknown,
    StorageError,
    Unavailable,
)
from storage.idempotency import IdempotencyKey
from storage.voting import (
    MAX_BALLOT_NUMBER,
    AlreadyVoted,
    Cast,
    InvalidVote,
    NoVote,
    RightsChanged,
    SessionClosed,
    UnknownOption,
    Vote,
)

CheckRights = Callable[[], Awaitable[RightsState | None]]
FindSession = Callable[[], Awaitable[int]]


class Api(NamedTuple):
    """How one API reports refusals: statuses, and the fields of the options and the comment.

    ``messages`` has the texts that its clients need in place of the storage's. ``option_fields``
    has one for each option, or one for all.
    """

    statuses: dict[type[StorageError], int]
    messages: dict[type[StorageError], str]
    option_fields: Sequence[str]
    comment_field: str


CONTENT = Api(
    {SessionClosed: 409, AlreadyVoted: 409, InvalidVote: 400, UnknownOption: 400, NoVote: 404},
    {},
    ["optionIds"],
    "comment",
)
POLLING = Api(
    {SessionClosed: 403, AlreadyVoted: 400, InvalidVote: 400, UnknownOption: 404},
    {AlreadyVoted: "can only submit one choice per poll session."},
    ["poll_submissions[0].poll_choice_id"],
    "poll_submissions[0].comment",
)
VOTED_ALREADY = "You have already voted. This poll does not allow changing a vote."
PAGE = Api(
    {**CONTENT.statuses, **dict.fromkeys((KeyReused, KeyOutdated, LimitReached), 409)},
    {
        SessionClosed: "Voting is closed. Your vote was not counted.",
        AlreadyVoted: VOTED_ALREADY,
        KeyReused: VOTED_ALREADY,
        KeyOutdated: "This vote was sent before, and was replaced or withdrawn since.",
        LimitReached: "You have changed your vote too often today. Please try again tomorrow.",
    },
    ["option"],
    "comment",
)
"""Of the page of a link, in words for people; those of bad votes are the page's own."""
OUTCOMES: dict[type[StorageError], str] = {
    SessionClosed: "closed",
    AlreadyVoted: "already_voted",
    InvalidVote: "invalid",
    UnknownOption: "invalid",
    NoVote: "no_vote",
    Unavailable: "unavailable",
    OutcomeUnknown: "unavailable",
}
"""The names of refusals in metrics; every other one is ``refused``."""


def note_anonymity(request: web.Request, settings: Settings) -> None:
    """Keeps the caller out of the log and the trace of a cast unless names are saved.

    Call it as soon as the settings are known: refused casts reveal as much. Until then the scope of
    the request has hidden the caller. The holder of a link stays hidden.
    """
    call = request[CALL]
    call.is_anonymous = call.principal.maker is not None or not settings["saveParticipantNames"]


async def cast(
    request: web.Request,
    api: Api,
    session_id: int,
    options: list[str] | None,
    *,
    comment: str | None = None,
    idempotency_key: IdempotencyKey | None = None,
    rights_state: RightsState | None = None,
    check_rights: CheckRights | None = None,
    place: Place | None = None,
    find_session: FindSession | None = None,
) -> Cast:
    """Casts the caller's vote in a session, or withdraws it if ``options`` is None.

    ``rights_state`` is what the caller's right was checked on: see ``Vote``. Where the transaction
    finds another one, ``check_rights`` checks again and returns the new one, or raises, until the
    time limit of the request ends it. ``place`` is that of the poll. A session that was known may
    be gone by now, or that of another poll: then ``find_session`` gives the one to use instead, or
    raises.

    Raises ``Refused``, ``KeyReused`` if the key was sent with another request, ``KeyOutdated`` if
    its vote is gone, ``NotFound`` if the session is, and ``Unavailable``. ``KeyReused`` is not
    raised for callers that may not know the vote: it would tell a right guess from a wrong one.
    """
    ballots = request.app[STORE].ballots
    principal = request[CALL].principal
    user_id = principal.user_id

    def vote_in(number: int) -> Vote:
        ballot_id = ballots.id_of(number, user_id)
        key = None if idempotency_key is None else ballots.vote_key(ballot_id, idempotency_key)
        return Vote(
            session_id=number,
            ballot_id=ballot_id,
            user_id=user_id,
            options=None if options is None else tuple(options),
            comment=comment,
            number=next(_numbers),
            cast_at=request.app[CLOCK](),
            request=key,
            rights_state=rights_state,
            place=place,
        )

    counts = request.app[METRICS].votes
    try:
        try:
            outcome = await _cast(ballots, vote_in(session_id), check_rights)
        except NotFound:
            if find_session is None:
                raise
            session_id = await find_session()
            outcome = await _cast(ballots, vote_in(session_id), check_rights)
        if not outcome.is_same and policy.knows_own(principal, outcome.ballot, outcome.rules):
            raise KeyReused
    except StorageError as refusal:
        counts[OUTCOMES.get(type(refusal), "refused")] += 1
        if (settings := ballots.known_settings(session_id)) is not None:
            note_anonymity(request, settings)
        if type(refusal) in api.statuses:
            raise _refused(api, refusal) from refusal
        raise
    counts["withdrawn" if options is None else "accepted"] += 1
    note_anonymity(request, outcome.rules["settings"])
    return outcome


async def _cast(ballots: Ballots, vote: Vote, check_rights: CheckRights | None) -> Cast:
    while True:
        try:
            return await ballots.cast(vote)
        except RightsChanged:
            if check_rights is None:
                raise
            vote = vote._replace(rights_state=await check_rights())


def _refused(api: Api, refusal: StorageError) -> Refused:
    field, message = None, api.messages.get(type(refusal), str(refusal))
    if isinstance(refusal, InvalidVote | UnknownOption):
        fields = api.option_fields
        field = fields[min(refusal.place, len(fields) - 1)]
        if isinstance(refusal, InvalidVote) and refusal.is_comment:
            field = api.comment_field
        message = f"{field} {message}"
    return Refused(api.statuses[type(refusal)], refusal.code, field, message)


def _make_numbers() -> Iterator[int]:
    """Unpredictable numbers of up to 15 digits, which do not reveal their order."""
    for drawn in draws(7):
        number = int.from_bytes(drawn) >> 6
        if 0 < number <= MAX_BALLOT_NUMBER:
            yield number


_numbers = _make_numbers()
