"""Results as an event stream (docs/api.md, section 7)."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from service.live import hub
from storage.changes import SessionChanges
from tests.conftest import Client, Raw
from tests.support.casting import Run, answered, change, content_run, course_run, submit, vote
from tests.support.watching import Target, got, of_content, of_session, watching


async def test_the_first_event_is_what_a_get_answers(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    shown = await answered(await got(api, of_content(run)))
    async with watching(api, of_content(run)) as stream:
        assert await stream.results() == shown
        headers = stream.response.headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert "Content-Encoding" not in headers


async def test_an_event_tells_of_each_vote(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw)
    async with watching(api, of_content(run)) as stream:
        assert (await stream.results())["results"]["participants"] == 0
        for voter in (1, 2):
            await answered(await vote(api, run, "1", acting=voter))
            data = await stream.results(within=1.0)
            assert data["results"]["options"]["1"]["votes"] == voter
        await change(api, run, hideAbsoluteNumbers=True)
        await answered(await api.get(f"{run.url}/close"))
        shown = await answered(await got(api, of_content(run)))
        assert (await stream.until(shown["revision"]))["closed"] is True


async def test_a_session_of_a_course_is_followed_under_its_own_address(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw)
    async with watching(api, of_session(run)) as stream:
        first = await stream.results()
        assert first.pop("revision")
        assert first == {
            "pollId": run.number,
            "sessionId": run.session,
            "closed": False,
            "results": {"1": 0, "2": 0, "3": 0},
        }
        await answered(await submit(api, run, 2, acting=5))
        assert (await stream.results(within=1.0))["results"] == {"1": 0, "2": 1, "3": 0}
        await answered(await api.delete(run.url), 204)
        assert (await stream.end()).data == {"reason": "deleted"}


async def test_a_change_that_is_not_announced_is_found_all_the_same(
    api: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def announce_nothing(_: SessionChanges) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SessionChanges, "next", announce_nothing)
    monkeypatch.setattr(hub, "RECHECK_SECONDS", (0.3, 0.3))
    run = await content_run(api, raw)
    async with watching(api, of_content(run)) as stream:
        assert (await stream.results())["results"]["participants"] == 0
        for votes in (1, 2):
            with capture_logs() as lines:
                await answered(await vote(api, run, "1", acting=votes))
                assert (await stream.results())["results"]["participants"] == votes
            assert [line["event"] for line in lines] == ["a change was not announced"]


@pytest.mark.parametrize("of", [of_content, of_session])
async def test_results_have_a_revision_that_is_their_tag(
    api: Client, raw: Raw, of: Callable[[Run], Target]
) -> None:
    run = await content_run(api, raw)
    answer = await got(api, of(run))
    shown = await answered(answer)
    assert answer.headers["ETag"] == f'"{shown["revision"]}"'
    again = await got(api, of(run), {"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304
    await answered(await vote(api, run, "1", acting=1))
    assert (await answered(await got(api, of(run))))["revision"] != shown["revision"]
