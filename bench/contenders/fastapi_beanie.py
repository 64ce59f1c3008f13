"""The same service as one writes it with FastAPI and Beanie.

Pydantic models in and out, Beanie documents, the token as a dependency. A vote is an insert under a
unique key, then an increment: two writes, without a transaction around them.
``uvicorn bench.contenders.fastapi_beanie:app``; ``MONGODB_URI`` and ``POLLS_SECRET`` say on which
store, filled by ``fill``.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from beanie import Document, init_beanie
from beanie.operators import Inc
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from pymongo import AsyncMongoClient, IndexModel, WriteConcern
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from bench import contents
from storage.documents import PollDefinition

MAJORITY = WriteConcern("majority", j=True)


class Option(BaseModel):
    id: str
    title: str
    order: int


class Settings(BaseModel):
    allowSelectionOfMultipleOptions: bool = False
    resultsVisibility: Literal["alwaysPublic", "afterVote", "afterClose", "private"] = (
        "alwaysPublic"
    )
    endDate: str = ""
    hideAbsoluteNumbers: bool = False
    allowRevote: bool = False
    saveParticipantNames: bool = False
    closePollOnEndDate: bool = False
    allowComment: bool = False


class PollOut(BaseModel):
    id: str
    title: str
    description: str
    options: list[Option]
    settings: Settings


class Poll(PollOut):
    standing_session: int
    owner_id: int
    created_at: datetime


class VoteIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    optionIds: list[str] = Field(max_length=100)
    comment: str | None = Field(default=None, max_length=1000)


class VoteOut(BaseModel):
    pollId: str
    userId: int | None
    optionIds: list[str]
    comment: str | None
    createdAt: datetime
    updatedAt: datetime


class Token(Document):
    id: str  # type: ignore[assignment] # Beanie's own is an ObjectId
    name: str
    user_id: int
    admin: bool
    workspaces: list[str]
    actions: list[str]
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    class Settings:
        name = "tokens"


class Container(Document):
    id: str  # type: ignore[assignment] # Beanie's own is an ObjectId
    polls: list[Poll]

    class Settings:
        name = "containers"


class Session(Document):
    id: int  # type: ignore[assignment] # Beanie's own is an ObjectId
    poll_id: str
    is_published: bool
    closes_at: datetime | None
    settings: Settings
    results: dict[str, int]
    participants: int

    class Settings:
        name = "sessions"


class Ballot(Document):
    id: str  # type: ignore[assignment] # Beanie's own is an ObjectId
    session_id: int
    number: int
    user_id: int | None
    choices: list[str]
    comment: str | None
    created_at: datetime
    updated_at: datetime

    class Settings:
        name = "ballots"
        indexes = [IndexModel([("session_id", 1), ("number", 1)], unique=True)]


class Principal(BaseModel):
    user_id: int
    admin: bool
    acting: bool
    workspaces: list[str]
    actions: list[str]

    def require(self, action: str, workspace: str) -> None:
        covered = workspace in self.workspaces or "*" in self.workspaces
        if not (self.admin or self.acting or (action in self.actions and covered)):
            raise HTTPException(403, "This token does not carry that.")


async def read_principal(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
    as_user_id: Annotated[int | None, Query(ge=1, lt=2**53)] = None,
) -> Principal:
    token = await Token.get(hashlib.sha256(credentials.credentials.encode()).hexdigest())
    now = datetime.now(UTC)
    expired = token is not None and token.expires_at is not None and token.expires_at <= now
    if token is None or token.revoked_at is not None or expired:
        raise HTTPException(403, "The token is unknown, revoked or expired.")
    if as_user_id is not None and not token.admin:
        raise HTTPException(403, "as_user_id is for admin tokens.")
    return Principal(
        user_id=token.user_id if as_user_id is None else as_user_id,
        admin=token.admin and as_user_id is None,
        acting=as_user_id is not None,
        workspaces=token.workspaces,
        actions=token.actions,
    )


Parameter = Annotated[str, Query(min_length=1, max_length=255)]
Caller = Annotated[Principal, Depends(read_principal)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with connected(os.environ["MONGODB_URI"]):
        yield


@asynccontextmanager
async def connected(uri: str) -> AsyncIterator[None]:
    async with AsyncMongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        database = client.get_default_database(
            read_concern=ReadConcern("majority"), write_concern=MAJORITY
        )
        await init_beanie(database=database, document_models=[Token, Container, Session, Ballot])
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/rest")
async def list_polls(
    caller: Caller,
    type: Literal["polls"],  # noqa: A002, ARG001 - the parameter's name; it is validated
    workspace: Parameter,
    content: Parameter,
) -> list[PollOut]:
    caller.require("read", workspace)
    container = await Container.get(_container_id(workspace, content))
    return list[PollOut](container.polls) if container else []


@app.post("/rest")
async def cast_vote(
    vote: VoteIn,
    caller: Caller,
    type: Literal["votes"],  # noqa: A002, ARG001 - the parameter's name; it is validated
    workspace: Parameter,
    content: Parameter,
    pollId: Parameter,
) -> VoteOut:
    caller.require("vote", workspace)
    container = await Container.get(_container_id(workspace, content))
    polls = container.polls if container else []
    poll = next((poll for poll in polls if poll.id == pollId), None)
    if poll is None:
        raise HTTPException(404, "There is no such poll.")
    ballot = await _cast(poll, vote, caller.user_id)
    return VoteOut(
        pollId=poll.id,
        userId=caller.user_id,
        optionIds=ballot.choices,
        comment=ballot.comment,
        createdAt=ballot.created_at,
        updatedAt=ballot.updated_at,
    )


async def _cast(poll: Poll, vote: VoteIn, user_id: int) -> Ballot:
    now = datetime.now(UTC)
    session = await Session.get(poll.standing_session)
    if session is None:
        raise HTTPException(404, "There is no such poll session.")
    _require_valid(session, vote, now)
    ballot = Ballot(
        id=_ballot_id(session.id, user_id),
        session_id=session.id,
        number=secrets.randbelow(2**53 - 1) + 1,
        user_id=user_id if session.settings.saveParticipantNames else None,
        choices=vote.optionIds,
        comment=vote.comment,
        created_at=now,
        updated_at=now,
    )
    try:
        await ballot.insert()
    except DuplicateKeyError as error:
        raise HTTPException(409, "can only submit one choice per poll session.") from error
    counts = {f"results.{option}": 1 for option in vote.optionIds}
    await Session.find_one(Session.id == session.id).update(
        Inc({**counts, "participants": 1})  # type: ignore[no-untyped-call] # Beanie's
    )
    return ballot


def _require_valid(session: Session, vote: VoteIn, now: datetime) -> None:
    if not session.is_published or (session.closes_at is not None and session.closes_at <= now):
        raise HTTPException(409, "This poll session is not open for submissions.")
    chosen = set(vote.optionIds)
    several = len(chosen) > 1 and not session.settings.allowSelectionOfMultipleOptions
    if not chosen or len(chosen) < len(vote.optionIds) or several or chosen - set(session.results):
        raise HTTPException(400, "optionIds do not fit the poll.")
    if vote.comment is not None and not session.settings.allowComment:
        raise HTTPException(400, "This poll takes no comments.")


def _container_id(workspace: str, content: str) -> str:
    return f"{workspace}\x1f{content}\x1f"


def _ballot_id(session_id: int, user_id: int) -> str:
    secret = os.environ["POLLS_SECRET"].encode()
    voter = hmac.new(secret, f"voter:{session_id}:{user_id}".encode(), hashlib.sha256).hexdigest()
    return f"{session_id}:{voter}"


async def fill(uri: str) -> None:
    """Puts in the tokens and polls that all contenders hold; Fastify reads the same documents."""
    now = datetime.now(UTC)
    async with connected(uri):
        await _token(contents.READER, user_id=2, workspaces=[contents.WORKSPACE]).insert()
        await _token(contents.ADMIN, user_id=contents.SERVICE_USER, admin=True).insert()
        polls = [
            _poll_of(definition, number, now)
            for number, (_, definition) in enumerate(contents.definitions(), 1)
        ]
        ids = (key.id for key, _ in contents.definitions())
        await Session.insert_many([_session_of(poll) for poll in polls])
        await Container.insert_many(
            [Container(id=id_, polls=[poll]) for id_, poll in zip(ids, polls, strict=True)]
        )


def _poll_of(definition: PollDefinition, number: int, now: datetime) -> Poll:
    """The poll whose standing session has this number."""
    options = [
        Option(id=str(place), title=option["title"], order=option["order"])
        for place, option in enumerate(definition["options"], 1)
    ]
    return Poll(
        id=definition["id"],
        title=definition["title"],
        description=definition["description"],
        options=options,
        settings=Settings.model_validate(definition["settings"]),
        standing_session=number,
        owner_id=contents.SERVICE_USER,
        created_at=now,
    )


def _token(secret: str, *, user_id: int, **given: Any) -> Token:
    return Token(
        id=hashlib.sha256(secret.encode()).hexdigest(),
        name=f"user-{user_id}",
        user_id=user_id,
        admin=given.get("admin", False),
        workspaces=given.get("workspaces", []),
        actions=["read", "write", "vote"] if given.get("admin") else ["read"],
    )


def _session_of(poll: Poll) -> Session:
    return Session(
        id=poll.standing_session,
        poll_id=poll.id,
        is_published=True,
        closes_at=None,
        settings=poll.settings,
        results={option.id: 0 for option in poll.options},
        participants=0,
    )
