"""Which answer is meant where there are two, by ``Accept`` (RFC 9110, section 12.5.1)."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from service.web.accept import accepts_events

BY_ACCEPT = {
    "text/event-stream": True,
    "TEXT/Event-Stream": True,
    "text/event-stream;charset=utf-8": True,
    "text/event-stream, */*": True,
    "text/event-stream, application/json;q=0.9": True,
    "text/event-stream;q=0.9, */*;q=0.8": True,
    "text/event-stream; q=0.5": True,
    "": False,
    "*/*": False,
    "text/*": False,
    "application/json": False,
    "application/json, text/event-stream": False,
    "text/event-stream, application/json": False,
    "text/event-stream;q=0.5, application/json": False,
    "text/event-stream;q=0.5, */*": False,
    "text/event-stream;q=0.5, application/*": False,
    "text/event-stream;q=0": False,
    "text/event-stream;q=0, */*;q=0": False,
    "text/event-stream;q=much": False,
    "text/event-streams": False,
}


@pytest.mark.parametrize(("accept", "wanted"), BY_ACCEPT.items())
def test_events_are_sent_where_they_are_named_and_more_welcome_than_json(
    accept: str, wanted: bool
) -> None:
    request = make_mocked_request("GET", "/", headers={"Accept": accept})
    assert accepts_events(request) is wanted


def test_several_lines_are_one_list() -> None:
    headers = [("Accept", "application/json;q=0.1"), ("Accept", "text/event-stream;q=0.2")]
    request = make_mocked_request("GET", "/", headers=CIMultiDict(headers))
    assert accepts_events(request)


def test_json_is_the_answer_where_nothing_is_asked_for() -> None:
    assert not accepts_events(make_mocked_request("GET", "/"))
