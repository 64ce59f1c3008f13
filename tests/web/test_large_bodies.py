"""Bodies that were made to cost: they are refused before all of them is looked at.

A process answers one request at a time, so what stalls one stalls all.
"""

import gzip
import io
import time
from collections.abc import Callable

import pytest

from tests.conftest import Client, Raw
from tests.support.casting import OPTIONS, Run, answered, content_run, course_run
from tests.support.seeds import ISSUE, Json, a_poll, refused

SIZE = 1024 * 1024
SECONDS = 0.075
"""Of CPU, the client's share included. Without bounds, all of these take 0.09 to 0.7 s."""
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PACKED = {**JSON, "Content-Encoding": "gzip"}

Headers = dict[str, str]
Route = Callable[[Run], tuple[str, str, Headers]]

CONTENT: dict[str, Route] = {
    "create a content poll": lambda run: ("POST", "/rest", run.place),
    "replace a content poll": lambda run: ("PUT", "/rest", run.query),
    "vote": lambda run: ("POST", "/rest", run.votes),
}
POLLING: dict[str, Route] = {
    "create a poll": lambda _: ("POST", "/api/v1/polls", {}),
    "update a poll": lambda run: ("PUT", run.poll_url, {}),
    "submit": lambda run: ("POST", run.submissions, {}),
}


def members(count: int) -> bytes:
    return b",".join(b'"%x":1' % number for number in range(count))


