"""A stream shows what a ``GET`` shows at that moment, to each kind of caller, and ends with it."""

import pytest

from service.live import hub
from service.web.store_key import STORE
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    Headers,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    submit,
    vote,
)
from tests.support.seeds import Json
from tests.support.watching import Audience, Target, of_content, of_session, watching

END: Json = {"endDate": "2126-01-31T13:00:00Z", "closePollOnEndDate": True}


async def test_a_stream_of_a_content_poll_agrees_with_a_get_after_every_change(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    target, session = of_content(run), of_session(run)
    reads = {"actions": ["read", "vote"]}
    voter = await make_token(user_id=7, **reads)
    reader = await make_token(user_id=8, **reads)
    writer = await make_token(user_id=9)
    callers: dict[str, tuple[Target, Headers | None]] = {
        "admin": (target, None),
        "writer": (target, writer),
        "voter": (target, voter),
        "reader": (target, reader),
        "acting for the voter": (target.acting(7), None),
        "acting for another": (target.acting(10), None),
        "without read": (target, await make_token(user_id=7, actions=["write", "vote"])),
        "of another workspace": (target, await make_token(user_id=7, workspaces=["DOCS"])),
        "voter under /api/v1": (session, voter),
        "reader under /api/v1": (session, reader),
    }
    managers = {"admin", "writer"}
    of_voter = {"voter", "acting for the voter", "voter under /api/v1"}
    of_others = {"reader", "acting for another", "reader under /api/v1"}
    everybody = managers | of_voter | of_others
    always = {"allowRevote": True}
    async with Audience(api, callers) as audience:
        assert await audience.agree() == everybody
        await answered(await vote(api, run, "1", who=voter))
        assert await audience.agree() == everybody
        await answered(await vote(api, run, "2", who=voter))
        assert await audience.agree() == everybody
        await change(api, run, **always, hideAbsoluteNumbers=True)
        assert await audience.agree() == everybody
        await change(api, run, **always, resultsVisibility="afterVote")
        assert await audience.agree() == managers | of_voter
        await answered(await vote(api, run, "3", acting=10))
        assert await audience.agree() == managers | of_voter | {"acting for another"}
        await answered(await api.delete("/rest", params=run.votes, headers=voter))
        assert await audience.agree() == managers | {"acting for another"}
        await change(api, run, **always, resultsVisibility="afterClose")
        assert await audience.agree() == managers
        await answered(await api.get(f"{run.url}/close"))
        assert await audience.agree() == everybody
        await answered(await api.get(f"{run.url}/open"))
        assert await audience.agree() == managers
        await change(api, run, **always, resultsVisibility="afterClose", **END)
        clock.advance(hours=1)
        assert await audience.agree() == everybody
        await change(api, run, **always, resultsVisibility="private")
        assert await audience.agree() == managers
        await change(api, run, **always)
        assert await audience.agree() == everybody
        await answered(await api.delete("/rest", params=run.query))
        assert await audience.agree() == set()


async def test_a_stream_of_a_session_agrees_with_a_get_after_every_change(
    api: Client, raw: Raw, make_token: TokenMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.RIGHTS_SECONDS + hub.TICK_SECONDS < 5
    monkeypatch.setattr(hub, "RIGHTS_SECONDS", 0.5)
    run = await course_run(api, raw, section=1, public=True, allowRevote=True)
    enrolled: dict[int, tuple[int | None, str]] = {
        11: (1, "StudentEnrollment"),
        12: (2, "StudentEnrollment"),
    }
    enrolled |= {13: (None, "StudentEnrollment"), 14: (None, "TeacherEnrollment")}
    for user_id, (section, kind) in enrolled.items():
        await enroll(api, user_id, section=section, kind=kind)
    target = of_session(run)
    callers: dict[str, tuple[Target, Headers | None]] = {
        "admin": (target, None),
        "of the section": (target, await make_token(user_id=11)),
        "acting for the same": (target.acting(11), None),
        "of another section": (target, await make_token(user_id=12)),
        "without a section": (target, await make_token(user_id=13)),
        "teacher": (target, await make_token(user_id=14)),
        "outsider": (target, await make_token(user_id=15)),
        "without read": (target, await make_token(user_id=11, actions=["vote"])),
    }
    here = {"admin", "of the section", "acting for the same", "teacher"}
    async with Audience(api, callers) as audience:
        assert await audience.agree() == here
        await move(api, run.url, course_section_id=2)
        assert await audience.agree() == {"admin", "of another section", "teacher"}
        await move(api, run.url, course_section_id="")
        students = {"of another section", "without a section"}
        assert await audience.agree() == here | students
        await answered(await submit(api, run, 1, acting=11, enrolls=False))
        assert await audience.agree() == here | students
        await answered(await submit(api, run, 2, acting=11, enrolls=False))
        assert await audience.agree() == here | students
        await change(api, run, hideAbsoluteNumbers=True)
        assert await audience.agree() == here | students
        await answered(await api.get(f"{run.url}/close"))
        assert await audience.agree() == here | students
        await move(api, run.url, has_public_results=False)
        assert await audience.agree() == {"admin"}
        await move(api, run.url, has_public_results=True)
        assert await audience.agree() == here | students
        await end_enrollment(api, 11)
        assert await audience.agree() == {"admin", "teacher"} | students
        await answered(await api.get(f"{run.url}/open"))
        assert await audience.agree() == {"admin", "teacher"} | students
        await end_enrollment(api, 14)
        assert await audience.agree() == {"admin"} | students
        await answered(await api.delete(run.url), 204)
        assert await audience.agree() == set()


async def test_a_passed_end_date_is_told_without_any_request(
    api: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, **END)
    async with Audience(api, {"admin": (of_content(run), None)}) as audience:
        stream = audience.streams["admin"]
        clock.advance(hours=1)
        assert (await stream.results())["closed"] is True


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_token_that_ends_ends_its_streams(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker, how: str
) -> None:
    """Other streams go on, also those of callers that the token does not belong to."""
    run = await content_run(api, raw)
    ends = await make_token(name="ends", expires_at=clock.now.replace(hour=13))
    callers = {"ends": (of_content(run), ends), "admin": (of_content(run).acting(3), None)}
    async with Audience(api, callers) as audience:
        if how == "revoked":
            await api.app[STORE].tokens.revoke("ends", clock())
        else:
            clock.advance(hours=1)
        assert (await audience.streams["ends"].end()).data == {"reason": "expired"}
        await answered(await vote(api, run, "1", acting=3))
        assert (await audience.streams["admin"].results())["results"]["votes"] == 1


async def test_nothing_is_shown_to_a_token_that_has_ended_since_it_was_last_looked_at(
    api: Client,
    raw: Raw,
    clock: Clock,
    make_token: TokenMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "TICK_SECONDS", 60)
    run = await content_run(api, raw)
    who = await make_token(name="ends")
    async with watching(api, of_content(run), who) as stream:
        await stream.results()
        await api.app[STORE].tokens.revoke("ends", clock())
        await answered(await vote(api, run, "1", acting=3))
        event = await stream.next()
        assert event is not None
        assert (event.name, event.data) == ("end", {"reason": "expired"})


async def move(api: Client, url: str, **members: object) -> None:
    await answered(await api.put(url, json={"poll_sessions": [members]}))


async def end_enrollment(api: Client, user_id: int) -> None:
    url = f"/api/v1/courses/{COURSE}/enrollments"
    listed = await answered(await api.get(url))
    [number] = [one["id"] for one in listed if one["user_id"] == user_id]
    await answered(await api.delete(f"{url}/{number}"))
