"""The database selects exactly the sessions that the rules allow."""

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.rules import policy
from service.rules.policy import Caller
from service.rules.principal import Principal
from service.settings import Settings
from storage import documents
from storage.documents import (
    ContainerKey,
    EnrollmentDocument,
    EnrollmentType,
    PollDocument,
    SessionDocument,
)
from storage.pagination import Window
from storage.startup import open_store
from storage.store import Store
from tests.conftest import Raw
from tests.rules.test_policy import OWNER, enrolled, located_poll, session_of

USER = 7
NOW = datetime(2126, 1, 31, 12, 0, tzinfo=UTC)
OWN = ContainerKey("users", str(OWNER), "3")
CONTENT = ContainerKey("PLAT", "PLAT-1", "")

COURSES = st.sampled_from([10, 11])
SECTIONS = st.sampled_from([None, 101, 102])
KINDS: list[EnrollmentType] = ["StudentEnrollment", "TeacherEnrollment", "TaEnrollment"]
ENROLLMENTS = st.lists(st.tuples(COURSES, SECTIONS, st.sampled_from(KINDS)), max_size=4)
RUNS = st.lists(
    st.one_of(
        st.tuples(st.just(OWN), COURSES, SECTIONS, st.booleans()),
        st.tuples(st.just(CONTENT), st.none() | COURSES, st.none(), st.booleans()),
    ),
    min_size=1,
    max_size=10,
)


def is_for(enrollment: EnrollmentDocument, session: SessionDocument) -> bool:
    """The rule on readers of docs/api.md, section 4, written a second time."""
    if enrollment["course_id"] != session["course_id"]:
        return False
    section = session["course_section_id"]
    if section is None or section == enrollment["course_section_id"]:
        return True
    return enrollment["course_section_id"] is None and enrollment["type"] != "StudentEnrollment"


# The fixtures are made once for all examples: each of them begins by clearing the sessions.
@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(places=ENROLLMENTS, runs=RUNS)
async def test_the_database_selects_what_the_rules_allow(
    store: Store,
    raw: Raw,
    places: list[tuple[int, int | None, EnrollmentType]],
    runs: list[tuple[ContainerKey, int | None, int | None, bool]],
) -> None:
    sessions: list[SessionDocument] = []
    for number, (key, course_id, section_id, is_published) in enumerate(runs, 1):
        session = session_of(key, course_id, section_id)
        sessions.append(
            {**session, "_id": number, "poll_id": str(number), "is_published": is_published}
        )
    raw.sessions.delete_many({})
    raw.sessions.insert_many([dict(session) for session in sessions])
    enrollments = tuple(enrolled(USER, place) for place in places)
    caller = Caller(Principal(USER, "hash", "name"), enrollments)
    reach = policy.reach(caller)

    expected = {
        session["_id"] for session in sessions if any(is_for(one, session) for one in enrollments)
    }
    allowed = {session["_id"] for session in sessions if policy.view_of(caller, session).may_read}
    assert allowed == expected
    for is_open in (True, False):
        page = await store.sessions.within(reach, Window(), is_open=is_open)
        selected = [session["_id"] for session in page.rows]
        state = {session["_id"] for session in sessions if session["is_published"] == is_open}
        assert selected == sorted(expected & state)
    voter = Principal(USER, "hash", "name", actions=["vote"], workspaces=[CONTENT.workspace])
    admin = Principal(OWNER + 1, "hash", "name", is_admin=True)
    for session in sessions:
        reaches = await store.sessions.reaches(session["poll_id"], reach)
        assert reaches == (session["_id"] in expected)
        key = ContainerKey.of(session["container"])
        poll = {**located_poll(key).poll, "id": session["poll_id"]}
        for principal in (caller.principal, voter, admin.acting_for(USER)):
            asking = Caller(principal, enrollments)
            may_vote = policy.view_of(asking, session).may_vote and session["is_published"]
            within = policy.voting_reach(asking, key)
            has_open = await store.sessions.has_open(cast(PollDocument, poll), within)
            assert has_open == may_vote


@pytest.mark.parametrize(("seconds", "is_open"), [(-1, True), (0, False), (1, False)])
async def test_a_session_past_the_end_of_its_poll_is_listed_as_closed(
    settings: Settings, raw: Raw, seconds: int, is_open: bool
) -> None:
    session = session_of(OWN, 10, None)
    session["is_published"] = True
    session["rules"] = {**session["rules"], "closes_at": NOW}
    raw.sessions.insert_one(dict(session))
    moment = NOW + timedelta(seconds=seconds)
    enrollments = (enrolled(USER, (10, None, "StudentEnrollment")),)
    reach = policy.reach(Caller(Principal(USER, "hash", "name"), enrollments))
    async with open_store(settings.location, clock=lambda: moment) as store:
        for asked in (True, False):
            page = await store.sessions.within(reach, Window(), is_open=asked)
            assert [documents.is_open(one) for one in page.rows] == [asked] * (asked == is_open)
