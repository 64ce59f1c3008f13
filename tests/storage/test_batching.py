"""Batching: every property that the architecture lists.

Batches end when a test says so, and the loop's clock goes as far as a test sets it.
"""

import asyncio
from collections.abc import Callable, Sequence

import pytest
import uvloop

from storage.batching import Batcher
from storage.client import GRACE_SECONDS, set_time_limit
from storage.errors import Conflict, OutcomeUnknown, Unavailable
from tests.support.desk import Desk, LoopClock, ask, assert_at_rest, submit, turns, who


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def loop_clock(monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    clock = LoopClock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    return clock


async def test_an_item_goes_at_once_when_nothing_is_in_flight(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    for item in (1, 2):
        [caller] = await submit(batcher, item)
        assert desk.batches[-1] == [item]
        await desk.end(-1)
        assert await caller == item * 10
        assert_at_rest(batcher)


async def test_all_callers_before_a_batch_has_started_go_with_it(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    callers = await submit(batcher, 1, 2, 3)
    assert desk.batches == [[1, 2, 3]]
    await desk.end(0)
    assert await asyncio.gather(*callers) == [10, 20, 30]
    assert_at_rest(batcher)


async def test_what_arrives_meanwhile_goes_together_as_the_next_batch(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    first = await submit(batcher, 1)
    meanwhile = await submit(batcher, 2, 3) + await submit(batcher, 4)
    assert desk.batches == [[1]]
    await desk.end(0)
    assert desk.batches == [[1], [2, 3, 4]]
    await desk.end(1)
    assert await asyncio.gather(*first, *meanwhile) == [10, 20, 30, 40]
    assert_at_rest(batcher)


async def test_a_read_begins_after_it_was_asked_for() -> None:
    stored = {"value": 1}
    read, answered = asyncio.Event(), asyncio.Event()

    async def find(keys: Sequence[str]) -> Sequence[int]:
        found = [stored[key] for key in keys]
        read.set()
        await answered.wait()
        return found

    batcher = Batcher(find)
    early = asyncio.create_task(ask(batcher, "value"))
    await read.wait()
    stored["value"] = 2  # the caller writes, and then reads
    late = asyncio.create_task(ask(batcher, "value"))
    await turns()
    answered.set()
    assert (await early, await late) == (1, 2)


async def test_a_refused_item_fails_alone(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    await submit(batcher, 0)
    desk.refusals[2] = Conflict("no")
    callers = await submit(batcher, 1, 2, 3)
    await desk.end_all()
    one, two, three = await asyncio.gather(*callers, return_exceptions=True)
    assert [one, three] == [10, 30]
    assert isinstance(two, Conflict)


async def test_an_item_that_breaks_its_batch_fails_alone(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    await submit(batcher, 0)
    desk.errors[2] = ValueError("two")
    callers = await submit(batcher, 1, 2, 3)
    await desk.end_all()
    one, two, three = await asyncio.gather(*callers, return_exceptions=True)
    assert desk.batches == [[0], [1, 2, 3], [1], [2], [3]]
    assert [one, three] == [10, 30]
    assert isinstance(two, ValueError)
    assert_at_rest(batcher)


async def test_a_failed_batch_fails_its_own_callers_and_later_ones_work(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    await submit(batcher, 0)
    failing = await submit(batcher, 1, 2)
    await desk.end(0)
    later = await submit(batcher, 3, 4)
    await desk.end(1, Unavailable("away"))
    assert desk.batches == [[0], [1, 2], [3, 4]]  # not one by one: the database was away
    assert [type(caller.exception()) for caller in failing] == [Unavailable] * 2
    await desk.end(2)
    assert await asyncio.gather(*later) == [30, 40]
    assert_at_rest(batcher)


async def test_a_caller_cancelled_before_the_start_takes_only_the_own_item_along(
    desk: Desk,
) -> None:
    batcher = Batcher(desk.run)
    [first] = await submit(batcher, 1)
    second, gone, fourth = await submit(batcher, 2, 3, 4)
    gone.cancel()
    await desk.end(0)
    assert gone.cancelled()
    assert desk.batches == [[1], [2, 4]]
    await desk.end(1)
    assert [await first, await second, await fourth] == [10, 20, 40]
    assert_at_rest(batcher)


async def test_a_caller_cancelled_in_flight_harms_nobody_and_the_batch_goes_on(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    await submit(batcher, 0)
    gone, staying = await submit(batcher, 1, 2)
    await desk.end(0)
    gone.cancel()
    [late] = await submit(batcher, 3)
    assert gone.cancelled()
    assert desk.batches == [[0], [1, 2]]
    await desk.end(1)
    assert await staying == 20
    await desk.end(2)
    assert await late == 30
    assert_at_rest(batcher)


async def test_when_all_waiting_callers_are_cancelled_nothing_starts(desk: Desk) -> None:
    batcher = Batcher(desk.run, staggered=True)
    [first] = await submit(batcher, 1)
    for caller in await submit(batcher, 2, 3):
        caller.cancel()
    await desk.end(0)
    assert await first == 10
    assert desk.batches == [[1]]
    assert_at_rest(batcher)


async def test_a_full_queue_answers_unavailable_and_takes_more_when_there_is_room(
    desk: Desk,
) -> None:
    batcher = Batcher(desk.run, max_waiting=2)
    callers = await submit(batcher, 1) + await submit(batcher, 2, 3)
    with pytest.raises(Unavailable):
        await batcher.submit(4)
    await desk.end(0)
    callers += await submit(batcher, 5, 6)
    with pytest.raises(Unavailable):
        await batcher.submit(7)
    await desk.end_all()
    assert await asyncio.gather(*callers) == [10, 20, 30, 50, 60]
    assert desk.batches == [[1], [2, 3], [5, 6]]


async def test_items_that_have_not_started_in_time_leave_also_while_a_batch_hangs(
    desk: Desk, loop_clock: LoopClock
) -> None:
    batcher = Batcher(desk.run, wait_seconds=4.0)
    [hanging] = await submit(batcher, 1)
    [early] = await submit(batcher, 2)
    await loop_clock.advance(1.0)
    [late] = await submit(batcher, 3)
    await loop_clock.advance(2.9)
    assert not early.done()
    await loop_clock.advance(0.2)
    assert isinstance(early.exception(), Unavailable)
    assert not late.done()
    await loop_clock.advance(1.0)
    assert isinstance(late.exception(), Unavailable)
    # One that is in flight awaits its outcome.
    await loop_clock.advance(60.0)
    assert not hanging.done()
    await desk.end(0)
    assert await hanging == 10
    assert desk.batches == [[1]]
    assert_at_rest(batcher)


async def test_a_caller_that_can_wait_no_longer_is_answered_while_its_batch_is_in_flight(
    desk: Desk,
) -> None:
    batcher = Batcher(desk.run, unanswered=OutcomeUnknown)
    [patient] = await submit(batcher, 1)
    await desk.end(0)
    assert await patient == 10
    [hurried] = await submit_within(0.05, batcher, 2)
    assert desk.batches == [[1], [2]]
    async with asyncio.timeout(5):
        with pytest.raises(OutcomeUnknown, match="not known yet"):
            await hurried
    await desk.end(1)
    assert_at_rest(batcher)


async def test_a_caller_that_can_wait_no_longer_leaves_the_queue_before_the_others(
    desk: Desk,
) -> None:
    batcher = Batcher(desk.run)
    [first] = await submit(batcher, 1)
    [patient] = await submit(batcher, 2)
    [hurried] = await submit_within(0.05, batcher, 3)
    async with asyncio.timeout(2):
        with pytest.raises(Unavailable, match="nothing was changed"):
            await hurried
    await desk.end(0)
    assert desk.batches == [[1], [2]]
    await desk.end(1)
    assert [await first, await patient] == [10, 20]
    assert_at_rest(batcher)


async def submit_within(
    seconds: float, batcher: Batcher[int, int], item: int
) -> list[asyncio.Task[int]]:
    """As ``submit``, for a caller that is to be answered within so many seconds."""

    async def hurry() -> list[asyncio.Task[int]]:
        set_time_limit(seconds - GRACE_SECONDS)
        return await submit(batcher, item)

    return await asyncio.create_task(hurry())


async def test_callers_that_have_long_waited_for_a_failed_batch_do_not_wait_for_another(
    desk: Desk, loop_clock: LoopClock
) -> None:
    batcher = Batcher(desk.run)
    await submit(batcher, 1)
    [patient] = await submit(batcher, 2)
    await loop_clock.advance(3.6)
    [newcomer] = await submit(batcher, 3)
    await loop_clock.advance(0.3)
    await desk.end(0, Unavailable("away"))
    assert isinstance(patient.exception(), Unavailable)
    assert desk.batches == [[1], [3]]
    await desk.end(1)
    assert await newcomer == 30
    assert_at_rest(batcher)


async def test_a_short_wait_works_on_the_real_clock_too(desk: Desk) -> None:
    batcher = Batcher(desk.run, wait_seconds=0.01)
    [hanging] = await submit(batcher, 1)
    with pytest.raises(Unavailable):
        await batcher.submit(2)
    await desk.end(0)
    assert await hanging == 10
    assert_at_rest(batcher)


async def test_a_batch_has_a_largest_size_and_keeps_the_order_of_arrival(desk: Desk) -> None:
    batcher = Batcher(desk.run, max_size=3)
    callers = await submit(batcher, *range(8))
    await desk.end_all()
    assert desk.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert await asyncio.gather(*callers) == [item * 10 for item in range(8)]
    assert_at_rest(batcher)


async def test_a_second_batch_starts_when_the_first_is_older_than_20_ms(
    desk: Desk, loop_clock: LoopClock
) -> None:
    batcher = Batcher(desk.run, staggered=True)
    first = await submit(batcher, 1)
    second = await submit(batcher, 2)
    await loop_clock.advance(0.019)
    assert desk.batches == [[1]]
    await loop_clock.advance(0.002)
    assert desk.batches == [[1], [2]]
    third = await submit(batcher, 3)
    await loop_clock.advance(1.0)
    assert desk.batches == [[1], [2]]  # two, and no more
    await desk.end(1)
    assert await second[0] == 20
    assert desk.batches == [[1], [2], [3]]
    await desk.end_all()
    assert await asyncio.gather(*first, *third) == [10, 30]
    assert_at_rest(batcher)


async def test_a_second_batch_starts_at_once_where_the_first_is_old_already(
    desk: Desk, loop_clock: LoopClock
) -> None:
    batcher = Batcher(desk.run, staggered=True)
    callers = await submit(batcher, 1)
    await loop_clock.advance(0.5)
    callers += await submit(batcher, 2)
    assert desk.batches == [[1], [2]]
    await desk.end_all()
    assert await asyncio.gather(*callers) == [10, 20]
    assert_at_rest(batcher)


async def test_the_age_that_counts_is_that_of_the_batch_in_flight(
    desk: Desk, loop_clock: LoopClock
) -> None:
    batcher = Batcher(desk.run, staggered=True, max_size=1)
    callers = await submit(batcher, 1, 2, 3)
    await loop_clock.advance(0.015)
    await desk.end(0)
    assert desk.batches == [[1], [2]]
    await loop_clock.advance(0.010)
    assert desk.batches == [[1], [2]]  # the second is 10 ms old
    await loop_clock.advance(0.011)
    assert desk.batches == [[1], [2], [3]]
    await desk.end_all()
    assert await asyncio.gather(*callers) == [10, 20, 30]
    assert_at_rest(batcher)


async def test_without_stagger_a_slow_batch_is_waited_for(
    desk: Desk, loop_clock: LoopClock
) -> None:
    batcher = Batcher(desk.run, wait_seconds=10.0)
    callers = await submit(batcher, 1) + await submit(batcher, 2)
    await loop_clock.advance(5.0)
    assert desk.batches == [[1]]
    await desk.end_all()
    assert await asyncio.gather(*callers) == [10, 20]


async def test_drain_returns_when_all_that_was_submitted_has_ended(desk: Desk) -> None:
    batcher = Batcher(desk.run, max_size=2)
    await batcher.drain()
    callers = await submit(batcher, 1) + await submit(batcher, 2, 3, 4)
    drained = asyncio.create_task(batcher.drain())
    for batch in range(3):
        await turns()
        assert not drained.done()
        await desk.end(batch)
    await drained
    assert [caller.result() for caller in callers] == [10, 20, 30, 40]
    assert_at_rest(batcher)


async def test_a_batch_runs_in_an_empty_context_and_not_as_its_first_caller(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    token = who.set("the first caller")
    callers = await submit(batcher, 1) + await submit(batcher, 2)
    who.reset(token)
    await desk.end_all()
    assert await asyncio.gather(*callers) == [10, 20]
    assert desk.callers == ["nobody", "nobody"]


async def test_a_batch_whose_work_is_cancelled_leaves_no_caller_behind(desk: Desk) -> None:
    batcher = Batcher(desk.run)
    [caller] = await submit(batcher, 1)
    [task] = batcher._in_flight
    task.cancel()
    await turns()
    assert isinstance(caller.exception(), Unavailable)
    [later] = await submit(batcher, 2)
    await desk.end(1)
    assert await later == 20
    assert_at_rest(batcher)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_callers_whose_time_is_over_already_are_refused(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """As after the process was stopped for some seconds."""

    async def come_late() -> None:
        desk = Desk()
        batcher = Batcher(desk.run)
        [first] = await submit(batcher, 1)
        set_time_limit(-1 - GRACE_SECONDS)
        late = await submit(batcher, 2, 3)
        refusals = await asyncio.gather(*late, return_exceptions=True)
        assert [type(one) for one in refusals] == [Unavailable, Unavailable]
        await desk.end(0)
        assert await first == 10
        assert desk.batches == [[1]]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(come_late())
