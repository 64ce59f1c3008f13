"""The service as it would be without batches: each request makes its own calls of the driver.

All else is the service's own: query, rights, validation, rules, views, request log; but aiohttp
serves it, whose connections take about 10 µs a request more than the service's. ``MONGODB_URI``
and ``POLLS_SECRET`` say on which store, filled by ``contents.fill``.
"""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

from aiohttp import web
from motor.core import AgnosticClient, AgnosticClientSession, AgnosticDatabase
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from bench.contenders.serving import serve
from schemas.content import NEW_VOTE
from schemas.fields import MAX_ID, parse_id
from service.casting import note_anonymity
from service.content.query import read_content_query, read_poll_address
from service.rules import policy, views
from service.rules.principal import Principal
from service.settings import SETTINGS, Settings, read_settings
from service.telemetry.log import REQUEST_LOG, open_request_log
from service.telemetry.metrics import METRICS, Metrics
from service.web import responses
from service.web.bodies import read_json_body
from service.web.call import CALL, CLOCK
from service.web.query import parse_query
from service.web.scope import request_scope
from storage import voting
from storage.documents import BallotDocument, PollDocument, SessionDocument, utc_now
from storage.errors import Conflict, NotFound
from storage.tokens import token_id
from storage.voting import Cast, Vote

Document = dict[str, Any]
CLIENT: web.AppKey[AgnosticClient[Document]] = web.AppKey("CLIENT")
DATABASE: web.AppKey[AgnosticDatabase[Document]] = web.AppKey("DATABASE")
MAJORITY = WriteConcern("majority", j=True)
TIMEOUT_MS = 4000
"""As long as the service tries; the driver would run a transaction again for two minutes."""


async def list_polls(request: web.Request) -> web.Response:
    principal = request[CALL].principal
    query = read_content_query(request)
    policy.require_content(principal, policy.READ, query.key)
    polls = await _polls_of(request, query.key.id)
    return responses.json_response([views.content_poll(poll) for poll in polls])


async def cast_vote(request: web.Request) -> web.Response:
    principal = request[CALL].principal
    key, poll_id = read_poll_address(request, "votes")
    policy.require_content(principal, policy.VOTE, key)
    poll = next((one for one in await _polls_of(request, key.id) if one["id"] == poll_id), None)
    if poll is None or poll["standing_session"] is None:
        raise NotFound("There is no such poll.")
    note_anonymity(request, poll["settings"])
    body = NEW_VOTE.load(await read_json_body(request))
    session_id = poll["standing_session"]
    vote = Vote(
        session_id=session_id,
        ballot_id=voting.ballot_id(_secret(request), session_id, principal.user_id),
        user_id=principal.user_id,
        options=tuple(body["optionIds"]),
        comment=body["comment"],
        number=secrets.randbelow(MAX_ID) + 1,
        cast_at=datetime.now(UTC),
    )
    outcome = await _cast(request, vote)
    return responses.json_response(
        views.content_vote(outcome.ballot, outcome.rules, poll["id"], author_id=principal.user_id)
    )


async def _cast(request: web.Request, vote: Vote) -> Cast:
    database = request.app[DATABASE]

    async def work(session: AgnosticClientSession) -> Cast:
        found = await database.sessions.find_one({"_id": vote.session_id}, session=session)
        ballot = await database.ballots.find_one({"_id": vote.ballot_id}, session=session)
        if found is None:
            raise NotFound("There is no such poll session.")
        before = cast(SessionDocument, found)
        decision = voting.decide(
            before, cast(BallotDocument | None, ballot), vote, secret=_secret(request)
        )
        await database.ballots.insert_one(dict(decision.cast.ballot), session=session)
        steps = {f"results.{option}": 1 for option in decision.cast.ballot["choices"]}
        update = {"$inc": {**steps, "participants": 1, "casts": 1}}
        await database.sessions.update_one({"_id": vote.session_id}, update, session=session)
        return decision.cast

    async with await request.app[CLIENT].start_session() as session:
        try:
            return cast(
                Cast,
                await session.with_transaction(
                    work, read_concern=ReadConcern("snapshot"), write_concern=MAJORITY
                ),
            )
        except DuplicateKeyError as error:
            raise Conflict("can only submit one choice per poll session.") from error


async def _polls_of(request: web.Request, container_id: str) -> list[PollDocument]:
    found = await request.app[DATABASE].containers.find_one({"_id": container_id})
    return cast(list[PollDocument], found["polls"]) if found else []


async def _identify(request: web.Request) -> None:
    query = request[CALL].query = parse_query(request)
    secret = request.headers.get("Authorization", "").removeprefix("Bearer ")
    token = await request.app[DATABASE].tokens.find_one({"_id": token_id(secret)})
    if token is None or token["revoked_at"] is not None or token["expires_at"] is not None:
        raise policy.Forbidden("The token is unknown, revoked or expired.")
    principal = Principal(
        user_id=token["user_id"],
        token_id=token["_id"],
        token_name=token["name"],
        is_admin=token["admin"],
        actions=frozenset(token["actions"]),
        workspaces=frozenset(token["workspaces"]),
    )
    user_id = parse_id(dict(query).get("as_user_id", ""))
    if user_id is not None:
        policy.require_acting(principal)
        principal = principal.acting_for(user_id)
    request[CALL].principal = principal


def _secret(request: web.Request) -> bytes:
    return (request.app[SETTINGS].secret or "").encode()


async def _connected(app: web.Application) -> AsyncIterator[None]:
    client: AgnosticClient[Document] = AsyncIOMotorClient(
        app[SETTINGS].mongodb_uri, tz_aware=True, timeoutMS=TIMEOUT_MS
    )
    app[CLIENT] = client
    app[DATABASE] = client.get_default_database().with_options(
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=MAJORITY,
    )
    yield
    client.close()


def create_app(settings: Settings) -> web.Application:
    metrics, log = Metrics(), open_request_log(settings.log_level)
    log.tell(metrics.count)
    app = web.Application(middlewares=[request_scope(_identify, metrics, log, ())])
    app[SETTINGS] = settings
    app[CLOCK] = utc_now
    app[METRICS], app[REQUEST_LOG] = metrics, log
    app.cleanup_ctx.append(_connected)
    app.router.add_get("/rest", list_polls)
    app.router.add_post("/rest", cast_vote)
    return app


if __name__ == "__main__":
    serve(create_app(read_settings()))
