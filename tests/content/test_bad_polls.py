"""Invalid polls, member by member, and the largest valid ones."""

import json
import time
from itertools import chain
from typing import Any

import pytest

from tests.conftest import Client, Raw
from tests.support.seeds import (
    ISSUE,
    Json,
    a_poll,
    document,
    everything,
    refused,
    seed,
    stored_polls,
)

Fields = list[str | None]

POLL = document(1)
QUERY = {**ISSUE, "pollId": POLL["id"]}
FLAGS = [
    "allowSelectionOfMultipleOptions",
    "hideAbsoluteNumbers",
    "allowRevote",
    "saveParticipantNames",
    "closePollOnEndDate",
    "allowComment",
]
NO_TIMES = [
    "2126-01-31",
    "2126-01-31T18:00:00",
    "2126-01-31T18:00Z",
    "2126-01-31T18Z",
    "2026-02-30T18:00:00Z",
    "2026-13-01T18:00:00Z",
    "2026-00-01T18:00:00Z",
    "2025-02-29T18:00:00Z",
    "2126-01-31T24:00:00Z",
    "2126-01-31T18:60:00Z",
    "2126-01-31T18:00:61Z",
    "2126-01-31T18:00:00+01",
    "2126-01-31T18:00:00+2400",
    "2126-01-31T18:00:00+0160",
    "2126-01-31T18:00:00+01000",
    "2126-01-31T18:00:00+24:00",
    "2126-01-31T18:00:00+01:60",
    "2126-01-31T18:00:00.Z",
    "2126-01-31T18:00:00,5Z",
    "2026-W05-6T18:00:00Z",
    "2026-031T18:00:00Z",
    "20260131T180000Z",
    "26-01-31T18:00:00Z",
    "12126-01-31T18:00:00Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:60Z",
    " 2126-01-31T18:00:00Z",
    "2126-01-31T18:00:00Z\n",
    "2126-01-31T18:00:00\u2212" + "01:00",
    "\u0662\u0660\u0662\u0666-01-31T18:00:00Z",
    "1769882400",
    "tomorrow",
    " ",
]
TIMES = [
    "",
    "2126-01-31T18:00:00Z",
    "2126-01-31t18:00:00z",
    "2126-01-31 18:00:00+01:00",
    "2126-01-31T18:00:00.123456789-00:00",
    "2126-01-31T18:00:00+23:59",
    "2126-01-31T18:00:00.000+0000",
    "2016-12-31T23:59:60Z",
    "2024-02-29T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
]


# No title: nothing to see, or more than a line.
UNSEEN = [
    *(" ", "\t", "\n", "\u00a0\u3000", "\u2028", "\0", "\x7f", "\u0085"),
    *("\u200b", "\u200b\ufeff\u202e", "\u00ad", "\u3164", "\u2800", "\ufe0f", "\U000e0041"),
    *("a\0b", "a\nb", "a\t", "\ra", "a\x1b[2J", "a\x85"),
]


def options(*members: Any) -> Json:
    return {"options": list(members)}


def option(**members: Any) -> Json:
    return options({"title": "a"}, {"title": "b", **members})


def settings(**members: Any) -> Json:
    return {"settings": members}


def refused_settings(name: str, *values: Any) -> list[tuple[str, Json, Fields]]:
    """One row for each invalid value of the setting ``name``."""
    return [
        (f"{name} {value!a}", settings(**{name: value}), [f"settings.{name}"]) for value in values
    ]


def refused_titles(text: str) -> list[tuple[str, Json, Fields]]:
    return [
        (f"title {text!a}", {"title": text}, ["title"]),
        (f"option title {text!a}", option(title=text), ["options[1].title"]),
    ]


