"""Four processes, 2,000 users, one session and fifty."""

from tests.server.test_many_processes import (
    test_each_of_many_sessions_takes_one_of_three_votes_at_once,
    test_no_session_keeps_the_old_rules_of_a_poll_that_changes_meanwhile,
    test_no_vote_is_taken_after_a_close_was_answered,
    test_of_three_votes_at_once_through_several_processes_one_counts,
    test_revotes_at_once_through_several_processes_leave_one_ballot_each,
)

__all__ = [
    "test_each_of_many_sessions_takes_one_of_three_votes_at_once",
    "test_no_session_keeps_the_old_rules_of_a_poll_that_changes_meanwhile",
    "test_no_vote_is_taken_after_a_close_was_answered",
    "test_of_three_votes_at_once_through_several_processes_one_counts",
    "test_revotes_at_once_through_several_processes_leave_one_ballot_each",
]
