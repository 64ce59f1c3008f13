from typing import Any

from tests.conftest import Client, Raw

PLACE = {"type": "polls", "workspace": "PLAT", "content": "PLAT-254604"}


async def test_a_poll_that_was_created_is_read_back(api: Client, raw: Raw) -> None:
    poll: dict[str, Any] = {"title": "Tea?", "options": [{"title": "yes"}, {"title": "no"}]}
    created = await api.post("/rest", params=PLACE, json=poll)
    assert created.status == 200
    stored = await created.json()
    listed = await api.get("/rest", params=PLACE)
    assert await listed.json() == [stored]
    assert raw.containers.count_documents({}) == 1
