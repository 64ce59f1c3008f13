"""The public client library canvasapi, unpatched, against a service of its own process.

Whatever it does, the other face shows it too.
"""

import json
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from canvasapi.exceptions import BadRequest, Conflict, Forbidden, ResourceDoesNotExist
from canvasapi.poll import Poll

from tests.clients.conftest import COURSE, OWNER, SECTION, STRANGER, STUDENT, Service
from tests.conftest import ADMIN


@pytest.fixture
def poll(owner: Any) -> Any:
    return owner.create_poll([{"question": "Tea?", "description": "Or coffee."}])


def on_rest(service: Service, poll: Any) -> Any:
    """The poll as an admin sees it on the other face; None where it is not there."""
    query = {"type": "polls", "workspace": "users", "content": OWNER, "container": poll.id}
    request = Request(
        f"{service.url}/rest?{urlencode(query)}", headers={"Authorization": f"Bearer {ADMIN}"}
    )
    with urlopen(request) as response:
        found = json.load(response)
    return found[0] if found else None


def as_seen_by(canvas: Any, thing: Any) -> Any:
    """The same object in the hands of another user of the library."""
    names = ("id", "poll_id", "course_id")
    kept = {name: getattr(thing, name) for name in names if hasattr(thing, name)}
    return type(thing)(canvas._Canvas__requester, kept)


# Polls -----------------------------------------------------------------------------------------


def test_a_poll_is_made_read_changed_and_deleted(service: Service, owner: Any, admin: Any) -> None:
    poll = owner.create_poll([{"question": "Tea?"}, {"description": "Or coffee."}])
    assert (poll.question, poll.description, poll.user_id) == ("Tea?", "Or coffee.", OWNER)
    shown = on_rest(service, poll)
    assert (shown["title"], shown["description"]) == ("Tea?", "Or coffee.")
    assert shown["settings"]["saveParticipantNames"] is True

    changed = poll.update([{"question": "Milk?"}])
    assert (changed.id, changed.question, changed.description) == (poll.id, "Milk?", "Or coffee.")
    assert owner.get_poll(poll.id).question == admin.get_poll(poll.id).question == "Milk?"
    assert on_rest(service, poll)["title"] == "Milk?"
    assert poll.update([{"question": "Milk?", "description": ""}]).description == ""

    assert poll.delete() is True
    assert on_rest(service, poll) is None
    with pytest.raises(ResourceDoesNotExist):
        owner.get_poll(poll.id)


def test_polls_are_made_by_teachers_and_changed_by_managers(
    service: Service, poll: Any, student: Any, stranger: Any
) -> None:
    for canvas in (student, stranger):
        with pytest.raises(Forbidden, match="Only teachers may create polls"):
            canvas.create_poll([{"question": "?"}])
        with pytest.raises(Forbidden):
            canvas.get_poll(poll.id)
        assert list(canvas.get_polls()) == []
    before = on_rest(service, poll)
    poll.create_session([{"course_id": COURSE}])
    seen = student.get_poll(poll.id)
    assert not hasattr(seen, "total_results")
    for change in (lambda: seen.update([{"question": "Mine"}]), seen.delete):
        with pytest.raises(Forbidden):
            change()
    assert on_rest(service, poll) == before


def test_the_library_reads_what_is_wrong(owner: Any) -> None:
    with pytest.raises(BadRequest, match=r"polls\[0\]\.question must have 1 to 255 characters"):
        owner.create_poll([{"question": "x" * 256}])


# Choices ---------------------------------------------------------------------------------------