# What is put over a good poll, and the fields that are named. ``...`` takes a member away.
BAD: list[tuple[str, Json, Fields]] = [
    ("no title", {"title": ...}, ["title"]),
    ("title null", {"title": None}, ["title"]),
    ("title empty", {"title": ""}, ["title"]),
    ("title of 256", {"title": "x" * 256}, ["title"]),
    ("title of 256 emoji", {"title": "⭐" * 256}, ["title"]),
    *(row for text in UNSEEN for row in refused_titles(text)),
    ("title a number", {"title": 1}, ["title"]),
    ("title true", {"title": True}, ["title"]),
    ("title a list", {"title": ["a"]}, ["title"]),
    ("title an object", {"title": {"a": 1}}, ["title"]),
    ("description of 4001", {"description": "x" * 4001}, ["description"]),
    ("description a number", {"description": 1}, ["description"]),
    ("no options", {"options": ...}, ["options"]),
    ("options null", {"options": None}, ["options"]),
    ("options an object", {"options": {}}, ["options"]),
    ("options a string", {"options": "ab"}, ["options"]),
    ("options a number", {"options": 2}, ["options"]),
    ("101 options", options(*[{"title": "a"}] * 101), ["options"]),
    ("option null", options({"title": "a"}, None), ["options[1]"]),
    ("option a string", options("yes", {"title": "a"}), ["options[0]"]),
    ("option a list", options([]), ["options[0]"]),
    ("option empty", options({}), ["options[0].title"]),
    ("option title null", option(title=None), ["options[1].title"]),
    ("option title empty", option(title=""), ["options[1].title"]),
    ("option title of 256", option(title="x" * 256), ["options[1].title"]),
    ("option title a number", option(title=1), ["options[1].title"]),
    ("option id a number", option(id=1), ["options[1].id"]),
    ("option id empty", option(id=""), ["options[1].id"]),
    ("option id of 65", option(id="x" * 65), ["options[1].id"]),
    ("option id with a space", option(id="a b"), ["options[1].id"]),
    ("option id with a dot", option(id="a.b"), ["options[1].id"]),
    ("option id with a dollar", option(id="$a"), ["options[1].id"]),
    ("option id not ASCII", option(id="é"), ["options[1].id"]),
    ("option id of Arabic digits", option(id="\u0661"), ["options[1].id"]),
    ("option id with a line end", option(id="a\n"), ["options[1].id"]),
    ("option id with NUL", option(id="a\0"), ["options[1].id"]),
    (
        "option id twice",
        options({"id": "1", "title": "a"}, {"id": "1", "title": "b"}),
        ["options[1].id"],
    ),
    (
        "option id three times",
        options(*[{"id": "x", "title": "a"}] * 3, {"id": "X", "title": "b"}),
        ["options[1].id", "options[2].id"],
    ),
    ("order a string", option(order="1"), ["options[1].order"]),
    ("order true", option(order=True), ["options[1].order"]),
    ("order 1.5", option(order=1.5), ["options[1].order"]),
    ("order 2^31", option(order=2**31), ["options[1].order"]),
    ("order -2^31-1", option(order=-(2**31) - 1), ["options[1].order"]),
    ("order 10^30", option(order=10**30), ["options[1].order"]),
    ("order 1e300", option(order=1e300), ["options[1].order"]),
    ("order a list", option(order=[1]), ["options[1].order"]),
    ("settings a list", {"settings": []}, ["settings"]),
    ("settings a string", {"settings": "x"}, ["settings"]),
    *chain.from_iterable(refused_settings(flag, "yes", "true", 1, 0) for flag in FLAGS),
    *refused_settings("resultsVisibility", "", "public", "AlwaysPublic", "private ", 1, []),
    *refused_settings("endDate", *NO_TIMES, 1769882400, True),
    ("an end without a date", settings(closePollOnEndDate=True), ["settings.closePollOnEndDate"]),
    (
        "an end with an empty date",
        settings(closePollOnEndDate=True, endDate=""),
        ["settings.closePollOnEndDate"],
    ),
    ("id a number", {"id": 1}, ["id"]),
    ("id empty", {"id": ""}, ["id"]),
    ("id a word", {"id": "poll-1"}, ["id"]),
    ("id without hyphens", {"id": POLL["id"].replace("-", "")}, ["id"]),
    ("id in braces", {"id": f"{{{POLL['id']}}}"}, ["id"]),
    ("id a URN", {"id": f"urn:uuid:{POLL['id']}"}, ["id"]),
    ("id with a line end", {"id": POLL["id"] + "\n"}, ["id"]),
    ("id too long", {"id": POLL["id"] + "0"}, ["id"]),
    ("an unknown member", {"question": "Tea?"}, ["question"]),
    ("two unknown members", {"$where": 1, "a.b": 1}, ["$where", "a.b"]),
    ("an unknown member of an option", option(is_correct=True), ["options[1].is_correct"]),
    ("an unknown setting", settings(allowAll=True), ["settings.allowAll"]),
    ("a setting beside the settings", {"allowRevote": True}, ["allowRevote"]),
    (
        "many faults",
        {"title": 1, "settings": {"allowRevote": 1, "x": 2}, **options({"order": "1"}, {})},
        [
            "title",
            "settings.allowRevote",
            "settings.x",
            "options[0].order",
            "options[0].title",
            "options[1].title",
        ],
    ),
]

BAD_NEW = [
    pytest.param({"options": []}, ["options"], id="no options at all"),
    pytest.param({"results": {}}, ["results"], id="results"),
]

