"""A refusal names the options that it is about."""

from tests.conftest import Client, Raw
from tests.support.casting import (
    OPTIONS,
    another_session,
    answered,
    content_run,
    course_run,
    submit,
    submitted,
    vote,
)
from tests.support.seeds import a_poll, refused

FIELDS = [f"poll_submissions[{place}].poll_choice_id" for place in range(3)]
FIELD = FIELDS[0]


async def test_options_that_cannot_be_removed_are_named(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    other = await another_session(api, run)
    await submitted(api, run, 1, acting=7)
    await submitted(api, other, 3, acting=7)
    for kept, named in (([], "1, 3"), (OPTIONS[:2], "3"), (OPTIONS[1:], "1")):
        body = a_poll(options=[*kept, {"title": "new"}])
        problem = await refused(await api.put("/rest", params=run.query, json=body), 409)
        assert problem["detail"] == (
            f"Options that have votes cannot be removed: {named}. "
            "To keep an option, send it with its id."
        )
    for choice in ("1", "3"):
        gone = await api.delete(f"{run.poll_url}/poll_choices/{choice}")
        problem = await refused(gone, 409)
        assert problem["detail"] == f"Options that have votes cannot be removed: {choice}."
    assert (await api.delete(f"{run.poll_url}/poll_choices/2")).status == 204


async def test_unknown_and_repeated_options_of_a_vote_are_named(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowSelectionOfMultipleOptions=True)
    unknown = "must name options of this poll by their ids: it has no 9, x"
    repeated = "must not repeat options: 1"
    for options, message, at_fault in (
        (("1", "9", "x"), unknown, FIELDS[1]),
        (("1", "2", "1"), repeated, FIELDS[2]),
    ):
        problem = await refused(await vote(api, run, *options), 400, ["optionIds"])
        assert problem["detail"] == f"optionIds {message}"
        status = 404 if message == unknown else 400
        problem = await refused(await submit(api, run, *options), status, [at_fault])
        assert problem["detail"] == f"{at_fault} {message}"
    assert raw.ballots.count_documents({}) == 0


async def test_of_many_long_unknown_options_some_are_named_in_part(api: Client, raw: Raw) -> None:
    run = await content_run(api, raw, allowSelectionOfMultipleOptions=True)
    choices = [f"{number}-{'x' * 2_000}" for number in range(30)]
    problem = await refused(await submit(api, run, *choices), 404, [FIELD])
    assert problem["detail"].endswith(" and 20 more")
    assert len(problem["detail"]) < 1_000
    await answered(await vote(api, run, "1"))
