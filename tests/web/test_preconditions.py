"""``ETag`` and ``If-Match``: no lost updates."""

import pytest

from tests.conftest import Client, Raw
from tests.support.seeds import ISSUE, a_poll, document, everything, refused, seed, stored_polls

POLL = document(7, version=3)
QUERY = {**ISSUE, "pollId": POLL["id"]}
CURRENT = '"7-3"'

MATCHING = [
    pytest.param(["*"], id="any"),
    pytest.param([CURRENT], id="the current one"),
    pytest.param(['"1-1", "7-3" , "x"'], id="a list with the current one"),
    pytest.param(['"7-2"', CURRENT], id="two headers"),
    pytest.param(['W/"1-1", "7-3"'], id="a weak one and the current one"),
    pytest.param(['W/"7-3"'], id="the current one, made weak by nginx"),
    pytest.param(['"7-3-gzip"'], id="the current one, as Apache changes it"),
    pytest.param(['"7-3--gzip"'], id="the current one, as Jetty changes it"),
    pytest.param(['W/"7-3-br"'], id="the current one, weak and with a suffix"),
    pytest.param(['"7-3.53cd9413a2eb897ec036"'], id="that of the poll with results"),
]
OTHER = [
    pytest.param(['"7-2"'], id="an earlier one"),
    pytest.param(['"7-4"'], id="a later one"),
    pytest.param(['"8-3"'], id="that of another poll"),
    pytest.param(['W/"7-2"'], id="an earlier one, weak"),
    pytest.param(['"7-2-gzip"'], id="an earlier one with a suffix"),
    pytest.param(['"7-3-zip"'], id="a suffix that no proxy writes"),
    pytest.param(['"1-1", "x"'], id="a list without the current one"),
    pytest.param(["7-3"], id="no quotes"),
    pytest.param(['"7-3'], id="no closing quote"),
    pytest.param([""], id="empty"),
    pytest.param(['""'], id="an empty tag"),
    pytest.param(["'7-3'"], id="single quotes"),
]


async def test_a_single_poll_comes_with_its_revision_and_a_list_with_another_tag(
    api: Client, raw: Raw
) -> None:
    created = await api.post("/rest", params=ISSUE, json=a_poll())
    tag = created.headers["ETag"]
    query = {**ISSUE, "pollId": (await created.json())["id"]}
    assert (await api.get("/rest", params=query)).headers["ETag"] == tag
    assert (await api.get("/rest", params=ISSUE)).headers["ETag"] != tag
    replaced = await api.put("/rest", params=query, json=a_poll())
    assert replaced.headers["ETag"] != tag
    assert (await api.get("/rest", params=query)).headers["ETag"] == replaced.headers["ETag"]
    deleted = await api.delete("/rest", params=query)
    assert deleted.headers["ETag"] == replaced.headers["ETag"]
    assert stored_polls(raw) == []


async def test_a_poll_that_comes_again_under_its_id_has_another_etag(api: Client) -> None:
    created = await api.post("/rest", params=ISSUE, json=a_poll())
    poll_id = (await created.json())["id"]
    await api.delete("/rest", params={**ISSUE, "pollId": poll_id})
    again = await api.post("/rest", params=ISSUE, json=a_poll(id=poll_id))
    assert again.headers["ETag"] != created.headers["ETag"]


async def test_a_version_that_a_restored_backup_counts_again_has_another_etag(
    api: Client, raw: Raw
) -> None:
    created = await api.post("/rest", params=ISSUE, json=a_poll())
    query = {**ISSUE, "pollId": (await created.json())["id"]}
    backup = list(raw.containers.find())
    lost = await api.put("/rest", params=query, json=a_poll(title="Lost"))
    raw.containers.replace_one({}, backup[0])
    assert (await api.get("/rest", params=query)).headers["ETag"] == created.headers["ETag"]
    again = await api.put("/rest", params=query, json=a_poll(title="Made again"))
    assert [poll["version"] for poll in stored_polls(raw)] == [2]
    assert again.headers["ETag"] != lost.headers["ETag"]
    headers = {"If-Match": lost.headers["ETag"]}
    await refused(await api.put("/rest", params=query, json=a_poll(), headers=headers), 412)


