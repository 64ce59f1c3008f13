"""What the simulation of bench.scaling must be true to, whatever it is fed with."""

from dataclasses import fields, replace

import pytest

from bench.scaling.costs import COSTS, Costs
from bench.scaling.simulation import Scenario, simulate

FREE = Costs(**{one.name: 0.0 for one in fields(Costs)})
"""Nothing takes any time."""
SHORT = Scenario(processes=4, connections=200, seconds=0.3, warmup=0.1)
SCENARIOS = [
    SHORT,
    replace(SHORT, sessions=50, closes=True),
    replace(SHORT, connections=0, rate=3_000.0, tallies=True, closes=True),
    replace(SHORT, machines=2),
    replace(SHORT, machines=2, has_casters=True, shared_cores=2),
    replace(SHORT, sessions=50, shards=2),
    replace(SHORT, sessions=50, shards=2, is_by_shard=True),
    replace(SHORT, shards=2, is_spread=True),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=range(len(SCENARIOS)))
def test_the_same_seed_gives_the_same_outcome_and_no_vote_is_lost_or_made(
    scenario: Scenario,
) -> None:
    outcome = simulate(scenario)
    assert outcome == simulate(scenario)
    assert outcome.answered > 0
    if scenario.connections and not scenario.shared_cores:
        # Each caller has one vote on its way at every moment.
        assert outcome.waiting == scenario.connections
    else:
        assert 0 <= outcome.waiting <= (scenario.connections or scenario.rate / 10)
    assert all(0.0 <= share <= 1.01 for share in outcome.use.values())


def test_votes_that_wait_longer_than_they_may_are_refused_and_counted() -> None:
    slow = replace(FREE, majority_ms=5_000.0)
    outcome = simulate(Scenario(connections=10, seconds=20.0, costs=slow))
    assert outcome.refused > 0
    assert outcome.cast == outcome.answered + outcome.refused + 10


def test_one_process_makes_a_batch_in_the_time_that_its_parts_take() -> None:
    costs = replace(FREE, trip_ms=1.0, majority_ms=2.0, ballot_us=100.0)
    # Three round trips and the majority; a batch of all others follows that of the first caller.
    alone = simulate(Scenario(connections=1, seconds=1.02, costs=costs))
    assert alone.rate == pytest.approx(1 / 0.0051, rel=0.02)
    many = simulate(Scenario(connections=100, seconds=0.6, warmup=0.1, costs=costs))
    assert many.rate == pytest.approx(100 / (2 * 0.005 + 100 * 0.0001), rel=0.05)
    assert alone.retries == many.retries == 0
    assert many.answered / many.batches == pytest.approx(50, rel=0.05)


def test_a_process_makes_no_more_votes_than_it_has_time_for() -> None:
    outcome = simulate(Scenario(connections=100, costs=replace(FREE, vote_us=500.0), seconds=0.5))
    assert outcome.rate == pytest.approx(2_000, rel=0.02)
    assert outcome.use["service CPU"] == pytest.approx(1.0, rel=0.02)


def test_processes_conflict_in_one_session_and_not_in_their_own_tallies() -> None:
    assert simulate(SHORT).retries > 0
    assert simulate(replace(SHORT, tallies=True)).retries == 0


def test_processes_of_one_machine_cast_in_turns_and_do_not_conflict() -> None:
    costs = replace(FREE, trip_ms=1.0, majority_ms=2.0)
    turns = simulate(replace(SHORT, machines=1, costs=costs))
    assert turns.retries == turns.hasty == 0
    # One batch at a time takes all that has come to its process since the last one.
    assert turns.votes / turns.batches == pytest.approx(50, rel=0.35)
    assert simulate(replace(SHORT, machines=2, costs=costs)).retries > 0


def test_a_turn_is_waited_for_a_second() -> None:
    two = replace(SHORT, processes=2, machines=1, seconds=8.0)
    assert simulate(replace(two, costs=replace(FREE, majority_ms=900.0))).hasty == 0
    assert simulate(replace(two, costs=replace(FREE, majority_ms=1100.0))).hasty > 0


def test_a_batch_that_conflicts_too_often_is_split_by_session() -> None:
    contended = replace(SHORT, processes=20, sessions=10, seconds=1.0)
    outcome = simulate(contended)
    assert 0 < outcome.alone <= outcome.batches
    assert simulate(replace(contended, sessions=1)).alone == 0


def test_a_transaction_over_two_shards_waits_for_a_majority_four_times() -> None:
    costs = replace(FREE, majority_ms=5.0)
    one = Scenario(connections=1, costs=costs, seconds=1.0)
    two = replace(one, shards=2, is_spread=True, sessions=2)
    single, double = simulate(one), simulate(two)
    assert single.latency_ms(50) == pytest.approx(5)
    # One vote lies on one shard: half of the sessions are on the other.
    assert double.latency_ms(1) == pytest.approx(5)
    assert double.latency_ms(99) == pytest.approx(20)


def test_the_table_of_costs_names_how_each_was_measured() -> None:
    assert all(one.metadata["how"] and getattr(COSTS, one.name) >= 0 for one in fields(Costs))
