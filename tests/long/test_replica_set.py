"""Forty primaries, ten in each way."""

from tests.storage.test_replica_set import (
    raw,
    replicas,
    test_whichever_way_a_primary_is_lost_no_vote_is_lost_or_counted_twice,
    test_without_a_majority_nothing_is_acknowledged_and_all_is_well_when_it_is_back,
)

__all__ = [
    "raw",
    "replicas",
    "test_whichever_way_a_primary_is_lost_no_vote_is_lost_or_counted_twice",
    "test_without_a_majority_nothing_is_acknowledged_and_all_is_well_when_it_is_back",
]
