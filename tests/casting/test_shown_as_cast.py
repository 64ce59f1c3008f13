"""A ballot is shown as it was cast, whatever the settings of its poll have become."""

from tests.conftest import Client, Raw
from tests.polling.test_exports import exported_csv, exported_json
from tests.support.casting import (
    Run,
    answered,
    change,
    content_run,
    course_run,
    shown,
    submitted,
    vote,
)
from tests.support.seeds import Json

CAST = [([1, 2], "both"), ([1, 3], None), ([1], "one")]


async def listed(api: Client, run: Run) -> list[Json]:
    found = await answered(await api.get(run.submissions))
    return list(found["poll_submissions"])


async def test_submissions_keep_all_choices_and_comments_when_the_poll_takes_them_no_longer(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, allowSelectionOfMultipleOptions=True, allowComment=True)
    for user, (choices, comment) in enumerate(CAST, 7):
        members = {} if comment is None else {"comment": comment}
        await submitted(api, run, *choices, acting=user, **members)
    before = await listed(api, run)
    assert {(tuple(one["poll_choice_ids"]), one["comment"]) for one in before} == {
        (tuple(choices), comment) for choices, comment in CAST
    }
    await change(api, run, saveParticipantNames=True)

    after = await listed(api, run)
    for was, now in zip(before, after, strict=True):
        # What is as in every single-choice poll may be left out, and nothing else.
        left_out = {name: was[name] for name in was.keys() - now.keys()}
        assert {**left_out, **now} == was
        assert left_out in (
            {},
            {"poll_choice_ids": [was["poll_choice_id"]]},
            {"comment": None},
        )
        alone = await answered(await api.get(f"{run.submissions}/{now['id']}"))
        assert alone["poll_submissions"] == [now]
    session = await shown(api, run)
    assert session["poll_submissions"] == after
    url = f"{run.poll_url}/poll_sessions"
    [included] = (await answered(await api.get(url, params={"include[]": "poll_submissions"})))[
        "poll_sessions"
    ]
    assert included["poll_submissions"] == after
    export = await exported_json(api, run)
    assert export["poll_submissions"] == after
    rows = [row for row in await exported_csv(api, run) if row["record"] == "submission"]
    assert {(row["poll_choice_id"], row["comment"]) for row in rows} == {
        ("1 2", "both"),
        ("1 3", ""),
        ("1", "one"),
    }
    assert session["results"] == {"1": 3, "2": 1, "3": 1}


async def test_content_votes_keep_all_options_and_comments_when_the_poll_takes_them_no_longer(
    api: Client, raw: Raw
) -> None:
    run = await content_run(
        api,
        raw,
        allowSelectionOfMultipleOptions=True,
        allowComment=True,
        saveParticipantNames=True,
    )
    await answered(await vote(api, run, "1", "2", acting=7, comment="both"))
    await change(api, run, saveParticipantNames=True)
    for who in ("", "7"):
        acting = {"as_user_id": who} if who else {}
        [seen] = await answered(await api.get("/rest", params={**run.votes, **acting}))
        assert (seen["optionIds"], seen["comment"]) == (["1", "2"], "both")
