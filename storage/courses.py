"""The order of changes in a course: ends of enrollments, and sessions that come into it."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, cast

from storage.client import Transaction, UpdateOne
from storage.documents import EnrollmentDocument


class Teacher(NamedTuple):
    """A user, and what raises unless these enrollments of theirs let them teach a course."""

    user_id: int
    require: Callable[[Sequence[EnrollmentDocument], int], None]


def enter(transaction: Transaction, course_ids: Collection[int], teacher: Teacher) -> None:
    """For a transaction that brings sessions into courses: raises what ``teacher.require`` does.

    Conflicts with the end of any enrollment there: that would not know of these sessions.
    """
    order(transaction, course_ids)
    found = list(transaction.find("enrollments", {"user_id": teacher.user_id}))
    for course_id in course_ids:
        teacher.require(cast(list[EnrollmentDocument], found), course_id)


def order(transaction: Transaction, course_ids: Collection[int]) -> None:
    """Of two transactions at once that call this for one course, one runs again."""
    update = {"$inc": {"changes": 1}}
    transaction.bulk_write(
        "courses", [UpdateOne({"_id": one}, update, upsert=True) for one in sorted(course_ids)]
    )
