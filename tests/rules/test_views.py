"""Content polls from a request to a response are valid by their schema, whatever they hold."""

from datetime import UTC, datetime
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from schemas.content import DEFAULT_SETTINGS, POLL_REPLACEMENT, VISIBILITIES, completed
from schemas.fields import VISIBLE, parse_rfc3339
from schemas.responses import POLL
from service.rules import views
from storage.documents import PollDocument

# What a title may be: without control characters, and not blank.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255).filter(
    VISIBLE.search
)
OPTION_IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
TIMES = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - hypothesis wants it without
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - hypothesis wants it without
    timezones=st.just(UTC),
).map(lambda moment: moment.isoformat())
FLAGS = (
    "allowSelectionOfMultipleOptions",
    "hideAbsoluteNumbers",
    "allowRevote",
    "saveParticipantNames",
    "allowComment",
)


@st.composite
def settings(draw: st.DrawFn) -> dict[str, Any]:
    end = draw(st.just("") | TIMES)
    return {
        **{flag: draw(st.booleans()) for flag in FLAGS},
        "resultsVisibility": draw(st.sampled_from(VISIBILITIES)),
        "endDate": end,
        "closePollOnEndDate": draw(st.booleans()) if end else False,
    }


@st.composite
def polls(draw: st.DrawFn) -> PollDocument:
    ids = draw(st.lists(OPTION_IDS, max_size=12, unique=True))
    options = [
        {
            "id": option_id,
            "title": draw(TEXT),
            # Few enough that some are equal.
            "order": draw(st.integers(-2, 2) | st.integers(-(2**31), 2**31 - 1)),
            "is_correct": draw(st.booleans()),
        }
        for option_id in ids
    ]
    poll = {
        "id": str(draw(st.uuids())),
        "number": draw(st.integers(1, 2**53 - 1)),
        "title": draw(TEXT),
        "description": draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=400)),
        "settings": draw(settings()),
        "options": options,
        "highest_option": draw(st.integers(0, 10**18 - 1)),
        "closes_at": None,
        "standing_session": None,
        "owner_id": draw(st.integers(0, 2**53 - 1) | st.just("u42")),
        "created_at": datetime(2126, 1, 1, tzinfo=UTC),
        "version": draw(st.integers(1, 2**31)),
    }
    return cast(PollDocument, poll)


@given(polls())
def test_a_content_poll_is_what_its_schema_dumps(poll: PollDocument) -> None:
    ordered = {**poll, "options": sorted(poll["options"], key=lambda option: option["order"])}
    assert views.content_poll(poll) == POLL.dump(ordered)


@given(polls())
def test_what_is_shown_of_a_content_poll_can_be_sent_back_unchanged(poll: PollDocument) -> None:
    shown = views.content_poll(poll)
    settings = shown["settings"]
    ends = settings["closePollOnEndDate"]
    loaded = {**shown, "closes_at": parse_rfc3339(settings["endDate"]) if ends else None}
    other: dict[str, Any] = {"description": "Else", "settings": DEFAULT_SETTINGS}
    assert completed(POLL_REPLACEMENT.load(shown), **other) == loaded
    results = {"options": {}, "votes": 0, "participants": 0, "closed": False}
    assert completed(POLL_REPLACEMENT.load({**shown, "results": results}), **other) == loaded


@given(polls())
def test_equal_orders_are_shown_as_they_were_sent(poll: PollDocument) -> None:
    shown = views.content_poll(poll)["options"]
    for order in {option["order"] for option in poll["options"]}:
        sent = [option["id"] for option in poll["options"] if option["order"] == order]
        assert [option["id"] for option in shown if option["order"] == order] == sent
