"""Half a million submissions."""

from tests.polling.test_export_memory import (
    test_an_export_of_very_many_submissions_takes_no_more_memory_than_one_of_few,
)

__all__ = ["test_an_export_of_very_many_submissions_takes_no_more_memory_than_one_of_few"]