def test_choices_are_made_read_changed_and_deleted(service: Service, poll: Any) -> None:
    yes = poll.create_choice([{"text": "yes", "is_correct": True, "position": 2}])
    no = poll.create_choice([{"text": "no"}, {"position": 1}])
    assert (yes.text, yes.is_correct, yes.position) == ("yes", True, 2)
    assert [one.text for one in poll.get_choices()] == ["no", "yes"]
    assert [one["id"] for one in on_rest(service, poll)["options"]] == [str(no.id), str(yes.id)]

    assert poll.get_choice(no.id).update([{"text": "never", "position": 3}]).position == 3
    assert [one.text for one in poll.get_choices()] == ["yes", "never"]
    options = on_rest(service, poll)["options"]
    assert [(one["title"], one["order"]) for one in options] == [("yes", 2), ("never", 3)]

    assert yes.delete() is True
    assert [one["title"] for one in on_rest(service, poll)["options"]] == ["never"]
    with pytest.raises(ResourceDoesNotExist):
        poll.get_choice(yes.id)


def test_choices_are_read_by_readers_and_changed_by_managers(
    service: Service, poll: Any, student: Any, stranger: Any
) -> None:
    choice = poll.create_choice([{"text": "yes", "is_correct": True}])
    poll.create_session([{"course_id": COURSE, "course_section_id": SECTION}])
    seen = student.get_poll(poll.id)
    [shown] = seen.get_choices()
    assert (shown.text, hasattr(shown, "is_correct")) == ("yes", False)
    for attempt in (
        lambda: seen.create_choice([{"text": "mine"}]),
        lambda: shown.update([{"text": "mine"}]),
        shown.delete,
        as_seen_by(stranger, choice).delete,
        lambda: as_seen_by(stranger, poll).get_choice(choice.id),
    ):
        with pytest.raises(Forbidden):
            attempt()
    assert [one["title"] for one in on_rest(service, poll)["options"]] == ["yes"]


# Sessions --------------------------------------------------------------------------------------


def ids(sessions: Any) -> list[int]:
    return [session.id for session in sessions]


def test_a_session_is_made_opened_closed_changed_and_deleted(
    service: Service, poll: Any, admin: Any, student: Any, stranger: Any
) -> None:
    choice = poll.create_choice([{"text": "yes"}])
    session = poll.create_session([{"course_id": COURSE}, {"has_public_results": True}])
    assert (session.course_id, session.has_public_results) == (COURSE, True)
    assert (session.is_published, session.has_submitted) == (False, False)
    assert session.results == {str(choice.id): 0}
    assert ids(poll.get_sessions()) == [session.id]
    user, other = student.get_current_user(), stranger.get_current_user()
    assert session.id in ids(user.get_closed_poll_sessions())
    assert session.id not in ids(user.get_open_poll_sessions())

    for _ in range(2):
        assert session.open().is_published is True
        assert session.id in ids(user.get_open_poll_sessions())
        assert session.id not in ids(user.get_closed_poll_sessions())
    assert student.get_poll(poll.id).get_session(session.id).is_published is True
    assert session.close().is_published is False
    assert session.id in ids(user.get_closed_poll_sessions())
    assert session.id not in ids(user.get_open_poll_sessions())
    assert ids(other.get_open_poll_sessions()) == ids(other.get_closed_poll_sessions()) == []

    changed = session.update([{"course_id": COURSE, "course_section_id": SECTION + 1}])
    assert (changed.course_section_id, changed.has_public_results) == (SECTION + 1, True)
    assert session.id not in ids(user.get_closed_poll_sessions())
    cleared = session.update([{"course_id": COURSE, "course_section_id": ""}])
    assert cleared.course_section_id is None

    before = on_rest(service, poll)
    assert admin.get_poll(poll.id).get_session(session.id).delete() is True
    assert ids(poll.get_sessions()) == []
    assert on_rest(service, poll) == before
    with pytest.raises(ResourceDoesNotExist):
        poll.get_session(session.id)


def test_sessions_are_read_by_readers_and_changed_by_managers(
    poll: Any, student: Any, stranger: Any
) -> None:
    session = poll.create_session([{"course_id": COURSE, "course_section_id": SECTION}])
    seen = student.get_poll(poll.id)
    shown = seen.get_session(session.id)
    assert not hasattr(shown, "results")
    unseen = as_seen_by(stranger, poll)
    for attempt in (
        shown.open,
        shown.close,
        shown.delete,
        lambda: shown.update([{"course_id": COURSE}]),
        lambda: seen.create_session([{"course_id": COURSE}]),
        lambda: list(seen.get_sessions()),
        lambda: unseen.get_session(session.id),
    ):
        with pytest.raises(Forbidden):
            attempt()
    with pytest.raises(Forbidden, match="You do not teach the course"):
        poll.create_session([{"course_id": COURSE + 1}])
    assert poll.get_session(session.id).is_published is False


