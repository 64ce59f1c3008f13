"""``GET …/poll_sessions/:id/export``: content, rights, and headers."""

import csv
import io
import json

import pytest
from aiohttp import ClientResponse

from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    COURSE,
    Headers,
    Run,
    another_session,
    answered,
    change,
    content_run,
    course_run,
    submit,
    submitted,
    vote,
)
from tests.support.seeds import Json, refused

COLUMNS = ["record", "id", "poll_choice_id", "text", "count", "percentage"]
COLUMNS += ["user_id", "created_at", "comment"]
NOON = "2126-01-31T12:00:00Z"


async def export(
    api: Client, run: Run, form: str, who: Headers | None = None, **query: str
) -> ClientResponse:
    return await api.get(f"{run.url}/export", params={"format": form, **query}, headers=who)


async def exported_json(api: Client, run: Run, who: Headers | None = None, **query: str) -> Json:
    answer = await export(api, run, "json", who, **query)
    shown: Json = await answered(answer)
    return shown


async def exported_csv(api: Client, run: Run) -> list[dict[str, str]]:
    """The records, each under its columns."""
    answer = await export(api, run, "csv")
    assert answer.status == 200
    text = (await answer.read()).decode("utf-8-sig")
    header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert header == COLUMNS
    return [dict(zip(header, row, strict=True)) for row in rows]


async def rename(api: Client, run: Run, title: str, choices: list[tuple[str, str]]) -> None:
    """Gives a poll another question and other choices, by their ids."""
    [poll] = await answered(await api.get("/rest", params=run.query))
    poll["title"] = title
    poll["options"] = [{"id": option_id, "title": text} for option_id, text in choices]
    await answered(await api.put("/rest", params=run.query, json=poll))


async def test_as_csv_there_is_a_record_of_the_session_each_choice_and_each_submission(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, allowComment=True)
    first = await submitted(api, run, 2, acting=7, comment='one "cup",\r\nno more ☕')
    second = await submitted(api, run, 3, acting=8)
    third = await submitted(api, run, 2, acting=9)

    answer = await export(api, run, "csv")
    body = await answer.read()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    name = f"poll-{run.number}-session-{run.session}.csv"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["Cache-Control"] == "no-store"
    rows = {
        first["id"]: f'"submission",{first["id"]},2,,,,7,"{NOON}","one ""cup"",\r\nno more ☕"\r\n',
        second["id"]: f'"submission",{second["id"]},3,,,,8,"{NOON}",\r\n',
        third["id"]: f'"submission",{third["id"]},2,,,,9,"{NOON}",\r\n',
    }
    assert body.decode() == (
        "\ufeff"
        '"record","id","poll_choice_id","text","count","percentage","user_id","created_at",'
        '"comment"\r\n'
        f'"session",{run.session},,"Tea?",3,,,"{NOON}",\r\n'
        '"choice",,1,"red",0,0.0,,,\r\n'
        '"choice",,2,"green",2,66.7,,,\r\n'
        '"choice",,3,"blue",1,33.3,,,\r\n'
    ) + "".join(rows[number] for number in sorted(rows))


async def test_as_json_there_are_the_session_its_choices_and_its_submissions(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw)
    given = [await submitted(api, run, choice, acting=6 + choice) for choice in (1, 2, 3)]
    answer = await export(api, run, "json")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    name = f"poll-{run.number}-session-{run.session}.json"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["Cache-Control"] == "no-store"
    choices = ["red", "green", "blue"]
    assert await answered(answer) == {
        "poll": {"id": run.number, "question": "Tea?"},
        "poll_session": {
            "id": run.session,
            "poll_id": run.number,
            "course_id": COURSE,
            "course_section_id": None,
            "is_published": True,
            "created_at": NOON,
            "participants": 3,
        },
        "poll_choices": [
            {
                "id": place,
                "poll_id": run.number,
                "text": text,
                "position": place - 1,
                "is_correct": False,
                "votes": 1,
                "percentage": 33.3,
            }
            for place, text in enumerate(choices, 1)
        ],
        "poll_submissions": sorted(given, key=lambda one: int(one["id"])),
    }


