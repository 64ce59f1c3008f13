"""Representations of stored documents: one pure function each.

Reads skip marshmallow for speed; a property test compares each function with its schema's dump.
"""

from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Literal

from schemas.fields import parse_id
from service.rules.policy import View
from storage.documents import (
    AddressDocument,
    AuditEntryDocument,
    BallotDocument,
    ContainerKey,
    EnrollmentDocument,
    ErasureDocument,
    LocatedPoll,
    OptionDocument,
    PollDocument,
    SessionDocument,
    SessionRules,
    TokenDocument,
    UserId,
    day_of,
    is_open,
)


def content_poll(poll: PollDocument) -> dict[str, Any]:
    """The Poll of ``/rest``. Options are sorted by ``order``, ties as they were sent."""
    return {
        "id": poll["id"],
        "title": poll["title"],
        "description": poll["description"],
        "options": [
            {"id": option["id"], "title": option["title"], "order": option["order"]}
            for option in sorted(poll["options"], key=itemgetter("order"))
        ],
        "settings": poll["settings"],
    }


def poll(document: PollDocument, total_results: dict[str, int] | None) -> dict[str, Any]:
    """The Poll of ``/api/v1``; ``total_results`` is None unless the caller manages the poll."""
    data = {
        "id": document["number"],
        "question": document["title"],
        "description": document["description"],
        "created_at": time(document["created_at"]),
    }
    if total_results is not None:
        data["user_id"] = document["owner_id"]
        data["total_results"] = {
            option["id"]: total_results.get(option["id"], 0) for option in document["options"]
        }
    return data


def choices(document: PollDocument) -> list[OptionDocument]:
    """The choices in the order of ``choice_place``, which is also their cursor."""
    return sorted(document["options"], key=choice_place)


def choice_place(option: OptionDocument) -> tuple[int, int, str]:
    """The sort key of a choice: position, then the id, numerically if it is a number."""
    number = parse_id(option["id"])
    return option["order"], -1 if number is None else number, option["id"]


def choice(option: OptionDocument, document: PollDocument, *, shows_answer: bool) -> dict[str, Any]:
    """The PollChoice, with ``is_correct`` only if ``shows_answer``."""
    data = {
        "id": choice_id(option["id"]),
        "poll_id": document["number"],
        "text": option["title"],
        "position": option["order"],
    }
    if shows_answer:
        data["is_correct"] = option["is_correct"]
    return data


def choice_id(option_id: str) -> int | str:
    """An option's id as the polling API writes it: as a number if it is one (docs/api.md, 4)."""
    number = parse_id(option_id)
    return option_id if number is None else number


def session(
    document: SessionDocument,
    view: View,
    submissions: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    """The PollSession; ``submissions`` is None unless the caller asked for them."""
    data: dict[str, Any] = {
        "id": document["_id"],
        "poll_id": document["poll_number"],
        "course_id": document["course_id"],
        "course_section_id": document["course_section_id"],
        "is_published": view.is_open,
        "created_at": time(document["created_at"]),
        "has_submitted": view.has_voted,
        "poll_submissions": submissions,
    }
    if view.sees_results:
        data["has_public_results"] = document["has_public_results"]
        data.update(_results(document, view))
    return data


def share(votes: int, participants: int) -> int:
    """Whole percentage of the participants; halves are rounded up."""
    return (200 * votes + participants) // (2 * participants) if participants else 0


def percentage(votes: int, participants: int) -> float:
    """Percentage of the participants to one decimal; halves are rounded up."""
    return share(votes * 10, participants) / 10


def enrollment(document: EnrollmentDocument, *, state: str = "active") -> dict[str, Any]:
    return {
        "id": document["number"],
        "user_id": document["user_id"],
        "course_id": document["course_id"],
        "course_section_id": document["course_section_id"],
        "type": document["type"],
        "enrollment_state": state,
    }


def time(moment: datetime) -> str:
    """UTC, to the second: ``2014-01-07T15:16:18Z``."""
    if moment.tzinfo is not UTC:  # rare, and astimezone is slow
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat()[:19]}Z"


