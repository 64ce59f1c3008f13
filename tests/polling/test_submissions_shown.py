"""Submissions in sessions and polls under ``/api/v1``: who can see what."""

from typing import Any

from yarl import URL

from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    Headers,
    another_session,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    results,
    seed_ballots,
    shown,
    submit,
    submitted,
    tally,
    vote,
)
from tests.support.seeds import refused


async def students(api: Client, make_token: TokenMaker, *users: int) -> list[Headers]:
    """Headers of students of the course, whose tokens reach no workspace."""
    tokens = []
    for user in users:
        await enroll(api, user)
        tokens.append(await make_token(user_id=user, workspaces=[]))
    return tokens


async def listed(api: Client, url: str, who: Headers | None = None, **query: str) -> Any:
    body = await answered(await api.get(url, headers=who, params=query))
    return next(iter(body.values()))


async def test_a_submission_is_shown_to_managers_and_its_author(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    author, other = await students(api, make_token, 7, 8)
    given = await submitted(api, run, 1, who=author)
    url = f"{run.submissions}/{given['id']}"
    for who in (None, author):
        assert await listed(api, url, who) == [given]
    assert await listed(api, url, None, as_user_id="7") == [given]
    await refused(await api.get(url, headers=other), 404)
    await refused(await api.get(url, params={"as_user_id": "8"}), 404)
    session = await another_session(api, run)
    for wrong in (f"{run.submissions}/1", f"{session.submissions}/{given['id']}"):
        await refused(await api.get(wrong), 404)


async def test_the_list_of_submissions_is_for_managers_and_comes_by_pages(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    author, _ = await students(api, make_token, 7, 8)
    given = await submitted(api, run, 2, who=author)
    seed_ballots(raw, run, 24)
    await refused(await api.get(run.submissions, headers=author), 403)
    response = await api.get(run.submissions)
    seen, pages = (await response.json())["poll_submissions"], 1
    assert len(seen) == 10
    while "next" in response.links:
        response = await api.get(URL(response.links["next"]["url"]).relative())
        seen += (await response.json())["poll_submissions"]
        pages += 1
    assert (len(seen), pages) == (25, 3)
    assert given in seen
    assert [one["id"] for one in seen] == sorted({one["id"] for one in seen})
    assert len(await listed(api, run.submissions, per_page="100")) == 25
    assert await listed(api, run.submissions, page="4") == []


async def test_a_session_shows_whether_the_caller_has_submitted(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    author, other = await students(api, make_token, 7, 8)
    assert (await shown(api, run, author))["has_submitted"] is False
    own = await submitted(api, run, 1, who=author)
    seen = await shown(api, run, author)
    assert (seen["has_submitted"], seen["poll_submissions"]) == (True, [own])
    assert "results" not in seen
    assert "has_public_results" not in seen
    seen = await shown(api, run, other)
    assert (seen["has_submitted"], seen["poll_submissions"]) == (False, [])
    seen = await shown(api, run)
    assert (seen["has_submitted"], seen["poll_submissions"]) == (False, [own])
    assert seen["results"] == {"1": 1, "2": 0, "3": 0}
    assert seen["has_public_results"] is False
    [seen] = await listed(api, "/api/v1/poll_sessions/opened", author)
    assert (seen["has_submitted"], seen["poll_submissions"]) == (True, None)
    [seen] = await listed(api, "/api/v1/poll_sessions/opened", other)
    assert (seen["has_submitted"], seen["poll_submissions"]) == (False, None)


async def test_lists_show_submissions_only_where_they_are_asked_for(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    author, other = await students(api, make_token, 7, 8)
    own = await submitted(api, run, 1, who=author)
    theirs = await submitted(api, run, 2, who=other)
    include = {"include[]": "poll_submissions"}
    url = f"{run.poll_url}/poll_sessions"
    [plain] = await listed(api, url)
    assert plain["poll_submissions"] is None
    [full] = await listed(api, url, None, **include)
    assert sorted(one["id"] for one in full["poll_submissions"]) == sorted(
        [own["id"], theirs["id"]]
    )
    [seen] = await listed(api, "/api/v1/poll_sessions/opened", author, **include)
    assert seen["poll_submissions"] == [own]
    await answered(await api.get(f"{run.url}/close"))
    [seen] = await listed(api, "/api/v1/poll_sessions/closed", author, **include)
    assert (seen["poll_submissions"], seen["has_submitted"]) == ([own], True)


async def test_over_1000_submissions_are_left_to_the_listing(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    seed_ballots(raw, run, 1000)
    assert len((await shown(api, run))["poll_submissions"]) == 1000
    await submitted(api, run, 2)
    seen = await shown(api, run)
    assert seen["poll_submissions"] is None
    assert seen["results"] == {"1": 1000, "2": 1, "3": 0}
    assert len(await listed(api, run.submissions, per_page="100")) == 100


async def test_results_and_total_results_are_the_sums_of_what_was_cast(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    second = await another_session(api, run)
    for session, choice, user in ((run, 1, 7), (run, 2, 8), (second, 1, 7), (second, 1, 8)):
        await submitted(api, session, choice, acting=user)
    assert (await shown(api, run))["results"] == {"1": 1, "2": 1, "3": 0}
    assert (await shown(api, second))["results"] == {"1": 2, "2": 0, "3": 0}
    [poll] = await listed(api, run.poll_url)
    assert poll["total_results"] == {"1": 3, "2": 1, "3": 0}
    [poll] = await listed(api, "/api/v1/polls")
    assert poll["total_results"] == {"1": 3, "2": 1, "3": 0}
    await api.delete(second.url)
    [poll] = await listed(api, run.poll_url)
    assert poll["total_results"] == {"1": 1, "2": 1, "3": 0}
    [student] = await students(api, make_token, 9)
    [poll] = await listed(api, run.poll_url, student)
    assert "total_results" not in poll


async def test_the_standing_session_counts_in_total_results_and_in_both_faces(
    api: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    await answered(await vote(api, run, "1", acting=7))
    await answered(await submit(api, run, 1, acting=8))
    [poll] = await listed(api, run.poll_url)
    assert poll["total_results"] == {"1": 2, "2": 0, "3": 0}
    assert (await shown(api, run))["results"] == {"1": 2, "2": 0, "3": 0}
    assert (await results(api, run) or {})["participants"] == 2
    assert tally(raw, run) == {"1": 2}


async def test_public_results_are_for_every_reader_of_the_session(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw, public=True, resultsVisibility="private")
    author, other = await students(api, make_token, 7, 8)
    own = await submitted(api, run, 1, who=author)
    for who in (author, other):
        seen = await shown(api, run, who)
        assert seen["has_public_results"] is True
        assert seen["results"] == {"1": 1, "2": 0, "3": 0}
        assert seen["poll_submissions"] == [own]
    body = {"poll_sessions": [{"has_public_results": False}]}
    await answered(await api.put(run.url, json=body))
    seen = await shown(api, run, other)
    assert seen["poll_submissions"] == []
    assert not {"results", "has_public_results"} & seen.keys()


async def test_readers_of_a_standing_session_see_results_but_their_own_submissions_only(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, resultsVisibility="afterVote", saveParticipantNames=True)
    author = await make_token(user_id=7, actions=["read", "vote"])
    other = await make_token(user_id=8, actions=["read", "vote"])
    own = await submitted(api, run, 1, who=author)
    await submitted(api, run, 2, acting=9)
    seen = await shown(api, run, author)
    assert seen["results"] == {"1": 1, "2": 1, "3": 0}
    assert seen["poll_submissions"] == [own]
    seen = await shown(api, run, other)
    assert "results" not in seen
    assert seen["poll_submissions"] == []


async def test_hidden_counts_are_shares_and_own_submissions_except_for_managers(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw, public=True, hideAbsoluteNumbers=True)
    author, other = await students(api, make_token, 7, 8)
    own = await submitted(api, run, 1, who=author)
    await submitted(api, run, 1, acting=9)
    await submitted(api, run, 2, acting=10)
    query = {"include[]": "poll_submissions"}
    for who, submissions in ((author, [own]), (other, [])):
        [in_list] = await listed(api, "/api/v1/poll_sessions/opened", who, **query)
        for seen in (await shown(api, run, who), in_list):
            assert seen["result_shares"] == {"1": 67, "2": 33, "3": 0}
            assert "results" not in seen
            assert seen["poll_submissions"] == submissions
    seen = await shown(api, run)
    assert seen["results"] == {"1": 2, "2": 1, "3": 0}
    assert "result_shares" not in seen
    assert len(seen["poll_submissions"]) == 3


async def test_the_correct_choice_is_shown_to_voters_that_can_vote_no_more(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    body = {"poll_choices": [{"is_correct": True}]}
    await answered(await api.put(f"{run.poll_url}/poll_choices/2", json=body))
    voter, idle = await students(api, make_token, 7, 8)
    url = f"{run.poll_url}/poll_choices"

    async def answers(who: Headers | None) -> list[bool | None]:
        [second] = await listed(api, f"{url}/2", who)
        choices = [*await listed(api, url, who), second]
        return [choice.get("is_correct") for choice in choices]

    told, untold = [False, True, False, True], [None] * 4
    assert (await answers(None), await answers(voter)) == (told, untold)
    await submitted(api, run, 1, who=voter)
    assert await answers(voter) == untold
    await answered(await api.get(f"{run.url}/close"))
    assert (await answers(voter), await answers(idle)) == (told, untold)
    again = await another_session(api, run)
    assert await answers(voter) == untold
    await answered(await api.get(f"{again.url}/close"))
    assert await answers(voter) == told
    # They may not vote in a session of a section that they are not in.
    await another_session(api, run, section=4)
    assert await answers(voter) == told


async def test_a_voter_that_left_the_section_sees_the_correct_choice_once_it_is_closed(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw, section=3)
    await another_session(api, run, opened=False)
    await enroll(api, 7, section=3)
    who = await make_token(user_id=7, workspaces=[])
    await submitted(api, run, 1, who=who)
    [enrollment] = raw.enrollments.find({"user_id": 7})
    await enroll(api, 7)
    await api.delete(f"/api/v1/courses/{COURSE}/enrollments/{enrollment['number']}")
    await refused(await api.get(run.url, headers=who), 403)
    [choice] = await listed(api, f"{run.poll_url}/poll_choices/1", who)
    assert "is_correct" not in choice
    await answered(await api.get(f"{run.url}/close"))
    [choice] = await listed(api, f"{run.poll_url}/poll_choices/1", who)
    assert choice["is_correct"] is False


async def test_an_end_date_that_passes_tells_the_right_choice(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    run = await course_run(api, raw)
    await change(api, run, closePollOnEndDate=True, endDate="2126-01-31T13:00:00Z")
    [who] = await students(api, make_token, 7)
    await submitted(api, run, 1, who=who)
    url = f"{run.poll_url}/poll_choices/1"
    clock.advance(minutes=59, seconds=59)
    assert "is_correct" not in (await listed(api, url, who))[0]
    clock.advance(seconds=1)
    assert (await listed(api, url, who))[0]["is_correct"] is False


async def test_once_there_are_submissions_a_session_keeps_its_course(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    await submitted(api, run, 1)
    for changes in ({"course_id": 56}, {"course_section_id": 4}):
        await refused(await api.put(run.url, json={"poll_sessions": [changes]}), 409)
    await answered(await api.put(run.url, json={"poll_sessions": [{"course_id": COURSE}]}))
    assert (await shown(api, run))["course_id"] == COURSE


async def test_a_list_of_sessions_includes_at_most_1000_submissions_in_all(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw)
    runs = [run, *[await another_session(api, run) for _ in range(3)]]
    for one, voters in zip(runs, (600, 401, 400, 0), strict=True):
        seed_ballots(raw, one, voters)
    include = {"include[]": "poll_submissions"}
    rows = await listed(api, f"{run.poll_url}/poll_sessions", None, **include)
    included = [row["poll_submissions"] for row in rows]
    assert [None if one is None else len(one) for one in included] == [600, None, 400, 0]
    assert [row["results"]["1"] for row in rows] == [600, 401, 400, 0]
