"""Requests that are refused for their query, headers, media type or JSON: nothing is stored."""

import asyncio
import gzip
import io
import zlib
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.conftest import Client, Raw
from tests.support.seeds import ISSUE, a_poll, document, everything, refused, seed

Fields = list[str | None] | None

POLL = document(1)
GOOD = orjson.dumps(a_poll())
PLACE = "type=polls&workspace=PLAT&content=PLAT-254604"
JSON = {"Content-Type": "application/json"}
LIMIT = 1024 * 1024


def flushed(body: bytes, window: int) -> bytes:
    """All of it, compressed, but without the end of the stream."""
    compressor = zlib.compressobj(wbits=window)
    return compressor.compress(body) + compressor.flush(zlib.Z_SYNC_FLUSH)


QUERIES: list[tuple[str, list[str | None]]] = [
    ("", ["type", "workspace", "content"]),
    ("?", ["type", "workspace", "content"]),
    ("workspace=W&content=W-1", ["type"]),
    ("type=&workspace=W&content=W-1", ["type"]),
    ("type=poll&workspace=W&content=W-1", ["type"]),
    ("type=Polls&workspace=W&content=W-1", ["type"]),
    ("type=polls%20&workspace=W&content=W-1", ["type"]),
    ("type=polls&type=polls&workspace=W&content=W-1", ["type"]),
    ("type=polls&content=W-1", ["workspace"]),
    ("type=polls&workspace=&content=W-1", ["workspace"]),
    ("type=polls&workspace&content=W-1", ["workspace"]),
    ("type=polls&workspace=W&workspace=V&content=W-1", ["workspace"]),
    ("type=polls&workspace=W&workspace=&content=W-1", ["workspace"]),
    (f"type=polls&workspace={'w' * 256}&content=W-1", ["workspace"]),
    ("type=polls&workspace=a%00b&content=W-1", ["workspace"]),
    ("type=polls&workspace=a%1Fb&content=W-1", ["workspace"]),
    ("type=polls&workspace=a%7Fb&content=W-1", ["workspace"]),
    ("type=polls&workspace=a%C2%85b&content=W-1", ["workspace"]),
    ("type=polls&workspace=%FF&content=W-1", ["workspace"]),
    ("type=polls&workspace=%ED%A0%80&content=W-1", ["workspace"]),
    ("type=polls&workspace=%C0%80&content=W-1", ["workspace"]),
    ("Type=polls&Workspace=W&Content=W-1", ["type", "workspace", "content"]),
    ("type=polls&content=W-1", ["workspace"]),
    ("type=polls&workspace=W&container=c", ["content"]),
    ("type=polls&workspace=W&content=", ["content"]),
    ("type=polls&workspace=W&content=W-1&content=W-1", ["content"]),
    (f"type=polls&workspace=W&content={'1' * 256}&container=c", ["content"]),
    ("type=polls&workspace=W&content=1%0A&container=c", ["content"]),
    ("type=polls&workspace=W&content=%F0%9F&container=c", ["content"]),
    ("type=polls&workspace=W&content=W-1%00", ["content"]),
    ("type=polls&workspace=W&content=1", ["container"]),
    ("type=polls&workspace=W&content=1&container=", ["container"]),
    ("type=polls&workspace=W&content=1&container=c&container=d", ["container"]),
    (f"type=polls&workspace=W&content=1&container={'c' * 256}", ["container"]),
    ("type=polls&workspace=W&content=1&container=a%09b", ["container"]),
    ("type=polls&workspace=W&content=1&container=%80", ["container"]),
    ("type=polls&workspace=W&content=W-1&container=c", ["container"]),
    ("type=polls&workspace=W&content=W-1&container=&container=c", ["container"]),
    ("type=x&workspace=&content=1", ["type", "workspace", "container"]),
    (f"{PLACE}&pollId=", ["pollId"]),
    (f"{PLACE}&pollId={POLL['id']}&pollId={POLL['id']}", ["pollId"]),
    (f"{PLACE}&pollId={'a' * 256}", ["pollId"]),
    (f"{PLACE}&pollId=%00", ["pollId"]),
    (f"{PLACE}&pollId=%FF", ["pollId"]),
]

BODIES: dict[str, bytes] = {
    "empty": b"",
    "white space": b" \n\t ",
    "a word": b"poll",
    "truncated": GOOD[:-1],
    "a second value": GOOD + b"{}",
    "a trailing comma": GOOD[:-1] + b",}",
    "single quotes": GOOD.replace(b'"', b"'"),
    "a comment": b"/* poll */" + GOOD,
    "NaN": b'{"title": NaN}',
    "Infinity": b'{"title": -Infinity}',
    "a number of no number": b'{"title": 01}',
    "a hexadecimal number": b'{"title": 0x1}',
    "True": b'{"title": True}',
    "invalid UTF-8": GOOD.replace(b"Tea", b"\xff"),
    "overlong UTF-8": GOOD.replace(b"Tea", b"\xc0\x80"),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "two byte order marks": b"\xef\xbb\xbf" * 2 + GOOD,
    "a lone surrogate": GOOD.replace(b"Tea", b"\\ud800"),
    "a raw surrogate": GOOD.replace(b"Tea", b"\xed\xa0\x80"),
    "a raw control character": GOOD.replace(b"Tea", b"a\nb"),
    "a depth of 2000": b"[" * 2000 + b"]" * 2000,
    "an open depth of a million": b"[" * 1_000_000,
    "brackets closed twice": b"{}}",
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a string": b'"poll"',
    "a list": b"[]",
    "a list of a poll": b"[" + GOOD + b"]",
    "a deep list": b"[" * 900 + b"]" * 900,
}

