"""The same sentences as in the tests above, held for longer: ``make soak``."""

import pytest

from tests.conftest import Scale


@pytest.fixture
def scale() -> Scale:
    return Scale(
        processes=4,
        users=2_000,
        sessions=50,
        session_users=2_000,
        rounds=40,
        kills=20,
        ballots=100_000,
        exported=500_000,
        failures=(1, 2, 3),
        full_disks=20,
    )