def filled(begin: bytes, unit: bytes, end: bytes = b"") -> bytes:
    """``unit`` as often as it fits."""
    return begin + unit * ((SIZE - len(begin) - len(end)) // len(unit)) + end


ROOTS = b'{"polls":[{"question":"?","x":%s}],"poll_submissions":[{"poll_choice_id":1,"x":%s}]}'
OF_CONTENT = {
    "unknown members": b"{" + members(100_000) + b"}",
    "options with unknown members": (
        b'{"title":"?","options":[' + b",".join([b"{" + members(1_000) + b"}"] * 100) + b"]}"
    ),
    "empty lists": filled(b'{"title":"?","options":[', b"[],", b"[]]}"),
    "results of lists": filled(b'{"title":"?","options":[],"results":[', b"[],", b"[]]}"),
    "brackets that close nothing": filled(b"[" * 101, b"]"),
    "strings without commas": filled(b"[" * 60 + b"]" * 60 + b"[" * 60, b'""'),
    "a string without an end": filled(b"[" * 60 + b"]" * 60 + b'["', b'\\",['),
}
OF_POLLING = {
    "unknown members": ROOTS.replace(b"%s", b"{" + members(50_000) + b"}"),
    "lists in an unknown member": filled(
        b'{"polls":[{"question":"?"}],"poll_submissions":[{"poll_choice_id":1}],"x":[',
        b"[],",
        b"[]]}",
    ),
}
FORMS = {
    "percent signs": filled(b"", b"%"),
    "percent signs in a value": filled(b"polls[][question]=", b"%"),
    "escapes": filled(b"polls[][question]=", b"%41"),
    "escapes between other characters": filled(b"polls[][question]=", "ä%41".encode()),
    "brackets": filled(b"polls", b"[]") + b"&" + filled(b"poll_submissions", b"[]")[: SIZE // 2],
}
CASES = [
    *[(kind, route, JSON, body) for kind, body in OF_CONTENT.items() for route in CONTENT],
    *[(kind, route, JSON, body) for kind, body in OF_POLLING.items() for route in POLLING],
    *[(kind, route, FORM, body) for kind, body in FORMS.items() for route in POLLING],
    ("members of gzip", "vote", PACKED, filled(b"", gzip.compress(b""))),
]


@pytest.fixture
async def run(api: Client, raw: Raw) -> Run:
    return await content_run(api, raw, allowRevote=True)


@pytest.mark.parametrize(
    ("route", "headers", "body"),
    [pytest.param(*row[1:], id=f"{row[1]}: {row[0]}") for row in CASES],
)
async def test_a_large_body_is_refused_before_all_of_it_is_looked_at(
    api: Client, run: Run, route: str, headers: Headers, body: bytes
) -> None:
    method, path, query = {**CONTENT, **POLLING}[route](run)
    taken = []
    for number in range(3):
        begun = time.process_time()
        answer = await api.request(
            method,
            path,
            params=query,
            data=io.BytesIO(body[:SIZE]),
            headers={**headers, "Idempotency-Key": f"large {number}"},
        )
        await answer.read()
        taken.append(time.process_time() - begun)
        await refused(answer, 400, [(await answer.json())["errors"][0]["field"]])
    assert min(taken) < SECONDS


async def test_a_large_body_that_clients_do_send_is_taken(api: Client, raw: Raw) -> None:
    run = await course_run(api, raw)
    submission = {
        "id": 2**49,
        "poll_session_id": 1,
        "poll_choice_id": 144,
        "user_id": 2**49,
        "created_at": "2014-01-07T15:16:18Z",
        "comment": "x" * 500,
        "poll_choice_ids": [1, 2],
    }
    session = {"has_public_results": True, "poll_submissions": [submission] * 1_000}
    body = {"poll_sessions": [session]}
    await answered(await api.put(run.url, json=body))
    text = "[{,}]" * 51
    body = a_poll(
        description="{" * 4_000,
        options=[{**OPTIONS[0], "id": str(number), "title": text} for number in range(100)],
    )
    poll = await answered(await api.post("/rest", params=ISSUE, json=body))
    assert [option["title"] for option in poll["options"]] == [text] * 100
    question = "選" * 255
    fields = {f"poll_choices[{number}][text]": question for number in range(97)}
    made = await answered(await api.post(f"{run.poll_url}/poll_choices", data=fields))
    assert made["poll_choices"][0]["text"] == question


# Depth ------------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    """Half of them lists, half of them objects."""
    return b'[{"a":' * (levels // 2) + b"1" + b"}]" * (levels // 2)


DEEP = {
    "all of it": b"%s",
    "a known member": b'{"title":%s,"options":[{"title":"yes"}],"optionIds":["1"]}',
    "an unknown member": b'{"optionIds":["1"],"polls":[{"question":"?","x":%s}],'
    b'"poll_submissions":[{"poll_choice_id":1,"x":%s}]}',
    "results": b'{"title":"?","options":[],"results":%s}',
    "beside strings": b'{"x":"]]]\\\\","y":"\\"]","title":%s}',
}


@pytest.mark.parametrize("route", [*CONTENT, *POLLING])
@pytest.mark.parametrize("kind", DEEP)
async def test_a_body_that_is_nested_deeply_is_a_bad_request(
    api: Client, raw: Raw, run: Run, kind: str, route: str
) -> None:
    method, path, query = {**CONTENT, **POLLING}[route](run)
    for levels in (102, 1_000, 100_000):
        body = DEEP[kind].replace(b"%s", nested(levels))
        for headers in (JSON, {**JSON, "Idempotency-Key": "deep"}):
            answer = await api.request(method, path, params=query, data=body, headers=headers)
            await refused(answer, 400, ["body"])
    assert raw.ballots.count_documents({}) == 0
    assert raw.idempotency.count_documents({}) == 0
    assert raw.containers.count_documents({}) == 1


async def test_a_body_that_is_nested_less_is_taken_and_replayed(api: Client) -> None:
    """Unknown members are ignored, whatever is in them."""
    headers = {**JSON, "Idempotency-Key": "not so deep"}
    made: list[Json] = []
    for _ in range(2):
        body = b'{"polls":[{"question":"?","x":' + nested(90) + b"}]}"
        made.append(await answered(await api.post("/api/v1/polls", data=body, headers=headers)))
    assert made[0] == made[1]
