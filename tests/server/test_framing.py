"""Where a body ends is found however it arrives, and what is no body is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.server.framing import MAX_LINE_BYTES, MAX_TRAILERS, Chunked, Sized

CHUNKS = (
    b'5;a;b=1\r\nhello\r\nA;name="x;\\"\xe9"\r\n0123\r\n0\r\n\r\r\n'
    b"0\r\nTrailer: 1\r\nHosted: \xe9\r\n\r\n"
)
BEHIND = b"GET / HTTP/1.1\r\n\r\n"


def taken(body: Sized | Chunked, data: bytes, cuts: list[int]) -> int:
    """How much of ``data`` the body takes if it arrives in pieces."""
    total = 0
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        piece = data[begin:end]
        step = body.take(piece)
        total += step
        assert step == len(piece) or body.is_complete
    return total


def in_pieces(data: bytes) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, len(data))).map(sorted)


@given(in_pieces(CHUNKS + BEHIND))
def test_a_chunked_body_ends_where_it_ends(cuts: list[int]) -> None:
    body = Chunked()
    assert taken(body, CHUNKS + BEHIND, cuts) == len(CHUNKS)
    assert body.is_complete


@given(in_pieces(CHUNKS[:-1]))
def test_a_chunked_body_without_its_end_is_not_complete(cuts: list[int]) -> None:
    body = Chunked()
    assert taken(body, CHUNKS[:-1], cuts) == len(CHUNKS) - 1
    assert not body.is_complete


@given(st.integers(1, 40), in_pieces(b"x" * 50))
def test_a_sized_body_ends_after_its_length(length: int, cuts: list[int]) -> None:
    body = Sized(length)
    assert taken(body, b"x" * 50, cuts) == length
    assert body.is_complete


@pytest.mark.parametrize(
    "broken",
    [
        *(b"x\r\n", b"\r\n", b"-1\r\n", b"0x1\r\n", b"1\n", b" 1\r\n", b"1 \r\n", b"1\rx\r\n"),
        *(b"f" * 16 + b"\r\n", b"1;" + b"x" * MAX_LINE_BYTES),
        *(b"1;\r\n", b"1; a=b\r\n", b"1;a =b\r\n", b"1;;a\r\n", b"1;a;\r\n", b"1;\xe9\r\n"),
        *(b'1;a="b\r\n', b'1;a="b"c\r\n', b'1;a="\x00"\r\n', b"1;a\t\r\n", b"1;a=b=c\r\n"),
        *(b"1\r\nxx\r\n", b"1\r\nx\n", b"1\r\nx\n\r\n"),
        *(b"0\r\nHost: x\r\n", b"0\r\ncontent-length: 1\r\n", b"0\r\nA: \0\r\n"),
        b"0\r\n" + b"A: 1\r\n" * (MAX_TRAILERS + 1),
        *(b"0\r\nno trailer\r\n", b"0\r\n\n", b"0\r\n: 1\r\n", b"0\r\nA: 1\rB: 2\r\n"),
    ],
)
def test_malformed_chunks_are_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        Chunked().take(broken)
