"""The order of changes in a course: ends of enrollments, and what they must not miss.

That is sessions that come into the course or are opened, and polls that its teachers make.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, cast

from storage.client import Transaction, UpdateOne
from storage.documents import EnrollmentDocument, UserId


class Teacher(NamedTuple):
    """A user, and what raises unless these enrollments of theirs let them teach a course."""

    user_id: UserId
    require: Callable[[Sequence[EnrollmentDocument], int], None]


class AnyTeacher(NamedTuple):
    """A user, and what raises unless these enrollments let them teach any course.

    It returns such a course, or None if the user needs none.
    """

    user_id: UserId
    course_of: Callable[[Sequence[EnrollmentDocument]], int | None]


def require_teacher(transaction: Transaction, teacher: AnyTeacher) -> None:
    """Raises what ``teacher.course_of`` does; conflicts with the end of that enrollment."""
    course_id = teacher.course_of(_enrollments_of(transaction, teacher.user_id))
    if course_id is not None:
        order(transaction, [course_id])


def enter(transaction: Transaction, course_ids: Collection[int], teacher: Teacher) -> None:
    """For a transaction that brings sessions into courses: raises what ``teacher.require`` does.

    Conflicts with the end of any enrollment there: that would not know of these sessions.
    """
    order(transaction, course_ids)
    found = _enrollments_of(transaction, teacher.user_id)
    for course_id in course_ids:
        teacher.require(found, course_id)


def _enrollments_of(transaction: Transaction, user_id: UserId) -> list[EnrollmentDocument]:
    found = transaction.find("enrollments", {"user_id": user_id})
    return cast(list[EnrollmentDocument], list(found))


def order(transaction: Transaction, course_ids: Collection[int]) -> None:
    """Of two transactions at once that call this for one course, one runs again."""
    update = {"$inc": {"changes": 1}}
    transaction.bulk_write(
        "courses", [UpdateOne({"_id": one}, update, upsert=True) for one in sorted(course_ids)]
    )