MEDIA: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "no type at all": "json",
    "a form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
    "text": "text/plain",
    "JSON as text": "text/json",
    "another JSON": "application/vnd.api+json",
    "a list of types": "application/json, text/plain",
}


async def expect_unchanged(
    api: Client, raw: Raw, body: bytes, headers: dict[str, str], status: int, fields: Fields = None
) -> None:
    """The body is refused in a POST and in a PUT, and the store is left as it was."""
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    for method, query in (("POST", PLACE), ("PUT", f"{PLACE}&pollId={POLL['id']}")):
        # A connection of its own: the server may end one whose body it could not read.
        response = await api.request(
            method,
            f"/rest?{query}",
            data=io.BytesIO(body),
            headers={"Connection": "close", **headers},
            skip_auto_headers=["Content-Type"],
        )
        await refused(response, status, fields)
    assert everything(raw) == before


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("query", "fields"), [pytest.param(*row, id=row[0][:60] or "no query") for row in QUERIES]
)
async def test_a_bad_query_is_refused(
    api: Client, raw: Raw, method: str, query: str, fields: list[str | None]
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    response = await api.request(method, f"/rest?{query}", data=GOOD, headers=JSON)
    if method in ("PUT", "DELETE") and "pollId" not in query:
        fields = [*fields, "pollId"]
    await refused(response, 400, fields)
    assert everything(raw) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_change_needs_the_id_of_a_poll(api: Client, raw: Raw, method: str) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    response = await api.request(method, f"/rest?{PLACE}", data=GOOD, headers=JSON)
    problem = await refused(response, 400, ["pollId"])
    assert problem["detail"] == "pollId is missing from the query"
    assert everything(raw) == before


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_other_than_a_json_object_is_refused(
    api: Client, raw: Raw, body: bytes
) -> None:
    await expect_unchanged(api, raw, body, JSON, 400, ["body"])


@pytest.mark.parametrize("media", MEDIA.values(), ids=MEDIA)
async def test_a_body_of_another_media_type_is_refused(
    api: Client, raw: Raw, media: str | None
) -> None:
    headers = {"Content-Type": media} if media is not None else {}
    await expect_unchanged(api, raw, GOOD, headers, 415)


@pytest.mark.parametrize(
    "media", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
async def test_json_is_taken_under_each_spelling(api: Client, media: str) -> None:
    response = await api.post(f"/rest?{PLACE}", data=GOOD, headers={"Content-Type": media})
    assert response.status == 200


@pytest.mark.parametrize("media", ["application/json", "text/plain"])
async def test_a_body_over_the_limit_is_refused_before_its_type_is_looked_at(
    api: Client, raw: Raw, media: str
) -> None:
    await expect_unchanged(api, raw, GOOD + b" " * LIMIT, {"Content-Type": media}, 413)


async def test_a_body_over_the_limit_is_refused_in_chunks_too(api: Client, raw: Raw) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * (LIMIT // 16)
            await asyncio.sleep(0)

    seed(raw, ISSUE, POLL)
    before = everything(raw)
    await refused(await api.post(f"/rest?{PLACE}", data=chunks(), headers=JSON), 413)
    assert everything(raw) == before


async def test_a_body_of_exactly_the_limit_is_taken(api: Client, raw: Raw) -> None:
    body = GOOD.ljust(LIMIT)
    taken = await api.post(f"/rest?{PLACE}", data=io.BytesIO(body), headers=JSON)
    assert taken.status == 200
    over = await api.post(f"/rest?{PLACE}", data=io.BytesIO(body + b" "), headers=JSON)
    await refused(over, 413)
    assert len(raw.containers.find()[0]["polls"]) == 1


async def test_a_body_that_grows_over_the_limit_when_it_is_unpacked_is_refused(
    api: Client, raw: Raw
) -> None:
    body = gzip.compress(GOOD + b" " * 50 * LIMIT)
    assert len(body) < LIMIT
    headers = {**JSON, "Content-Encoding": "gzip"}
    await expect_unchanged(api, raw, body, headers, 413)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", GOOD, id="gzip of nothing packed"),
        pytest.param("gzip", b"\x1f\x8b garbage", id="gzip of garbage"),
        pytest.param("gzip", gzip.compress(GOOD)[:-20], id="gzip cut short"),
        pytest.param("gzip", gzip.compress(GOOD)[:-8], id="gzip without its check"),
        pytest.param("gzip", gzip.compress(GOOD)[:-1], id="gzip without its last byte"),
        pytest.param("gzip", flushed(GOOD, 31), id="gzip that says all but is not ended"),
        pytest.param("gzip", gzip.compress(GOOD) + b"{}", id="gzip and garbage"),
        pytest.param(
            "gzip", gzip.compress(GOOD) + gzip.compress(b" ")[:-1], id="a second member cut short"
        ),
        pytest.param("gzip", gzip.compress(b"") * 1001, id="more members than anybody sends"),
        pytest.param("deflate", b"garbage", id="deflate of garbage"),
        pytest.param("deflate", zlib.compress(GOOD)[:-1], id="deflate cut short"),
        pytest.param("deflate", zlib.compress(GOOD)[2:-5], id="deflate without a header cut short"),
        pytest.param("deflate", flushed(GOOD, -15), id="deflate that says all but is not ended"),
        pytest.param("deflate", zlib.compress(GOOD) + b" ", id="deflate and garbage"),
        pytest.param("deflate", zlib.compress(GOOD) * 2, id="deflate twice"),
    ],
)
async def test_a_body_that_cannot_be_unpacked_is_refused(
    api: Client, raw: Raw, coding: str, body: bytes
) -> None:
    headers = {**JSON, "Content-Encoding": coding}
    await expect_unchanged(api, raw, body, headers, 400, ["body"])


@pytest.mark.parametrize(
    "codings",
    [
        *(["rot13"], ["gzip, gzip"], ["compress"], ["x-deflate"], ["gzip", "gzip"]),
        *(["identity", "gzip"], ["gzip", "identity"], ["", "gzip"]),
    ],
    ids=" and ".join,
)
@pytest.mark.parametrize("body", [GOOD, gzip.compress(GOOD)], ids=["plain", "packed"])
async def test_a_body_in_a_coding_that_is_not_undone_is_refused(
    api: Client, raw: Raw, codings: list[str], body: bytes
) -> None:
    """The same bytes without that header, or with one of them, would be a good poll."""
    headers = [("Content-Type", "application/json")]
    headers += [("Content-Encoding", coding) for coding in codings]
    for path in (f"/rest?{PLACE}", "/api/v1/polls"):
        answer = await api.post(path, data=io.BytesIO(body), headers=headers)
        await refused(answer, 415)
    assert everything(raw) == []


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("identity", GOOD, id="not packed"),
        pytest.param("gzip", gzip.compress(GOOD), id="gzip"),
        pytest.param("GZIP", gzip.compress(GOOD), id="gzip in capitals"),
        pytest.param("deflate", zlib.compress(GOOD), id="deflate"),
        pytest.param("deflate", zlib.compress(GOOD)[2:-4], id="deflate without a header"),
        pytest.param(
            "gzip",
            b"".join(gzip.compress(GOOD[at : at + 7]) for at in range(0, len(GOOD), 7)),
            id="gzip in members",
        ),
        pytest.param("gzip", gzip.compress(b"") * 999 + gzip.compress(GOOD), id="empty members"),
        pytest.param("gzip", gzip.compress(GOOD.ljust(LIMIT // 2), 0), id="gzip of many pieces"),
    ],
)
async def test_a_body_that_is_packed_is_taken(api: Client, coding: str, body: bytes) -> None:
    headers = {**JSON, "Content-Encoding": coding}
    response = await api.post(f"/rest?{PLACE}", data=io.BytesIO(body), headers=headers)
    assert response.status == 200
    assert (await response.json())["title"] == "Tea?"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([""], id="empty"),
        pytest.param(["k" * 256], id="256 characters"),
        pytest.param(["ké"], id="not ASCII"),
        pytest.param(["a\tb"], id="a control character"),
        pytest.param(["a", "a"], id="twice"),
    ],
)
async def test_a_bad_idempotency_key_is_refused(api: Client, raw: Raw, given: list[str]) -> None:
    headers = [("Idempotency-Key", value) for value in given]
    response = await api.post("/rest", params=ISSUE, headers=headers, json=a_poll())
    await refused(response, 400, ["Idempotency-Key"])
    assert everything(raw) == []


@pytest.mark.parametrize("given", ["sane-id:1", "", "a b", "x" * 129, "é", "a;b"])
async def test_a_refusal_carries_a_sane_request_id(api: Client, given: str) -> None:
    response = await api.get("/rest", headers={"X-Request-Id": given})
    await refused(response, 400, ["type", "workspace", "content"])
    assert (response.headers["X-Request-Id"] == given) is (given == "sane-id:1")


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "X-Gzip"])
async def test_both_names_of_gzip_are_taken(api: Client, coding: str) -> None:
    headers = {**JSON, "Content-Encoding": coding}
    taken = await api.post(f"/rest?{PLACE}", data=io.BytesIO(gzip.compress(GOOD)), headers=headers)
    assert taken.status == 200
