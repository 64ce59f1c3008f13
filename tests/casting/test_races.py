"""Requests at once: what each of them was told is what is stored."""

import asyncio
import io
from itertools import cycle
from typing import Any

import pytest
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.settings import Settings
from service.telemetry.log import RequestLog
from tests.conftest import ADMIN, Client, Clock, Raw
from tests.support.seeds import (
    ISSUE,
    PAGE,
    UNKNOWN,
    Json,
    a_poll,
    clear,
    document,
    everything,
    seed,
    stored_polls,
)

ROUNDS = 20


def query_of(number: int) -> dict[str, str]:
    return {**ISSUE, "pollId": document(number)["id"]}


class Services:
    """Two services on one store, asked in turn: what holds among them no process holds alone."""

    def __init__(self, *clients: Client) -> None:
        self._in_turn = cycle(clients)

    async def request(self, method: str, query: dict[str, str], **request: Any) -> Any:
        return await next(self._in_turn).request(method, "/rest", params=query, **request)


@pytest.fixture
async def services(
    api: Client, aiohttp_client: AiohttpClient, settings: Settings, clock: Clock
) -> Services:
    app = create_app(settings, clock=clock, request_log=RequestLog(io.BytesIO()))
    other: Client = await aiohttp_client(app, headers={"Authorization": f"Bearer {ADMIN}"})
    return Services(api, other)


async def insist(services: Services, method: str, query: dict[str, str], **request: Any) -> Any:
    """Asks again after a 503, as its ``Retry-After`` says; a slow machine may need that."""
    while True:
        response = await services.request(method, query, **request)
        if response.status != 503:
            return response
        await asyncio.sleep(float(response.headers["Retry-After"]))


@pytest.mark.parametrize("has_polls", [False, True], ids=["a new content", "one with polls"])
async def test_fifty_creations_at_once_make_fifty_polls_with_numbers_of_their_own(
    services: Services, raw: Raw, has_polls: bool
) -> None:
    earlier = [document(1000)] if has_polls else []
    if has_polls:
        seed(raw, ISSUE, *earlier)
    bodies = [a_poll(title=f"Poll {number}") for number in range(50)]
    responses = await asyncio.gather(
        *(insist(services, "POST", ISSUE, json=body) for body in bodies)
    )
    assert [response.status for response in responses] == [200] * 50
    created = {poll["id"]: poll["title"] for poll in [await r.json() for r in responses]}
    assert sorted(created.values()) == sorted(body["title"] for body in bodies)
    [container] = raw.containers.find()
    made = container["polls"][len(earlier) :]
    assert {poll["id"]: poll["title"] for poll in made} == created
    assert len({poll["number"] for poll in container["polls"]}) == 50 + len(earlier)
    assert container["version"] == 50 + len(earlier)


async def test_first_creations_at_once_in_many_contents_all_succeed(
    services: Services, raw: Raw
) -> None:
    places = [{**ISSUE, "content": f"PLAT-{number}"} for number in range(20)]
    responses = await asyncio.gather(*(insist(services, "POST", p, json=a_poll()) for p in places))
    assert [response.status for response in responses] == [200] * 20
    # Each number is used once; the stand-in leaves a gap where it begins the sequence.
    assert len({poll["number"] for poll in stored_polls(raw)}) == 20


async def test_a_replacement_and_a_deletion_of_its_neighbour_both_take_effect(
    services: Services, raw: Raw
) -> None:
    for _ in range(ROUNDS):
        clear(raw)
        seed(raw, ISSUE, *(document(number) for number in range(1, 5)))
        replaced, deleted = await asyncio.gather(
            insist(services, "PUT", query_of(3), json=a_poll(title="New")),
            insist(services, "DELETE", query_of(2)),
        )
        assert (replaced.status, deleted.status) == (200, 200)
        titles = [(poll["number"], poll["title"]) for poll in stored_polls(raw)]
        assert titles == [(1, "Poll 1"), (3, "New"), (4, "Poll 4")]


async def test_of_two_replacements_of_the_same_revision_one_wins(
    services: Services, raw: Raw
) -> None:
    for _ in range(ROUNDS):
        clear(raw)
        seed(raw, ISSUE, document(1))
        headers = {"If-Match": '"1-1"'}
        first, second = await asyncio.gather(
            insist(services, "PUT", query_of(1), json=a_poll(title="First"), headers=headers),
            insist(services, "PUT", query_of(1), json=a_poll(title="Second"), headers=headers),
        )
        assert sorted([first.status, second.status]) == [200, 412]
        [stored] = stored_polls(raw)
        assert stored["title"] == ("First" if first.status == 200 else "Second")
        assert stored["version"] == 2