def test_the_sessions_of_content_are_opened_and_closed_but_not_deleted(
    service: Service, admin: Any
) -> None:
    query = urlencode({"type": "polls", "workspace": "PLAT", "content": "PLAT-1"})
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    body = json.dumps({"title": "Ship?", "options": [{"title": "yes"}]}).encode()
    with urlopen(Request(f"{service.url}/rest?{query}", body, headers)) as response:
        made = json.load(response)
    # A path takes the UUID of the other face as well as a number.
    poll = Poll(admin._Canvas__requester, made)
    [standing] = poll.get_sessions()
    assert (standing.course_id, standing.is_published) == (None, True)
    assert standing.close().is_published is False
    assert standing.open().is_published is True
    with pytest.raises(Conflict):
        standing.delete()


# Lists, courses, users -------------------------------------------------------------------------


def test_lists_are_followed_over_all_their_pages(poll: Any, owner: Any, student: Any) -> None:
    """The library asks for 100 rows a page, whatever else it is told."""
    made = [poll.create_session([{"course_id": COURSE}]).id for _ in range(102)]
    assert ids(poll.get_sessions()) == made
    assert ids(poll.get_sessions(per_page=1)) == made
    assert ids(poll.get_sessions()[99:102]) == made[99:102]
    listed = ids(student.get_current_user().get_closed_poll_sessions())
    assert [one for one in listed if one in made] == made

    polls = [owner.create_poll([{"question": str(number)}]).id for number in range(102)]
    assert ids(owner.get_polls())[:102] == polls[::-1]
    assert poll.id in ids(owner.get_polls())


def test_enrollments_are_made_listed_and_ended_by_admins(
    admin: Any, owner: Any, stranger: Any
) -> None:
    course = admin.get_course(COURSE + 5)
    assert (course.id, list(course.get_enrollments())) == (COURSE + 5, [])
    enrollment = course.enroll_user(STRANGER, enrollment={"type": "TaEnrollment"})
    assert (enrollment.user_id, enrollment.type) == (STRANGER, "TaEnrollment")
    assert enrollment.enrollment_state == "active"
    again = course.enroll_user(admin.get_user(STRANGER), enrollment={"type": "TaEnrollment"})
    assert again.id == enrollment.id
    assert ids(course.get_enrollments()) == [enrollment.id]

    # Who is enrolled sees the course, and as an assistant makes polls; nobody else enrolls.
    seen = stranger.get_course(COURSE + 5)
    poll = stranger.create_poll([{"question": "Mine?"}])
    assert poll.delete() is True
    with pytest.raises(Forbidden):
        owner.get_course(COURSE + 5)
    for attempt in (
        lambda: seen.enroll_user(STRANGER),
        lambda: list(seen.get_enrollments()),
        lambda: as_seen_by(stranger, enrollment).deactivate("delete"),
    ):
        with pytest.raises(Forbidden):
            attempt()

    ended = enrollment.deactivate("delete")
    assert (ended.id, ended.enrollment_state) == (enrollment.id, "deleted")
    assert list(course.get_enrollments()) == []
    with pytest.raises(Forbidden):
        stranger.get_course(COURSE + 5)
    with pytest.raises(Forbidden):
        stranger.create_poll([{"question": "Mine?"}])


def test_users_see_themselves_and_admins_see_everybody(
    admin: Any, student: Any, stranger: Any
) -> None:
    assert student.get_current_user().id == student.get_user(STUDENT).id == STUDENT
    assert admin.get_user(STUDENT).id == STUDENT
    with pytest.raises(Forbidden):
        stranger.get_user(STUDENT)
