"""Votes through canvasapi: the two methods that it has for submissions."""

from typing import Any, NamedTuple

import pytest
from canvasapi.exceptions import BadRequest, Forbidden, ResourceDoesNotExist

from tests.clients.conftest import COURSE, STUDENT


class Run(NamedTuple):
    """An open session of a poll, in the hands of its owner, and its two choices."""

    poll: Any
    session: Any
    tea: Any
    coffee: Any


@pytest.fixture
def run(owner: Any) -> Run:
    poll = owner.create_poll([{"question": "Tea?"}])
    tea, coffee = (poll.create_choice([{"text": text}]) for text in ("tea", "coffee"))
    session = poll.create_session([{"course_id": COURSE}])
    return Run(poll, session.open(), tea, coffee)


def seen_by(canvas: Any, run: Run) -> Any:
    return canvas.get_poll(run.poll.id).get_session(run.session.id)


def test_a_submission_is_made_read_and_counted_once(run: Run, student: Any) -> None:
    session = seen_by(student, run)
    made = session.create_submission([{"poll_choice_id": run.tea.id}])
    assert (made.poll_choice_id, made.user_id) == (run.tea.id, STUDENT)
    assert session.get_submission(made.id).poll_choice_id == run.tea.id
    with pytest.raises(BadRequest, match="can only submit one choice per poll session"):
        session.create_submission([{"poll_choice_id": run.coffee.id}])

    shown = run.poll.get_session(run.session.id)
    assert shown.results == {str(run.tea.id): 1, str(run.coffee.id): 0}
    assert [one["user_id"] for one in shown.poll_submissions] == [STUDENT]
    assert run.session.get_submission(made.id).user_id == STUDENT
    assert seen_by(student, run).has_submitted is True


def test_a_submission_that_cannot_be_is_refused_and_not_counted(
    run: Run, student: Any, stranger: Any
) -> None:
    session = seen_by(student, run)
    with pytest.raises(ResourceDoesNotExist):
        session.create_submission([{"poll_choice_id": 999}])
    with pytest.raises(Forbidden):
        type(session)(
            stranger._Canvas__requester, {"id": session.id, "poll_id": session.poll_id}
        ).create_submission([{"poll_choice_id": run.tea.id}])
    run.session.close()
    with pytest.raises(Forbidden, match="This poll session is not open for submissions"):
        session.create_submission([{"poll_choice_id": run.tea.id}])
    assert set(run.poll.get_session(run.session.id).results.values()) == {0}
