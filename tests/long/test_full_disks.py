"""A disk that is full twenty times, each time under a store of its own."""

from tests.storage.test_no_writes import (
    small_disk,
    test_a_full_disk_costs_no_acknowledged_vote_and_passes_when_there_is_room,
)

__all__ = [
    "small_disk",
    "test_a_full_disk_costs_no_acknowledged_vote_and_passes_when_there_is_room",
]