# Votes -----------------------------------------------------------------------------------------


def content_vote(
    ballot: BallotDocument,
    rules: SessionRules,
    poll_id: str,
    *,
    author_id: UserId | None,
    is_known: bool = True,
    is_sent: bool = False,
) -> dict[str, Any]:
    """The Vote of ``/rest``; ``author_id`` is the caller if the vote is theirs, else None.

    Unless ``is_known`` it says no more than that the caller has voted; its content, too, if the
    caller has just sent it. A vote without a name has no times: they would identify it to anyone
    who knows when a user voted.
    """
    voter = _voter(ballot, rules) if author_id is None else author_id
    shows_content, shows_times = is_known or is_sent, is_known and voter is not None
    return {
        "pollId": poll_id,
        "userId": voter,
        "optionIds": ballot["choices"] if shows_content else None,
        "comment": ballot["comment"] if shows_content else None,
        "createdAt": _cast_time(ballot, "created_at") if shows_times else None,
        "updatedAt": _cast_time(ballot, "updated_at") if shows_times else None,
    }


def content_results(session: SessionDocument, view: View) -> dict[str, Any]:
    """``results`` of a Poll. Hidden counts are null, beside whole percentages."""
    hidden = view.hides_counts
    participants = session["participants"]
    portion = share if hidden else percentage
    return {
        "options": {
            option_id: {
                "votes": None if hidden else votes,
                "percentage": portion(votes, participants),
            }
            for option_id, votes in session["results"].items()
        },
        "votes": None if hidden else sum(session["results"].values()),
        "participants": None if hidden else participants,
        "closed": not view.is_open,
    }


def own_part(session: SessionDocument, view: View, own: BallotDocument | None) -> dict[str, Any]:
    """What ``expand=vote`` adds to a Poll; the vote is as ``type=votes`` shows it to its voter."""
    vote = None
    if own is not None and view.has_voted and view.may_vote:
        is_known = view.own is not None
        vote = content_vote(
            own,
            session["rules"],
            session["poll_id"],
            author_id=view.user_id,
            is_known=is_known,
        )
    return {
        "vote": vote,
        "hasVoted": view.has_voted,
        "canVote": view.can_vote,
        "canChange": view.can_change,
        "canWrite": view.can_write,
    }


def no_part(*, can_write: bool) -> dict[str, Any]:
    """The same of a poll that takes no votes on ``/rest``."""
    no_vote = {"vote": None, "hasVoted": False, "canVote": False, "canChange": False}
    return {**no_vote, "canWrite": can_write}


def placed(address: AddressDocument, key: ContainerKey, poll: PollDocument) -> dict[str, Any]:
    """What the list of a workspace adds to a Poll."""
    is_open = address["is_open"]
    return {
        **key._asdict(),
        "createdBy": poll["owner_id"],
        "createdAt": time(poll["created_at"]),
        "updatedAt": time(address["updated_at"]),
        "state": None if is_open is None else "open" if is_open else "closed",
    }


def results_of(session: SessionDocument, view: View) -> dict[str, Any]:
    """The results of a standing session as a resource, without ``revision`` (docs/api.md, 7)."""
    return {
        "pollId": session["poll_id"],
        "sessionId": session["_id"],
        "closed": not view.is_open,
        "results": content_results(session, view),
    }


def session_results(session: SessionDocument, view: View) -> dict[str, Any]:
    """The results of any session as a resource of ``/api/v1``, without ``revision``."""
    return {
        "pollId": session["poll_number"],
        "sessionId": session["_id"],
        "closed": not view.is_open,
        **_results(session, view),
    }


def _results(session: SessionDocument, view: View) -> dict[str, dict[str, int]]:
    if not view.hides_counts:
        return {"results": session["results"]}
    participants = session["participants"]
    shares = {one: share(votes, participants) for one, votes in session["results"].items()}
    return {"result_shares": shares}


