"""A header that stalls a process with ``multipart`` before 1.3.1, the lowest version allowed."""

import pytest

from tests.conftest import Client

NEVER_CLOSED = 'multipart/form-data; boundary="' + "\\" * 60


@pytest.mark.timeout(30)
async def test_a_boundary_that_was_written_to_stall_the_parser_is_refused_at_once(
    api: Client,
) -> None:
    headers = {"Content-Type": NEVER_CLOSED}
    answer = await api.post("/api/v1/polls", data=b"--\r\n", headers=headers)
    assert answer.status == 400
    problem = await answer.json()
    assert "is not a multipart form" in problem["errors"][0]["message"]
