"""Each command, failing in each way, once to three times, under each request."""

from tests.storage.test_faults import (
    _driver_looks_again_soon,
    test_a_reply_that_is_slower_than_the_time_limit_counts_nothing_twice,
    test_an_outage_under_load_loses_no_vote_and_counts_none_twice,
    test_every_request_about_votes_is_answered_rightly_or_changes_nothing,
)

__all__ = [
    "_driver_looks_again_soon",
    "test_a_reply_that_is_slower_than_the_time_limit_counts_nothing_twice",
    "test_an_outage_under_load_loses_no_vote_and_counts_none_twice",
    "test_every_request_about_votes_is_answered_rightly_or_changes_nothing",
]