def submission(
    ballot: BallotDocument,
    rules: SessionRules,
    *,
    author_id: UserId | None,
    is_known: bool = True,
    is_sent: bool = False,
) -> dict[str, Any]:
    """The PollSubmission; ``author_id`` is the caller if it is theirs, else None.

    It shows all choices and the comment that were cast, whatever the settings have become.
    ``is_known`` and ``is_sent`` are those of ``content_vote``. Unless ``is_known`` there is no id
    either, by which it could be looked up after it has changed.
    """
    settings = rules["settings"]
    voter = _voter(ballot, rules) if author_id is None else author_id
    shows_content, shows_times = is_known or is_sent, is_known and voter is not None
    chosen = [choice_id(option_id) for option_id in ballot["choices"]] if shows_content else None
    data: dict[str, Any] = {
        "id": ballot["number"] if is_known else None,
        "poll_session_id": ballot["session_id"],
        "poll_choice_id": chosen[0] if chosen else None,
        "user_id": voter,
        "created_at": _cast_time(ballot, "created_at") if shows_times else None,
    }
    if settings["allowSelectionOfMultipleOptions"] or (chosen and len(chosen) > 1):
        data["poll_choice_ids"] = chosen
    comment = ballot["comment"] if shows_content else None
    if settings["allowComment"] or comment is not None:
        data["comment"] = comment
    return data


# What is held of a user ------------------------------------------------------------------------


def held_enrollment(document: EnrollmentDocument) -> dict[str, Any]:
    return {
        "kind": "enrollment",
        "courseId": document["course_id"],
        "courseSectionId": document["course_section_id"],
        "type": document["type"],
        "createdAt": time(document["created_at"]),
    }


def held_token(document: TokenDocument) -> dict[str, Any]:
    """A token, ended or not; neither its secret nor the hash of that."""
    revoked_at = document["revoked_at"]
    ended = {"revokedAt": time(revoked_at) if revoked_at else None}
    return {"kind": "token", **token(document), **ended}


def held_poll(
    key: ContainerKey, document: PollDocument, deleted_at: datetime | None = None
) -> dict[str, Any]:
    """The Poll of ``/rest`` with its place; ``deletedAt`` where it can still be restored."""
    times = {
        "createdAt": time(document["created_at"]),
        "deletedAt": time(deleted_at) if deleted_at else None,
    }
    return {"kind": "poll", **content_poll(document), **key._asdict(), **times}


def held_vote(
    ballot: BallotDocument, session: SessionDocument, user_id: UserId, *, is_known: bool
) -> dict[str, Any]:
    """The Vote, with its session; unless ``is_known`` no more than that the user has voted."""
    rules, poll_id = session["rules"], session["poll_id"]
    vote = content_vote(ballot, rules, poll_id, author_id=user_id, is_known=is_known)
    place = {"sessionId": session["_id"], "courseId": session["course_id"]}
    return {"kind": "vote", **vote, **place}


def erasure(document: ErasureDocument) -> dict[str, Any]:
    """How far an erasure is; never of whom."""
    finished_at = document.get("finished_at")
    return {
        "id": document["_id"],
        "state": "running" if document["step"] else "done",
        "step": document["step"],
        "votes": document["votes"],
        "counts": document["counts"],
        "createdAt": time(document["created_at"]),
        "updatedAt": time(document["updated_at"]),
        "finishedAt": time(finished_at) if finished_at else None,
    }


# Tokens ----------------------------------------------------------------------------------------


def token(document: TokenDocument) -> dict[str, Any]:
    """A token without its secret; version 0.1 stored neither courses nor polls."""
    expires_at = document["expires_at"]
    return {
        "name": document["name"],
        "userId": document["user_id"],
        "admin": document["admin"],
        "actions": document["actions"],
        "workspaces": document["workspaces"],
        "courses": document.get("courses", []),
        "polls": document.get("polls", []),
        "createdAt": time(document["created_at"]),
        "expiresAt": time(expires_at) if expires_at else None,
    }


# The audit -------------------------------------------------------------------------------------


