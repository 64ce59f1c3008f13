"""A user who did everything that a user can do, and what is left of it in the store."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

import pytest

from service.web.store_key import STORE
from storage import erasures
from storage.documents import UserId
from tests.conftest import Client, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    Headers,
    Run,
    another_session,
    answered,
    content_run,
    course_run,
    enroll,
    submit,
    vote,
)
from tests.support.seeds import PAGE, Json, a_poll

PATIENCE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tokens of an erased user began has ended at once, unless a test says otherwise."""
    monkeypatch.setattr(erasures, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(erasures, "LOOK_AGAIN_SECONDS", 0.05)


@dataclass(frozen=True)
class Life:
    """What a user did: a token, sessions with votes, a poll made, and one that was deleted."""

    user_id: UserId
    token: Headers
    named: Run
    unnamed: Run
    closed: Run
    course: Run
    own: str
    gone: Run

    @property
    def runs(self) -> list[Run]:
        return [self.named, self.unnamed, self.closed, self.course]


Live = Callable[[UserId], Awaitable[Life]]


@pytest.fixture
def live(api: Client, raw: Raw, make_token: TokenMaker) -> Live:
    async def live(user_id: UserId) -> Life:
        token = await make_token(user_id=user_id, name=f"the token of {user_id}")
        keys = ({"Idempotency-Key": str(number)} for number in count())
        await enroll(api, user_id, kind="TeacherEnrollment")
        url = f"/api/v1/courses/{COURSE}/enrollments"
        several: list[Json] = [{"user_id": user_id, "course_section_id": 3}, {"user_id": 8}]
        both: Json = {"enrollments": several}
        await answered(await api.post(url, json=both, headers=next(keys)))
        body = {"name": f"for {user_id}", "userId": user_id, "actions": ["read"]}
        await answered(await api.post("/tokens", json=body, headers=next(keys)))
        headers = {**token, **next(keys)}
        await answered(await api.post("/rest", params=PAGE, json=a_poll(), headers=headers))
        acting = {**PAGE, "as_user_id": str(user_id)}
        await answered(await api.post("/rest", params=acting, json=a_poll(), headers=next(keys)))
        two = {"polls": [{"question": "Mine?"}, {"question": "Mine, too?"}]}
        headers = {**token, **next(keys)}
        made = await answered(await api.post("/api/v1/polls", json=two, headers=headers))
        own = f"/api/v1/polls/{made['polls'][0]['id']}"
        session = {"poll_sessions": [{"course_id": COURSE}]}
        await answered(await api.post(f"{own}/poll_choices", json={"poll_choice": {"text": "x"}}))
        headers = {**token, **next(keys)}
        await answered(await api.post(f"{own}/poll_sessions", json=session, headers=headers))
        named = await content_run(
            api, raw, saveParticipantNames=True, allowComment=True, allowRevote=True
        )
        unnamed = await content_run(api, raw, allowComment=True, allowRevote=True)
        closed = await content_run(api, raw, saveParticipantNames=True)
        course = await another_session(api, await course_run(api, raw))
        for who, user in ((token, user_id), (None, 8)):
            mine: Json = {"who": who} if who else {"acting": user}
            await answered(await vote(api, named, "1", key="k1", comment="why", **mine))
            await answered(await vote(api, named, "2", key="k2", comment="because", **mine))
            await answered(await vote(api, unnamed, "1", key="k3", comment="hm", **mine))
            await answered(await vote(api, closed, "3", key="k4", **mine))
            await answered(await submit(api, course, 2, key="k5", **mine))
        await answered(await api.put(f"{closed.poll_url}/poll_sessions/{closed.session}/close"))
        gone = await content_run(api, raw, who=token, saveParticipantNames=True)
        await answered(await vote(api, gone, "1", who=token))
        await answered(await vote(api, gone, "1", acting=8))
        await answered(await api.delete("/rest", params=gone.query, headers=token))
        other = f"/api/v1/polls/{made['polls'][1]['id']}"
        await answered(await api.delete(other, headers=token), 204)
        return Life(user_id, token, named, unnamed, closed, course, own, gone)

    return live


async def erase(api: Client, user_id: UserId, votes: str) -> str:
    """Begins to erase a user; the path that tells how far that is."""
    async with api.delete(f"/users/{user_id}/data", params={"votes": votes}) as answer:
        assert answer.status == 202, await answer.text()
        erasure = await answer.json()
        assert answer.headers["Location"] == f"/erasures/{erasure['id']}"
        return answer.headers["Location"]


async def erased(api: Client, user_id: UserId, votes: str) -> Json:
    """Erases a user; what is told at the end."""
    place = await erase(api, user_id, votes)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        erasure: Json = await answered(await api.get(place))
        if erasure["state"] == "done":
            return erasure
        assert time.monotonic() < deadline, erasure
        await asyncio.sleep(0.02)


async def counted_exactly(api: Client) -> bool:
    return all([recount.agrees async for recount in api.app[STORE].recounts.run(fix=False)])