GOOD = [
    pytest.param({"title": "x"}, id="title of 1"),
    pytest.param({"title": "x" * 255}, id="title of 255"),
    pytest.param({"title": "\U0001f600" * 255}, id="title of 255 emoji"),
    pytest.param({"title": " \u202ea\u200d\ufeff "}, id="title with format characters"),
    pytest.param({"title": "\u2764\ufe0f"}, id="title of an emoji"),
    pytest.param({"title": "\u0301"}, id="title of a combining mark"),
    pytest.param({"title": "\U0001f468\u200d\U0001f469\u200d\U0001f467"}, id="title of a family"),
    pytest.param({"description": "a\r\n\tb\0"}, id="description of lines"),
    pytest.param({"description": " "}, id="description of a space"),
    pytest.param({"description": ""}, id="description empty"),
    pytest.param({"description": "é" * 4000}, id="description of 4000"),
    pytest.param(option(id="x" * 64), id="option id of 64"),
    pytest.param(option(id="__proto__"), id="option id of a prototype"),
    pytest.param(option(id="-_-"), id="option id of signs"),
    pytest.param(option(id="007"), id="option id with zeros"),
    pytest.param(option(title="x" * 255), id="option title of 255"),
    pytest.param(option(title="\u200b."), id="option title with a zero-width space"),
    pytest.param(option(order=2**31 - 1), id="order 2^31-1"),
    pytest.param(option(order=-(2**31)), id="order -2^31"),
    pytest.param(options({"title": "only"}), id="one option"),
    pytest.param(options(*[{"title": "a"}] * 100), id="100 options"),
    pytest.param(options({"title": "same"}, {"title": "same"}), id="equal titles"),
    pytest.param({"settings": {}}, id="no settings"),
    pytest.param(settings(closePollOnEndDate=True, endDate=TIMES[1]), id="an end with a date"),
    *[
        pytest.param(settings(resultsVisibility=value), id=value)
        for value in ("alwaysPublic", "afterVote", "afterClose", "private")
    ],
    *[pytest.param(settings(endDate=value), id=f"endDate {value}") for value in TIMES],
]


def changed(members: Json) -> bytes:
    poll = {name: value for name, value in a_poll(**members).items() if value is not ...}
    return json.dumps(poll).encode()


async def send(api: Client, method: str, query: dict[str, str], body: bytes) -> Any:
    headers = {"Content-Type": "application/json"}
    return await api.request(method, "/rest", params=query, data=body, headers=headers)


@pytest.mark.parametrize(("members", "fields"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
async def test_a_bad_poll_is_refused_by_the_name_of_its_faults(
    api: Client, raw: Raw, members: Json, fields: Fields
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    body = changed(members)
    await refused(await send(api, "POST", ISSUE, body), 400, fields)
    await refused(await send(api, "PUT", QUERY, body), 400, fields)
    assert everything(raw) == before


@pytest.mark.parametrize(("members", "fields"), BAD_NEW)
async def test_what_a_put_takes_may_be_refused_in_a_post(
    api: Client, raw: Raw, members: Json, fields: Fields
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    await refused(await send(api, "POST", ISSUE, changed(members)), 400, fields)
    assert everything(raw) == before
    assert (await send(api, "PUT", QUERY, changed(members))).status == 200


async def test_a_put_under_another_id_is_refused(api: Client, raw: Raw) -> None:
    seed(raw, ISSUE, POLL, document(2))
    before = everything(raw)
    body = changed({"id": document(2)["id"]})
    await refused(await send(api, "PUT", QUERY, body), 400, ["id"])
    assert everything(raw) == before
    letters = {**ISSUE, "pollId": POLL["id"].upper()}
    assert (await send(api, "PUT", letters, changed({"id": POLL["id"].upper()}))).status == 200


@pytest.mark.parametrize("members", GOOD)
async def test_the_outermost_values_are_taken_and_come_back_as_sent(
    api: Client, raw: Raw, members: Json
) -> None:
    response = await send(api, "POST", ISSUE, changed(members))
    assert response.status == 200, (await response.text())[:500]
    created = await response.json()
    for name in ("title", "description"):
        assert created[name] == members.get(name, created[name])
    assert created["settings"].items() >= members.get("settings", {}).items()
    for sent in members.get("options", []):
        assert any(shown.items() >= sent.items() for shown in created["options"])
    assert await (await api.get("/rest", params=ISSUE)).json() == [created]
    [stored] = stored_polls(raw)
    assert stored["title"] == created["title"]
    assert stored["settings"] == created["settings"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{" + b",".join(b'"%d":0' % n for n in range(90_000)) + b"}", id="members"),
        pytest.param(b'{"title":"a","options":[' + b"{}," * 340_000 + b"{}]}", id="options"),
        pytest.param(
            b'{"title":"a","settings":{' + b",".join(b'"%d":0' % n for n in range(90_000)) + b"}}",
            id="settings",
        ),
        pytest.param(
            b'{"title":"a","options":['
            + b",".join(
                b'{"title":"a",%s}' % b",".join(b'"%d":0' % n for n in range(900))
                for _ in range(100)
            )
            + b"]}",
            id="members of options",
        ),
    ],
)
async def test_a_megabyte_of_faults_is_answered_quickly_and_briefly(
    api: Client, raw: Raw, body: bytes
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    assert len(body) < 1024 * 1024
    for method, query in (("POST", ISSUE), ("PUT", QUERY)):
        started = time.monotonic()
        response = await send(api, method, query, body)
        assert response.status == 400
        assert time.monotonic() - started < 5
        assert len(await response.read()) < 100_000
        assert len((await response.json())["errors"]) <= 101
    assert everything(raw) == before
