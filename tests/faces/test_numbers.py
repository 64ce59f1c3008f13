"""Numbers that JSON does not carry exactly, wherever an id or an integer is read."""

from urllib.parse import urlencode

import pytest

from tests.conftest import Client, Raw
from tests.support.casting import Run, course_run
from tests.support.polling import API
from tests.support.seeds import ISSUE

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NO_IDS = [
    "9007199254740993.0",
    "9007199254740993",
    "9007199254740992",
    "18446744073709551617",
    "9e15999",
    "1e400",
    "1e300",
    "1.5",
    "2.0000000000000004",
    "4503599627370497.4",
    "1.00000000000000000001",
    "0.99999999999999999",
    "1e-400",
    "-1e-400",
    "1e-99999999999999999999",
    "0",
    "-0",
    "-0.0",
    "-1",
]
NO_INT32S = [
    "0.99999999999999999",
    "1.00000000000000000001",
    "1e-400",
    "-1e-99999999999999999999",
    "9007199254740993.0",
    "1e400",
    "1e300",
    "1.5",
    "-0.0",
    "2147483648",
    "-2147483649.0",
]


@pytest.fixture
async def run(api: Client, raw: Raw) -> Run:
    """A session whose poll has options that a rounded number would name."""
    run = await course_run(api, raw)
    options = [{"id": str(number), "title": "?"} for number in (0, -1, 1, 2, 2**53, 2**53 + 2)]
    body = {"title": "Tea?", "options": options}
    assert (await api.put("/rest", params=run.query, json=body)).status == 200
    return run


async def status(api: Client, method: str, path: str, body: str, headers: dict[str, str]) -> int:
    async with api.request(method, path, data=body.encode(), headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize("number", NO_IDS)
async def test_a_number_that_is_no_id_is_refused_wherever_an_id_is_read(
    api: Client, raw: Raw, run: Run, number: str
) -> None:
    session = f'{{"course_id": 1, "course_section_id": {number}}}'
    enrollment = f'{{"enrollment": {{"user_id": {number}}}}}'
    for method, path, body in (
        ("POST", run.submissions, f'{{"poll_submissions": [{{"poll_choice_id": {number}}}]}}'),
        ("POST", f"{run.poll_url}/poll_sessions", f'{{"poll_session": {session}}}'),
        ("PUT", run.url, f'{{"poll_session": {{"course_id": {number}}}}}'),
        ("POST", f"{API}/courses/1/enrollments", enrollment),
    ):
        assert (path, await status(api, method, path, body, JSON)) == (path, 400)
    for method, path, field in (
        ("POST", f"{run.poll_url}/poll_sessions", "poll_sessions[][course_id]"),
        ("PUT", run.url, "poll_session[course_id]"),
    ):
        body = urlencode({field: number})
        assert (path, await status(api, method, path, body, FORM)) == (path, 400)
    query = {"page": number}
    assert (await api.get(f"{API}/courses/1/enrollments", params=query)).status == 400
    for path in ("/polls/{}", "/courses/{}/enrollments"):
        assert (path, (await api.get(API + path.format(number))).status) == (path, 404)
    assert raw.ballots.count_documents({}) == raw.enrollments.count_documents({}) == 0
    assert raw.sessions.count_documents({}) == 1


@pytest.mark.parametrize("number", NO_INT32S)
async def test_a_number_that_is_no_integer_of_32_bits_is_no_place(
    api: Client, raw: Raw, run: Run, number: str
) -> None:
    before = list(raw.containers.find())
    query = urlencode(ISSUE)
    options = f'[{{"title": "a", "order": {number}}}]'
    body = f'{{"title": "Tea?", "options": {options}}}'
    assert await status(api, "POST", f"/rest?{query}", body, JSON) == 400
    assert await status(api, "PUT", f"/rest?{urlencode(run.query)}", body, JSON) == 400
    choices = f"{run.poll_url}/poll_choices"
    body = f'{{"poll_choices": [{{"text": "a", "position": {number}}}]}}'
    assert await status(api, "POST", choices, body, JSON) == 400
    assert await status(api, "PUT", f"{choices}/1", body, JSON) == 400
    for written in (number, "-0"):
        body = urlencode({"poll_choice[text]": "a", "poll_choice[position]": written})
        assert await status(api, "POST", choices, body, FORM) == 400
    assert list(raw.containers.find()) == before


async def test_a_number_in_a_text_and_a_fraction_that_nothing_reads_are_no_fault(
    api: Client, raw: Raw, run: Run
) -> None:
    text = r"0.99999999999999999 \" 1e-400"
    poll = f'{{"question": "{text}", "share": 33.3, "ratio": [0.1, -2.50, 1e-7]}}'
    assert await status(api, "PUT", run.poll_url, f'{{"polls": [{poll}]}}', JSON) == 200
    [container] = raw.containers.find()
    assert container["polls"][0]["title"] == text.replace("\\", "")


@pytest.mark.parametrize("number", ["2", "2.0", "2e0", "20e-1", '"2"'])
async def test_a_whole_number_may_be_written_in_every_way_of_json(
    api: Client, raw: Raw, run: Run, number: str
) -> None:
    body = f'{{"poll_submissions": [{{"poll_choice_id": {number}}}]}}'
    assert await status(api, "POST", run.submissions, body, JSON) == 200
    [ballot] = raw.ballots.find()
    assert ballot["choices"] == ["2"]
