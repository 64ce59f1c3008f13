"""How often the database is asked: a failing command shows that it was not needed."""

from collections.abc import Iterator

import pytest

from storage.store import Store
from tests.conftest import Raw


@pytest.fixture
def no_second_batch(raw: Raw) -> Iterator[None]:
    """Lets every ``getMore`` on the server fail."""
    point = {"configureFailPoint": "failCommand"}
    data = {"failCommands": ["getMore"], "errorCode": 8}
    raw.client.admin.command({**point, "mode": "alwaysOn", "data": data})
    yield
    raw.client.admin.command({**point, "mode": "off"})


@pytest.mark.usefixtures("no_second_batch")
async def test_a_read_of_many_documents_is_one_round_trip(store: Store, raw: Raw) -> None:
    sessions = range(1, 151)
    raw.ballots.insert_many(
        {"_id": store.ballots.id_of(number, 7), "session_id": number, "number": 1}
        for number in sessions
    )

    assert (await store.ballots.find_all(sessions, 7)).keys() == set(sessions)
    assert await store.ballots.find(1, 7) is not None
