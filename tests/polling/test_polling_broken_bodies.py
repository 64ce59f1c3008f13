"""Broken, large and unsupported bodies of the polling API are refused, never a 500."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest

from service.polling.forms import MAX_FIELDS
from service.settings import MAX_BODY_BYTES
from tests.conftest import ADMIN, Client, Raw, TokenMaker

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=cut"}
TEXT = {"Content-Type": "text/plain"}
TOO_BIG = b"a" * (MAX_BODY_BYTES + 1)


@pytest.fixture
async def sessions(api: Client) -> str:
    """The path of the sessions of a poll."""
    created = await api.post("/api/v1/polls", json={"polls": [{"question": "Tea?"}]})
    poll = (await created.json())["polls"][0]
    return f"/api/v1/polls/{poll['id']}/poll_sessions"


def part(name: str, value: bytes, *headers: str) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"', *headers]
    return b"--cut\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + value + b"\r\n"


COURSE = part("poll_sessions[][course_id]", b"5")
END = b"--cut--\r\n"
INNER = b"--in\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--in--"


async def refusal(api: Client, sessions: str, raw: Raw, **request: Any) -> tuple[int, list[str]]:
    response = await api.post(sessions, **request)
    assert response.content_type == "application/problem+json"
    errors = (await response.json())["errors"]
    assert raw.sessions.count_documents({}) == 0
    return response.status, [error["field"] for error in errors]


BROKEN_MULTIPART = {
    "no boundary": ("multipart/form-data", COURSE + END),
    "an empty boundary": ('multipart/form-data; boundary=""', COURSE + END),
    "another boundary": ("multipart/form-data; boundary=other", COURSE + END),
    "no end": ("multipart/form-data; boundary=cut", COURSE),
    "half a part": ("multipart/form-data; boundary=cut", COURSE[:60]),
    "no bytes": ("multipart/form-data; boundary=cut", b""),
    "a part without a name": (
        "multipart/form-data; boundary=cut",
        b"--cut\r\nContent-Disposition: form-data\r\n\r\n5\r\n" + END,
    ),
    "a part without headers": ("multipart/form-data; boundary=cut", b"--cut\r\n\r\n5\r\n" + END),
    "a header that is none": (
        "multipart/form-data; boundary=cut",
        part("a", b"5", "no header at all") + END,
    ),
    "2,000 parts": ("multipart/form-data; boundary=cut", COURSE * 2000 + END),
    "a value that is no UTF-8": (
        "multipart/form-data; boundary=cut",
        part("poll_sessions[][course_id]", b"\xff5") + END,
    ),
    "a name that is no UTF-8": (
        "multipart/form-data; boundary=cut",
        COURSE.replace(b"course_id", b"\xff") + END,
    ),
    "a value in another charset": (
        "multipart/form-data; boundary=cut",
        part("a", "\xe9".encode("latin-1"), "Content-Type: text/plain; charset=latin-1") + END,
    ),
}


@pytest.mark.parametrize("broken", BROKEN_MULTIPART)
async def test_broken_multipart_is_a_fault_of_the_body(
    api: Client, sessions: str, raw: Raw, broken: str
) -> None:
    content_type, body = BROKEN_MULTIPART[broken]
    headers = {"Content-Type": content_type}
    assert await refusal(api, sessions, raw, data=body, headers=headers) == (400, ["body"])


async def test_every_truncation_of_a_multipart_body_is_refused(
    api: Client, sessions: str, raw: Raw
) -> None:
    body = COURSE + part("poll_sessions[][has_public_results]", b"true") + b"--cut--"
    for length in range(0, len(body), 7):
        status, _ = await refusal(api, sessions, raw, data=body[:length], headers=MULTIPART)
        assert (length, status) == (length, 400)


async def test_files_are_ignored_and_parts_within_parts_are_not_read(
    api: Client, sessions: str
) -> None:
    file = COURSE.replace(b"\r\n\r\n5", b'; filename="a.bin"\r\n\r\n\xff\x00')
    nested = part("other", INNER, "Content-Type: multipart/mixed; boundary=in")
    for body in (file + COURSE, COURSE + file, nested + COURSE):
        response = await api.post(sessions, data=body + END, headers=MULTIPART)
        assert response.status == 200
        assert (await response.json())["poll_sessions"][0]["course_id"] == 5


async def test_a_part_is_read_as_utf_8_whatever_charset_it_claims(
    api: Client, sessions: str
) -> None:
    for charset in ("klingon", "utf-16", "utf-8", "\x7f"):
        claim = f"Content-Type: text/plain; charset={charset}"
        body = part("poll_sessions[][course_id]", b"5", claim) + END
        headers = {"Content-Type": f"{MULTIPART['Content-Type']}; charset=klingon"}
        response = await api.post(sessions, data=body, headers=headers)
        assert (charset, response.status) == (charset, 200)


@pytest.mark.parametrize("fields", [MAX_FIELDS + 1, 10_000])
async def test_too_many_fields_are_a_fault_of_the_body(
    api: Client, sessions: str, raw: Raw, fields: int
) -> None:
    data = "&".join(["poll_sessions[][course_id]=5"] * fields)
    assert await refusal(api, sessions, raw, data=data, headers=FORM) == (400, ["body"])
    body = COURSE * fields + END
    status, faulty = await refusal(api, sessions, raw, data=body, headers=MULTIPART)
    assert (status, faulty) == (400, ["body"])


async def test_as_many_fields_as_are_allowed_are_read(api: Client, sessions: str) -> None:
    others = MAX_FIELDS - 1
    data = "poll_sessions[][course_id]=5" + "&other=5" * others
    response = await api.post(sessions, data=data, headers=FORM)
    assert response.status == 200
    body = COURSE + part("other", b"5") * others + END
    response = await api.post(sessions, data=body, headers=MULTIPART)
    assert response.status == 200


async def test_a_form_that_is_not_utf_8_is_a_fault_of_the_body(
    api: Client, sessions: str, raw: Raw
) -> None:
    for data in (b"poll_session[course_id]=%ff", b"%c3=1", b"poll_session[course_id]=\xff"):
        assert await refusal(api, sessions, raw, data=data, headers=FORM) == (400, ["body"])
        response = await api.post(sessions, data=data, headers=FORM)
        assert (await response.json())["detail"] == "body must be UTF-8"


async def test_a_malformed_field_name_is_named(api: Client, sessions: str, raw: Raw) -> None:
    for name in ("poll_sessions[", "poll_sessions", "poll_sessions[][a][]", "poll_session[a][b]"):
        expected = (400, [name])
        assert await refusal(api, sessions, raw, data=f"{name}=5", headers=FORM) == expected
        body = part(name, b"5") + END
        assert await refusal(api, sessions, raw, data=body, headers=MULTIPART) == expected


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"nul", b'{"poll_sessions": NaN}', b"[" * 100_000, b"[]", b'"a"']
)
async def test_malformed_json_and_json_other_than_an_object_are_faults_of_the_body(
    api: Client, sessions: str, raw: Raw, data: bytes
) -> None:
    assert await refusal(api, sessions, raw, data=data, headers=JSON) == (400, ["body"])


async def test_json_of_another_shape_is_named(api: Client, sessions: str, raw: Raw) -> None:
    for name, value in (("poll_sessions", [1]), ("poll_session", "a"), ("poll_sessions", None)):
        assert await refusal(api, sessions, raw, json={name: value}) == (400, [name])


# In which order --------------------------------------------------------------------------------


async def test_the_size_is_checked_before_the_type_and_the_type_before_the_content(
    api: Client, sessions: str, raw: Raw
) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(TOO_BIG), 2**16):
            yield TOO_BIG[start : start + 2**16]

    for headers in (TEXT, FORM, JSON, MULTIPART):
        status, _ = await refusal(api, sessions, raw, data=BytesIO(TOO_BIG), headers=headers)
        assert (headers, status) == (headers, 413)
        status, _ = await refusal(api, sessions, raw, data=in_pieces(), headers=headers)
        assert (headers, status) == (headers, 413)
    for content_type in ("text/plain", "application/xml", "application/jsonx", "multipart/mixed"):
        headers = {"Content-Type": content_type}
        status, _ = await refusal(api, sessions, raw, data=b"{", headers=headers)
        assert (content_type, status) == (content_type, 415)


async def test_a_body_that_is_announced_as_too_big_is_not_waited_for(
    api: Client, sessions: str
) -> None:
    reader, writer = await asyncio.open_connection(api.host, api.port)
    head = f"POST {sessions} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n"
    writer.write(f"{head}Content-Length: {len(TOO_BIG)}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


async def test_a_body_of_exactly_the_limit_is_read(api: Client, sessions: str) -> None:
    start = b'{"poll_session": {"course_id": 5, "filling": "'
    body = start + b"a" * (MAX_BODY_BYTES - len(start) - 3) + b'"}}'
    assert len(body) == MAX_BODY_BYTES
    response = await api.post(sessions, data=BytesIO(body), headers=JSON)
    assert response.status == 200


async def test_existence_and_rights_are_checked_before_the_body(
    api: Client, sessions: str, raw: Raw, make_token: TokenMaker
) -> None:
    stranger = await make_token(user_id=8)
    for headers, body in ((TEXT, TOO_BIG), (TEXT, b"{"), (JSON, b"{")):
        request: dict[str, Any] = {"data": BytesIO(body), "headers": {**headers, **stranger}}
        status, _ = await refusal(api, sessions, raw, **request)
        assert status == 403
        request = {"data": BytesIO(body), "headers": headers}
        response = await api.post("/api/v1/polls/999/poll_sessions", **request)
        assert response.status == 404
    status, _ = await refusal(api, sessions, raw, data=b"{", headers={**JSON, "Authorization": ""})
    assert status == 403