async def test_of_two_replacements_without_a_precondition_both_count(
    services: Services, raw: Raw
) -> None:
    seed(raw, ISSUE, document(1))
    for _ in range(ROUNDS):
        bodies = [a_poll(options=[{"title": title}]) for title in ("a", "b")]
        responses = await asyncio.gather(
            *(insist(services, "PUT", query_of(1), json=body) for body in bodies)
        )
        assert [response.status for response in responses] == [200, 200]
        ids = [(await response.json())["options"][0]["id"] for response in responses]
        assert len(set(ids)) == 2
    [stored] = stored_polls(raw)
    assert (stored["version"], stored["highest_option"]) == (1 + 2 * ROUNDS, 1 + 2 * ROUNDS)


@pytest.mark.parametrize("place", [ISSUE, PAGE], ids=["same container", "another container"])
@pytest.mark.parametrize("has_polls", [False, True], ids=["new contents", "with polls"])
async def test_of_two_creations_with_the_same_id_one_wins(
    services: Services, raw: Raw, place: dict[str, str], has_polls: bool
) -> None:
    for _ in range(ROUNDS):
        clear(raw)
        if has_polls:
            seed(raw, ISSUE, document(1001))
            seed(raw, PAGE, document(1002))
        body = a_poll(id=UNKNOWN)
        responses = await asyncio.gather(
            insist(services, "POST", ISSUE, json=body), insist(services, "POST", place, json=body)
        )
        assert sorted(response.status for response in responses) == [200, 409]
        assert [poll["id"] for poll in stored_polls(raw)].count(UNKNOWN) == 1


async def test_a_creation_and_a_deletion_at_once_both_take_effect(
    services: Services, raw: Raw
) -> None:
    for _ in range(ROUNDS):
        clear(raw)
        seed(raw, ISSUE, document(1001), document(1002))
        created, deleted = await asyncio.gather(
            insist(services, "POST", ISSUE, json=a_poll(title="New")),
            insist(services, "DELETE", query_of(1001)),
        )
        assert (created.status, deleted.status) == (200, 200)
        titles = {poll["title"] for poll in stored_polls(raw)}
        assert titles == {"Poll 1002", "New"}


async def test_of_two_deletions_at_once_one_finds_the_poll(services: Services, raw: Raw) -> None:
    for _ in range(ROUNDS):
        clear(raw)
        seed(raw, ISSUE, document(1), document(2))
        responses = await asyncio.gather(
            *(insist(services, "DELETE", query_of(1)) for _ in range(2))
        )
        assert sorted(response.status for response in responses) == [200, 404]
        assert [poll["number"] for poll in stored_polls(raw)] == [2]


async def test_a_replacement_and_a_deletion_of_the_same_poll_leave_no_poll(
    services: Services, raw: Raw
) -> None:
    for _ in range(ROUNDS):
        clear(raw)
        seed(raw, ISSUE, document(1))
        replaced, deleted = await asyncio.gather(
            insist(services, "PUT", query_of(1), json=a_poll()),
            insist(services, "DELETE", query_of(1)),
        )
        assert deleted.status == 200
        assert replaced.status in (200, 404)
        shown: Json = await deleted.json()
        assert shown["title"] == ("Tea?" if replaced.status == 200 else "Poll 1")
        assert stored_polls(raw) == []


async def test_a_content_that_is_almost_full_takes_one_of_many_at_once(
    services: Services, raw: Raw
) -> None:
    seed(raw, ISSUE, *(document(number) for number in range(1001, 1500)))
    responses = await asyncio.gather(
        *(insist(services, "POST", ISSUE, json=a_poll()) for _ in range(6))
    )
    assert sorted(response.status for response in responses) == [200] + [409] * 5
    assert len(stored_polls(raw)) == 500
    assert len(everything(raw)) == 1


async def test_a_reader_sees_the_neighbours_at_every_moment_of_a_deletion(
    services: Services, raw: Raw
) -> None:
    neighbours = [document(number)["id"] for number in (1, 3)]
    for _ in range(ROUNDS):
        clear(raw)
        seed(raw, ISSUE, *(document(number) for number in (1, 2, 3)))
        deleted = asyncio.create_task(insist(services, "DELETE", query_of(2)))
        while not deleted.done():
            listed = await (await services.request("GET", ISSUE)).json()
            seen = [poll["id"] for poll in listed if poll["id"] != document(2)["id"]]
            assert seen == neighbours
        assert (await deleted).status == 200
    assert len(stored_polls(raw)) == 2
