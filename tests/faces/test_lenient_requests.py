"""What both APIs accept because clients send it."""

import codecs
import io
import json

import pytest

from service.polling.paths import API
from service.routes import ROUTES
from service.telemetry.log import REQUEST_LOG
from tests.conftest import Client, Raw
from tests.support.casting import content_run, course_run
from tests.support.polling import call
from tests.support.seeds import ISSUE, a_poll, refused

PLACE = {"workspace": "PLAT", "content": "PLAT-254604"}
JSON = {"Content-Type": "application/json"}
# A deleted resource is not there for the second request.
ROUTED = [
    (method, path)
    for path, methods in ROUTES.items()
    for method in methods
    if path.startswith(("/rest", API)) and method != "DELETE"
]


async def test_every_path_of_both_apis_may_end_in_a_slash(
    api: Client, raw: Raw, request_lines: io.BytesIO
) -> None:
    """And is the same path, also in the log."""
    content, course = await content_run(api, raw), await course_run(api, raw)
    for method, path in ROUTED:
        run = content if path.startswith("/rest") else course
        query = {"workspace": "PLAT", "content": "PLAT-254604", "pollId": run.poll_id}
        filled = path.replace("poll_sessions/{id}", f"poll_sessions/{run.session}")
        filled = filled.replace("{poll_session_id}", str(run.session))
        filled = filled.replace("{poll_id}", str(run.number)).replace("{course_id}", "1")
        filled = filled.replace("{id}", "1")
        answers = []
        # Without a body: nothing is changed.
        for written in (filled, f"{filled}/"):
            params = query if path.startswith("/rest") else {"format": "csv"}
            response = await api.request(method, written, params=params, allow_redirects=False)
            body = await response.text()
            answers.append((response.status, body if response.status < 400 else ""))
            assert response.status not in (301, 302, 307, 308)
        assert (method, path, answers[1]) == (method, path, answers[0])
        assert "There is no resource at this path" not in body
    api.app[REQUEST_LOG].flush()
    routes = [json.loads(line)["route"] for line in request_lines.getvalue().splitlines()]
    expected = [path for _, path in ROUTED for _ in range(2)]
    assert routes[-len(expected) :] == expected


@pytest.mark.parametrize("path", ["/rest/", "/x1/name/"])
async def test_the_endpoint_with_a_type_may_end_in_a_slash(api: Client, path: str) -> None:
    made = await call(api, "POST", path, params=ISSUE, json=a_poll())
    assert await call(api, "GET", path, params=ISSUE) == [made]
    assert await call(api, "GET", "/rest/polls/", params=PLACE) == [made]
    results = {**ISSUE, "type": "results", "pollId": made["id"]}
    assert (await call(api, "GET", path, params=results))["pollId"] == made["id"]
    await refused(await api.get(path, params=PLACE), 400, ["type"])


async def test_a_method_that_a_path_with_a_slash_does_not_have_is_a_405(api: Client) -> None:
    for path, allowed in (("/rest/results/", "GET, HEAD"), (f"{API}/polls/", "GET, HEAD, POST")):
        response = await api.patch(path)
        await refused(response, 405)
        assert response.headers["Allow"] == allowed


async def test_other_paths_do_not_end_in_a_slash(api: Client) -> None:
    for path in ("/healthz/", "/docs/", f"{API}/polls//", "/rest//polls"):
        await refused(await api.get(path, params=PLACE), 404)


async def test_a_byte_order_mark_before_json_is_ignored(api: Client, raw: Raw) -> None:
    for path, query, body in (
        ("/rest/polls", PLACE, a_poll()),
        (f"{API}/polls", None, {"polls": [{"question": "Tea?"}]}),
    ):
        data = codecs.BOM_UTF8 + json.dumps(body).encode()
        async with api.post(path, params=query, data=data, headers=JSON) as response:
            assert response.status == 200, await response.text()
        for bad in (codecs.BOM_UTF8, codecs.BOM_UTF8 * 2 + data, b" " + data):
            response = await api.post(path, params=query, data=bad, headers=JSON)
            await refused(response, 400, ["body"])
    assert raw.addresses.count_documents({}) == 2
