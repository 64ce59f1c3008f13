"""Twenty kills of workers."""

from tests.server.test_workers import (
    test_of_the_votes_through_workers_that_are_killed_none_is_lost_or_counted_twice,
)

__all__ = ["test_of_the_votes_through_workers_that_are_killed_none_is_lost_or_counted_twice"]
