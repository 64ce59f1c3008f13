"""What the answers to a GET are made of (RFC 9110, section 8.8): equal for equal answers.

Cheaper than the answers, and comparable before they are rendered. Nothing that the caller is not
shown is part of it: a tag that changed with hidden votes would tell their number and their times.
"""

from collections.abc import Iterable
from typing import Any

from service.rules.policy import View
from service.rules.views import share, time
from storage.documents import PollDocument, SessionDocument, revision

Parts = tuple[Any, ...]
"""Of the types of JSON."""


def of_polls(polls: Iterable[PollDocument]) -> Parts:
    """For definitions alone. The id tells polls of two stores apart that version 0.1 stored."""
    return tuple((poll["id"], revision(poll)) for poll in polls)


def of_poll(poll: PollDocument, total_results: dict[str, int] | None) -> Parts:
    """For ``views.poll``."""
    totals = None
    if total_results is not None:
        totals = [total_results.get(option["id"], 0) for option in poll["options"]]
    return poll["id"], revision(poll), totals


def of_choices(poll: PollDocument, *, shows_answer: bool) -> Parts:
    """For ``views.choice``, of one or of a page of them."""
    return poll["id"], revision(poll), shows_answer


def of_results(session: SessionDocument, view: View) -> Parts | None:
    """For ``views.content_results``; None if results are not shown."""
    if not view.sees_results:
        return None
    counts, participants = session["results"], session["participants"]
    shown = _shares(session) if view.hides_counts else (counts, participants)
    return session["_id"], session["poll_id"], view.is_open, shown


def _shares(session: SessionDocument) -> dict[str, int]:
    participants = session["participants"]
    return {
        option_id: share(votes, participants) for option_id, votes in session["results"].items()
    }


def of_session(
    session: SessionDocument, view: View, submissions: list[dict[str, Any]] | None
) -> Parts:
    """For ``views.session`` with these submissions."""
    results = _shares(session) if view.hides_counts else session["results"]
    return (
        session["_id"],
        session["poll_number"],
        session["course_id"],
        session["course_section_id"],
        time(session["created_at"]),
        view.is_open,
        view.has_voted,
        (session["has_public_results"], view.hides_counts, results) if view.sees_results else None,
        submissions,
    )
