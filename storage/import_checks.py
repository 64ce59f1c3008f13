"""Whether a line of an import agrees with what is stored, and with itself: no query in here."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from storage.documents import (
    USERS,
    BallotDocument,
    ContainerKey,
    LocatedPoll,
    PollDocument,
    SessionDocument,
)
from storage.import_lines import ImportedPoll, ImportedSession, LineRefused, Taken, UnknownChoice

NOT_KEPT = "are no longer kept, only their counts are"


def require_same_poll(stored: LocatedPoll, poll: ImportedPoll, expected: PollDocument) -> None:
    """Raises ``Taken`` at the first member that the line states in another way.

    ``expected`` is what the line makes of the stored poll.
    """
    found = stored.poll
    key = poll.key or ContainerKey(USERS, str(found["owner_id"]), str(found["number"]))
    stated = {
        **{
            name: (getattr(key, name), getattr(stored.key, name))
            for name in ("workspace", "content", "container")
        },
        "number": (poll.number, found["number"]),
        "createdBy": (poll.owner_id, found["owner_id"]),
        "createdAt": (poll.created_at, _to_the_second(found["created_at"])),
        "title": (expected["title"], found["title"]),
        "description": (expected["description"], found["description"]),
        "options": (expected["options"], found["options"]),
        "settings": (expected["settings"], found["settings"]),
    }
    if expected["highest_option"] > found["highest_option"]:
        stated["highestOption"] = (expected["highest_option"], found["highest_option"])
    _require_stated(stated, "")


def _require_stated(stated: Mapping[str, tuple[Any, Any]], path: str) -> None:
    for name, (given, stored) in stated.items():
        if given is not None and given != stored:
            raise Taken(f"{path}{name}", "differs from that of the stored poll")


def _to_the_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def require_same_session(session: SessionDocument, one: ImportedSession, path: str) -> None:
    """Raises ``Taken`` at the first member that the line states in another way.

    That the end date has passed since does not matter.
    """
    stated: dict[str, tuple[Any, Any]] = {
        "courseId": (one.course_id, session["course_id"]),
        "courseSectionId": (one.course_section_id, session["course_section_id"]),
        "hasPublicResults": (one.has_public_results, session["has_public_results"]),
        "createdAt": (one.created_at, _to_the_second(session["created_at"])),
        "isPublished": (one.is_published, session["is_published"]),
    }
    if session.get("is_final"):
        del stated["isPublished"]
    if one.counts is not None:
        stated["countsOnly"] = (True, session.get("counts_only", False))
        stated["participants"] = (one.participants, session["participants"])
        stated["results"] = (_nonzero(one.counts), _nonzero(session["results"]))
    if one.is_final:
        stated["isFinal"] = (True, session.get("is_final", False))
    if one.has_ended and not session["rules"].get("has_ended", False):
        stated["hasEnded"] = (True, False)
    _require_stated(stated, f"{path}.")


def require_same_counts(
    session: SessionDocument, wanted: Sequence[BallotDocument], path: str
) -> None:
    """For a session that keeps no ballots any more."""
    if not wanted:
        return
    counted = Counter(choice for ballot in wanted for choice in ballot["choices"])
    if counted != Counter(session["results"]) or len(wanted) != session["participants"]:
        raise Taken(path, NOT_KEPT)


def require_same_ballots(
    wanted: Sequence[BallotDocument], stored: Mapping[str, BallotDocument], path: str
) -> None:
    for place, ballot in enumerate(wanted):
        found = stored.get(ballot["_id"])
        if found is None:
            raise Taken(f"{path}[{place}]", "is not stored, although others of the line are")
        if (found["choices"], found["comment"]) != (ballot["choices"], ballot["comment"]):
            raise Taken(f"{path}[{place}]", "differs from the vote of this user that is stored")


def require_distinct(ballots: Sequence[BallotDocument], path: str) -> None:
    """One vote a user, however the user is named; and no number twice."""
    ids: set[str] = set()
    numbers: set[int] = set()
    for place, ballot in enumerate(ballots):
        if ballot["_id"] in ids:
            raise LineRefused(f"{path}[{place}]", "is a second vote of the same user")
        if ballot["number"] in numbers:
            raise Taken(f"{path}[{place}].id", "is that of another vote")
        ids.add(ballot["_id"])
        numbers.add(ballot["number"])


def require_choices(session: SessionDocument, ballots: Sequence[BallotDocument], path: str) -> None:
    known = set(session["rules"]["options"])
    for place, ballot in enumerate(ballots):
        if not known.issuperset(ballot["choices"]):
            raise UnknownChoice(f"{path}[{place}].optionIds", "must be options of the poll")


def _nonzero(results: Mapping[str, int]) -> dict[str, int]:
    return {option: votes for option, votes in results.items() if votes}