@pytest.mark.parametrize("tags", MATCHING)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_matching_precondition_lets_the_change_through(
    api: Client, raw: Raw, method: str, tags: list[str]
) -> None:
    seed(raw, ISSUE, POLL)
    headers = [("If-Match", tag) for tag in tags]
    response = await api.request(method, "/rest", params=QUERY, headers=headers, json=a_poll())
    assert response.status == 200
    assert [poll["version"] for poll in stored_polls(raw)] == ([4] if method == "PUT" else [])


@pytest.mark.parametrize("tags", OTHER)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_precondition_that_does_not_match_changes_nothing(
    api: Client, raw: Raw, method: str, tags: list[str]
) -> None:
    seed(raw, ISSUE, POLL)
    before = everything(raw)
    headers = [("If-Match", tag) for tag in tags]
    response = await api.request(method, "/rest", params=QUERY, headers=headers, json=a_poll())
    problem = await refused(response, 412)
    assert problem["detail"] == "If-Match does not name the current version of the poll."
    assert everything(raw) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_missing_poll_is_not_found_whatever_the_precondition(
    api: Client, raw: Raw, method: str
) -> None:
    for tag in ("*", CURRENT):
        response = await api.request(
            method, "/rest", params=QUERY, headers={"If-Match": tag}, json=a_poll()
        )
        await refused(response, 404)
    assert everything(raw) == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("path", ["", "/poll_choices/2"])
async def test_the_polling_api_honours_the_tags_of_polls_and_choices(
    api: Client, raw: Raw, method: str, path: str
) -> None:
    body = a_poll(options=[{"id": "1", "title": "yes"}, {"id": "2", "title": "no"}])
    created = await api.post("/rest", params=ISSUE, json=body)
    [poll] = stored_polls(raw)
    url = f"/api/v1/polls/{poll['number']}{path}"
    sent = {"poll_choices": {"text": "?"}} if path else {"polls": {"question": "?"}}
    tags = [created.headers["ETag"], (await api.get(url)).headers["ETag"]]
    query = {**ISSUE, "pollId": poll["id"]}
    replaced = await api.put("/rest", params=query, json=body)
    before = everything(raw)
    for tag in (*tags, '"x"', ""):
        answer = await api.request(method, url, json=sent, headers={"If-Match": tag})
        problem = await refused(answer, 412)
        assert problem["code"] == "precondition_failed"
    assert everything(raw) == before
    current = (await api.get(url)).headers["ETag"]
    assert current.startswith(replaced.headers["ETag"].rstrip('"'))
    headers = {"If-Match": f"W/{current}"}
    assert (await api.request(method, url, json=sent, headers=headers)).status in (200, 204)
    assert everything(raw) != before


async def test_the_body_is_checked_before_the_precondition(api: Client, raw: Raw) -> None:
    seed(raw, ISSUE, POLL)
    headers = {"If-Match": '"other"'}
    response = await api.put("/rest", params=QUERY, headers=headers, json=a_poll(title=""))
    await refused(response, 400, ["title"])


async def test_the_precondition_is_checked_before_the_conflict(api: Client, raw: Raw) -> None:
    taken = {"id": "9" * 18, "title": "last", "order": 0, "is_correct": False}
    seed(raw, ISSUE, document(7, version=3, highest_option=int("9" * 18), options=[taken]))
    before = everything(raw)
    for tag, status in (('"other"', 412), (CURRENT, 409)):
        headers = {"If-Match": tag}
        response = await api.put("/rest", params=QUERY, headers=headers, json=a_poll())
        await refused(response, status)
        assert everything(raw) == before
