"""Twenty kills amid creations, twenty amid votes, twenty of the database, and 100,000 ballots."""

from tests.server.test_kill import test_polls_that_were_answered_survive_kills
from tests.server.test_kills import (
    test_a_deleted_poll_is_gone_at_once_and_its_ballots_soon_after_a_kill_too,
    test_a_killed_database_comes_back_by_itself_with_every_vote,
    test_a_killed_service_has_lost_no_vote_and_mistakes_no_first_one,
)

__all__ = [
    "test_a_deleted_poll_is_gone_at_once_and_its_ballots_soon_after_a_kill_too",
    "test_a_killed_database_comes_back_by_itself_with_every_vote",
    "test_a_killed_service_has_lost_no_vote_and_mistakes_no_first_one",
    "test_polls_that_were_answered_survive_kills",
]