async def test_ids_are_strings_where_the_client_accepts_only_that(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    given = await submitted(api, run, 2, acting=7)
    accept = {"Accept": "application/json+canvas-string-ids"}
    shown = await exported_json(api, run, accept)
    assert shown["poll"]["id"] == shown["poll_session"]["poll_id"] == str(run.number)
    assert [choice["id"] for choice in shown["poll_choices"]] == ["1", "2", "3"]
    assert shown["poll_choices"][1]["votes"] == 1
    [submission] = shown["poll_submissions"]
    assert (submission["id"], submission["user_id"]) == (str(given["id"]), "7")
    plain = await export(api, run, "csv")
    assert await (await export(api, run, "csv", accept)).read() == await plain.read()


async def test_a_session_without_submissions_has_its_choices(api: Client, raw: Raw) -> None:
    for names in (True, False):
        run = await course_run(api, raw, saveParticipantNames=names)
        shown = await exported_json(api, run)
        assert shown["poll_submissions"] == ([] if names else None)
        assert [(one["votes"], one["percentage"]) for one in shown["poll_choices"]] == [
            (0, 0.0)
        ] * 3
        records = await exported_csv(api, run)
        assert [one["record"] for one in records] == ["session", *["choice"] * 3]


async def test_each_session_has_an_export_of_its_own(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    other = await another_session(api, run)
    mine = await submitted(api, run, 1, acting=7)
    theirs = await submitted(api, other, 2, acting=7)
    for session, own, choice in ((run, mine, "1"), (other, theirs, "2")):
        assert (await exported_json(api, session))["poll_submissions"] == [own]
        *_, record = await exported_csv(api, session)
        assert (record["id"], record["poll_choice_id"]) == (str(own["id"]), choice)


async def test_several_choices_of_a_submission_are_one_record(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw, allowSelectionOfMultipleOptions=True)
    given = await submitted(api, run, 1, 3, acting=7)
    assert given["poll_choice_ids"] == [1, 3]
    shown = await exported_json(api, run)
    assert shown["poll_submissions"] == [given]
    assert [one["percentage"] for one in shown["poll_choices"]] == [100.0, 0.0, 100.0]
    *_, record = await exported_csv(api, run)
    assert record["poll_choice_id"] == "1 3"


async def test_managers_export_counts_that_are_hidden_from_others(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, hideAbsoluteNumbers=True, resultsVisibility="private")
    await answered(await vote(api, run, "1", acting=7))
    writer = await make_token(user_id=8, actions=["read", "write"], workspaces=["PLAT"])
    assert (await exported_json(api, run, writer))["poll_choices"][0]["votes"] == 1
    for workspaces, actions in ((["PLAT"], ["read", "vote"]), (["DOCS"], ["read", "write"])):
        other = await make_token(user_id=9, actions=actions, workspaces=workspaces)
        await refused(await export(api, run, "json", other), 403)


# Names -----------------------------------------------------------------------------------------


async def test_where_names_are_not_saved_there_are_counts_and_no_submissions(
    api: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowComment=True)
    manager = await make_token(user_id=8)
    await answered(await vote(api, run, "2", acting=7, comment="for my cat"))
    # The exporting user's own vote is left out, too.
    await answered(await submit(api, run, 2, who=manager, comment="for my dog"))
    for who in (None, manager):
        shown = await exported_json(api, run, who)
        assert shown["poll_submissions"] is None
        assert [one["votes"] for one in shown["poll_choices"]] == [0, 2, 0]
        assert shown["poll_session"]["participants"] == 2
        text = await (await export(api, run, "csv", who)).text()
        assert "submission" not in text
        assert "for my" not in text + json.dumps(shown)
    assert [one["count"] for one in await exported_csv(api, run)] == ["2", "0", "2", "0"]


async def test_names_saved_later_show_earlier_votes_without_name_or_time(
    api: Client, raw: Raw, clock: Clock, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw)
    manager = await make_token(user_id=8)
    await answered(await submit(api, run, 1, who=manager))
    await change(api, run, saveParticipantNames=True)
    clock.advance(minutes=1)
    await answered(await submit(api, run, 2, acting=7))
    for who in (None, manager):
        shown = await exported_json(api, run, who)
        rows = {
            one["poll_choice_id"]: (one["user_id"], one["created_at"])
            for one in shown["poll_submissions"]
        }
        assert rows == {1: (None, None), 2: (7, "2126-01-31T12:01:00Z")}
    records = await exported_csv(api, run)
    rows = {one["poll_choice_id"]: (one["user_id"], one["created_at"]) for one in records[4:]}
    assert rows == {"1": ("", ""), "2": ("7", "2126-01-31T12:01:00Z")}
    # Names are no longer saved: none of them is left.
    await change(api, run)
    assert (await exported_json(api, run))["poll_submissions"] is None
    assert len(await exported_csv(api, run)) == 4


async def test_comments_are_exported_also_when_the_poll_takes_them_no_longer(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, allowComment=True)
    await submitted(api, run, 1, acting=7, comment="with milk")
    await submitted(api, run, 1, acting=8)
    await change(api, run, saveParticipantNames=True)
    submissions = (await exported_json(api, run))["poll_submissions"]
    assert {one.get("comment") for one in submissions} == {"with milk", None}
    *_, first, second = await exported_csv(api, run)
    assert {first["comment"], second["comment"]} == {"with milk", ""}


# Formulas --------------------------------------------------------------------------------------


async def test_no_text_of_a_caller_is_a_formula_in_any_cell(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw, allowComment=True)
    await rename(api, run, "=cmd|' /C calc'!A0", [("-1", "+1"), ("2", "@x"), ("3", '\uff1d"a",1')])
    await submitted(api, run, "-1", acting=7, comment="\t=1")
    records = await exported_csv(api, run)
    assert [one["text"] for one in records] == [
        "'=cmd|' /C calc'!A0",
        "'+1",
        "'@x",
        '\'\uff1d"a",1',
        "",
    ]
    assert [one["poll_choice_id"] for one in records] == ["", "'-1", "2", "3", "'-1"]
    assert records[-1]["comment"] == "'\t'=1"
    # JSON has the text unchanged.
    shown = await exported_json(api, run)
    assert shown["poll"]["question"] == "=cmd|' /C calc'!A0"
    assert [one["text"] for one in shown["poll_choices"]] == ["+1", "@x", '\uff1d"a",1']
    [submission] = shown["poll_submissions"]
    assert (submission["poll_choice_id"], submission["comment"]) == ("-1", "\t=1")
    assert tally_of(raw, run) == {"-1": 1, "2": 0, "3": 0}


async def test_a_long_id_of_an_older_version_is_valid_and_keeps_its_digits_in_a_spreadsheet(
    api: Client, raw: Raw
) -> None:
    run = await course_run(api, raw)
    await submitted(api, run, 1, acting=7)
    raw.ballots.update_one({}, {"$set": {"number": 2**53 - 1}})
    [shown] = (await answered(await api.get(f"{run.submissions}/{2**53 - 1}")))["poll_submissions"]
    assert shown["id"] == 2**53 - 1
    *_, record = await exported_csv(api, run)
    assert record["id"] == "'9007199254740991"
    assert (await exported_json(api, run))["poll_submissions"] == [shown]


def tally_of(raw: Raw, run: Run) -> Json:
    session = raw.sessions.find_one({"_id": run.session})
    assert session is not None
    return dict(session["results"])


# The request -----------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [{}, {"format": ""}, {"format": "xml"}, {"format": "CSV"}])
async def test_an_unknown_format_is_refused_before_existence_and_rights(
    api: Client, raw: Raw, make_token: TokenMaker, query: dict[str, str]
) -> None:
    run = await course_run(api, raw)
    stranger = await make_token(user_id=9)
    for session in (run.session, 999):
        url = f"{run.poll_url}/poll_sessions/{session}/export"
        for who in (None, stranger):
            problem = await refused(await api.get(url, params=query, headers=who), 400, ["format"])
            message = "format must be csv or json" if query else "format is missing from the query"
            assert problem["detail"] == message


async def test_of_several_formats_the_last_counts(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    answer = await api.get(f"{run.url}/export?format=xml&format=csv&format=json")
    assert (answer.status, answer.content_type) == (200, "application/json")


@pytest.mark.parametrize("form", ["csv", "json"])
async def test_head_answers_what_get_does_without_the_file(
    api: Client, raw: Raw, form: str
) -> None:
    run = await course_run(api, raw)
    await submitted(api, run, 1, acting=7)
    got = await export(api, run, form)
    await got.read()
    params = {"format": form}
    asked = await api.head(f"{run.url}/export", params=params)
    assert (asked.status, await asked.read()) == (200, b"")
    for name in ("Content-Type", "Content-Disposition", "Cache-Control"):
        assert asked.headers[name] == got.headers[name]
    # The connection can be used again.
    assert (await api.head(f"{run.url}/export", params={"format": "xml"})).status == 400
    assert (await export(api, run, form)).status == 200


async def test_the_answer_carries_the_id_of_its_request(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    answer = await export(api, run, "csv", {"X-Request-Id": "an-export"})
    assert answer.headers.getall("X-Request-Id") == ["an-export"]
    made = await export(api, run, "csv")
    assert len(made.headers["X-Request-Id"]) == 32