def audit_entry(entry: AuditEntryDocument) -> dict[str, Any]:
    """Who did what to what; null where the action has no such thing."""
    return {
        "id": entry["_id"],
        "at": time(entry["at"]),
        "action": entry["action"],
        "actor": {"userId": entry["user_id"], "token": entry["token_name"]},
        "pollId": entry.get("poll_id"),
        "sessionId": entry.get("session_id"),
        "courseId": entry.get("course_id"),
        "enrollmentId": entry.get("enrollment_id"),
        "token": entry.get("subject_token"),
        "changed": entry.get("changed"),
        "count": entry.get("count"),
    }


# Exports ---------------------------------------------------------------------------------------


def exported_session(session: SessionDocument) -> dict[str, Any]:
    """The session of an export; its results are in ``counted_choices``."""
    return {
        "id": session["_id"],
        "poll_id": session["poll_number"],
        "course_id": session["course_id"],
        "course_section_id": session["course_section_id"],
        "is_published": is_open(session),
        "created_at": time(session["created_at"]),
        "participants": session["participants"],
    }


def counted_choices(document: PollDocument, session: SessionDocument) -> list[dict[str, Any]]:
    """The choices of an export by position, each with its votes in the session."""
    results, participants = session["results"], session["participants"]
    return [
        {
            **choice(option, document, shows_answer=True),
            "votes": results[option["id"]],
            "percentage": percentage(results[option["id"]], participants),
        }
        for option in choices(document)
    ]


def moved_poll(located: LocatedPoll, voter_key: str) -> dict[str, Any]:
    """The poll of a line of ``GET /rest/export``, without its sessions."""
    key, document = located
    return {
        "id": document["id"],
        "number": document["number"],
        **key._asdict(),
        "title": document["title"],
        "description": document["description"],
        # As they are stored: those of one ``order`` are shown in the order of the list.
        "options": [
            {
                "id": option["id"],
                "title": option["title"],
                "order": option["order"],
                "isCorrect": option["is_correct"],
            }
            for option in document["options"]
        ],
        "settings": document["settings"],
        "highestOption": document["highest_option"],
        "createdBy": document["owner_id"],
        "createdAt": time(document["created_at"]),
        "voterKey": voter_key,
    }


def moved_session(document: SessionDocument) -> dict[str, Any]:
    """A session of such a line, without its ballots."""
    return {
        "id": document["_id"],
        "courseId": document["course_id"],
        "courseSectionId": document["course_section_id"],
        "isPublished": document["is_published"],
        "hasEnded": document["rules"].get("has_ended", False),
        "hasPublicResults": document["has_public_results"],
        "createdAt": time(document["created_at"]),
        **({"closedAt": time(document["closed_at"])} if "closed_at" in document else {}),
        **({"countsOnly": True} if document.get("counts_only") else {}),
        **({"isFinal": True} if document.get("is_final") else {}),
        "results": document["results"],
        "participants": document["participants"],
    }


def moved_ballot(ballot: BallotDocument, rules: SessionRules) -> dict[str, Any]:
    """A ballot of such a line; without a name it has a ``voter``, by which nobody votes twice."""
    user_id = _voter(ballot, rules)
    voter = ballot["_id"].partition(":")[2]
    days = ballot if user_id is not None else {**ballot, "user_id": None}
    return {
        "id": ballot["number"],
        **({"voter": voter} if user_id is None else {"userId": user_id}),
        "optionIds": ballot["choices"],
        "comment": ballot["comment"],
        "createdAt": _cast_time(days, "created_at"),
        "updatedAt": _cast_time(days, "updated_at"),
    }


def _cast_time(ballot: BallotDocument, member: Literal["created_at", "updated_at"]) -> str:
    """The day alone if the ballot has no name; version 0.1 stored more of it."""
    moment = ballot[member]
    return time(moment if ballot["user_id"] is not None else day_of(moment))


def _voter(ballot: BallotDocument, rules: SessionRules) -> UserId | None:
    """The name on a ballot, unless names are no longer saved."""
    return ballot["user_id"] if rules["settings"]["saveParticipantNames"] else None
