"""What is held of a user, and its erasure: ``/users/:id/data`` (docs/api.md, section 9)."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from aiohttp import web
from marshmallow import ValidationError

from schemas.fields import parse_user_id
from service.rules import policy, views
from service.rules.policy import Caller
from service.rules.principal import SERVICE_USER, Principal
from service.web import streams
from service.web.call import CALL, actor_of
from service.web.concurrency import EXPORT_LIMIT
from service.web.responses import json_response
from service.web.store_key import STORE
from storage.audit import Action
from storage.client import set_time_limit
from storage.documents import ContainerKey, UserId, VotesMode
from storage.errors import NotFound
from storage.pagination import all_pages
from storage.store import Store

DATA = "/users/{id}/data"
ERASURES = "/erasures"
ERASURE = f"{ERASURES}/{{erasure_id}}"
VOTES_MODES: dict[str, VotesMode] = {"anonymize": "anonymize", "withdraw": "withdraw"}
NDJSON = {"Content-Type": "application/x-ndjson"}
AT_A_TIME = 50
PAGE_SECONDS = 4.5
"""For what is read between two pieces of an answer, as for a whole request otherwise."""
DATA_SECONDS = 600.0
"""The longest that an answer may take: all sessions are looked through for votes."""

Lines = Sequence[Mapping[str, Any]]


async def erase_data(request: web.Request) -> web.Response:
    """Erase a user.

    For admins. Enrollments and tokens of the user end, polls that the user made pass to user 0, and
    votes lose what tells of the user, or are withdrawn with their counts, in closed sessions too.
    The answer comes before this is done; `Location` tells how far it is. Repeated meanwhile, it is
    answered with the same erasure. Does not keep others from acting for the user again.
    """
    votes = _read_votes(request)
    user_id = read_user(request)
    policy.require_admin(Caller(request[CALL].principal))
    erasure = await request.app[STORE].erasures.begin(user_id, votes, actor_of(request))
    place = {"Location": f"{ERASURES}/{erasure['_id']}"}
    return json_response(views.erasure(erasure), status=202, headers=place)


async def show_erasure(request: web.Request) -> web.Response:
    """Tell how far an erasure is.

    For admins, for a day after its end. Does not tell who was erased.
    """
    erasure_id = request.match_info["erasure_id"]
    policy.require_admin(Caller(request[CALL].principal))
    return json_response(views.erasure(await request.app[STORE].erasures.get(erasure_id)))


def _read_votes(request: web.Request) -> VotesMode:
    """What becomes of the votes; raises ``ValidationError``."""
    given = [value for name, value in request[CALL].query if name == "votes"]
    if not given:
        raise ValidationError(f"is missing from the query: {' or '.join(VOTES_MODES)}", "votes")
    if len(given) > 1:
        raise ValidationError("must be given once", "votes")
    mode = VOTES_MODES.get(given[0])
    if mode is None:
        raise ValidationError(f"must be {' or '.join(VOTES_MODES)}", "votes")
    return mode


async def export_data(request: web.Request) -> web.StreamResponse:
    """Export what is held of a user.

    For the user themselves, and admins. One JSON object a line: the enrollments, tokens, polls made
    and votes of the user, votes without a name too. All sessions are looked through, so it takes
    the longer the more there are; while as many exports run as the service allows, the answer is a
    503. Does not show to admins what a vote without a name is for, nor anybody a secret.
    """
    user_id = read_user(request)
    principal = request[CALL].principal
    policy.require_data(principal, user_id)
    with request.app[EXPORT_LIMIT].admit():
        await request.app[STORE].audit.write(actor_of(request), Action.USER_EXPORTED)
        chunks = _render(_lines(request.app[STORE], principal, user_id))
        return await streams.respond(request, NDJSON, chunks, seconds=DATA_SECONDS)


def read_user(request: web.Request) -> UserId:
    """The user of the path, ``self`` for the caller; raises ``NotFound`` for no id of a user."""
    text = request.match_info["id"]
    user_id = request[CALL].principal.user_id if text == "self" else parse_user_id(text)
    if user_id is None or user_id == SERVICE_USER:
        raise NotFound("There is no user with this id.")
    return user_id


async def _render(pages: AsyncGenerator[Lines, None]) -> AsyncGenerator[bytes, None]:
    set_time_limit(PAGE_SECONDS)
    async for page in pages:
        if page:
            yield b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in page)
        set_time_limit(PAGE_SECONDS)


async def _lines(
    store: Store, principal: Principal, user_id: UserId
) -> AsyncGenerator[Lines, None]:
    yield [{"kind": "user", "userId": user_id}]
    yield [views.held_enrollment(one) for one in await store.enrollments.of_user(user_id)]
    async for tokens in all_pages(partial(store.tokens.of_user, user_id), AT_A_TIME):
        yield [views.held_token(one) for one in tokens]
    async for polls in all_pages(partial(store.listings.made_by, user_id), AT_A_TIME):
        yield [views.held_poll(one.key, one.poll) for one in polls]
    async for deleted in all_pages(partial(store.deleted_polls.made_by, user_id), AT_A_TIME):
        yield [
            views.held_poll(ContainerKey.of(one["container"]), one["poll"], one["deleted_at"])
            for one in deleted
        ]
    async for votes in store.user_data.votes(user_id):
        yield [
            views.held_vote(
                one.ballot,
                one.session,
                user_id,
                is_known=policy.knows_vote_of(principal, user_id, one.ballot, one.session["rules"]),
            )
            for one in votes
        ]
