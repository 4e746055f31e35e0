"""How much a lane fetches."""

from __future__ import annotations

import itertools

import pytest

from caraway.message import Delivery, Message
from caraway.worker.intake import LINGER, MAX_BYTES, Pace


def test_at_first_only_the_idle_slots_are_filled() -> None:
    assert Pace(slots=1, limit=256, horizon=0.02).want(0) == 1
    assert Pace(slots=8, limit=256, horizon=0.02).want(3) == 5


def test_short_tasks_grow_the_batch_step_by_step_to_the_limit() -> None:
    pace = Pace(slots=1, limit=256, horizon=0.02)
    wanted = []
    for _ in range(6):
        wanted.append(pace.want(0))
        pace.observe(wanted[-1], wanted[-1] * 20e-6, wanted[-1] * 80)
    assert wanted == [1, 4, 16, 64, 256, 256]


def test_tasks_of_two_milliseconds_are_fetched_for_the_horizon() -> None:
    pace = Pace(slots=1, limit=256, horizon=0.02)
    for _ in range(20):
        pace.observe(10, 0.02, 800)
    assert pace.want(0) == 10


def test_long_tasks_are_fetched_for_idle_slots_only() -> None:
    pace = Pace(slots=4, limit=256, horizon=0.02)
    for _ in range(5):
        pace.observe(64, 64 * 20e-6, 64)
    assert pace.want(0) > 4
    pace.observe(1, 1.0, 80)
    assert pace.want(0) == 4
    assert pace.want(4) == 0


def test_heavy_bodies_make_batches_small() -> None:
    pace = Pace(slots=1, limit=256, horizon=0.02)
    for _ in range(5):
        pace.observe(256, 256 * 10e-6, 256 * (MAX_BYTES // 4))
    assert pace.want(0) == 4
    pace.observe(1, 10e-6, MAX_BYTES * 2)
    assert pace.want(0) == 1


def test_nothing_observed_changes_nothing() -> None:
    pace = Pace(slots=2, limit=256, horizon=0.02)
    pace.observe(0, 0.0, 0)
    assert pace.want(0) == 2


def test_idle_slots_are_filled_before_more_is_fetched_ahead() -> None:
    pace = Pace(slots=50, limit=1024, horizon=0.05)
    pace.observe(50, 50 * 0.01, 4000)
    assert pace.want(0) == 50
    assert pace.want(50) == 200, "now there is time to fetch ahead"


def test_shortest_tasks_are_fetched_ahead_at_once() -> None:
    pace = Pace(slots=50, limit=1024, horizon=0.05)
    pace.observe(50, 50 * 0.0001, 4000)
    assert pace.want(0) == 200


def test_outcomes_gather_while_there_is_more_work_at_hand() -> None:
    pace = Pace(slots=50, limit=1024, horizon=0.05)
    assert pace.spare(100) == 0.0, "nothing is known yet"
    pace.observe(50, 50 * 0.01, 4000)
    assert pace.spare(100) == LINGER, "another round of 10 ms"
    assert pace.spare(60) == 0.0, "2 ms would be over at once"
    assert pace.spare(10) == 0.0


def test_behind_many_full_batches_twice_as_much_is_fetched() -> None:
    pace = Pace(slots=1, limit=1024, horizon=0.05)
    for _ in range(12):
        pace.observe(50, 0.1, 100)
        usual = pace.want(0)
        pace.met(usual)
    assert usual == 50
    # The queue has shown its end: back to the usual.
    pace.met(3)
    assert pace.want(0) == 25
    for _ in range(12):
        assert pace.want(0) in (25, 50)
        pace.met(pace._wanted)
    assert pace.want(0) == 50
    # Nothing came at all.
    assert pace.want(0) == 25


def fetched(pace: Pace, *priorities: int) -> int:
    """A turn that brings what was wanted, of these priorities in turn; returns how many."""
    pace.observe(50, 0.1, 100)
    wanted = pace.want(0)
    each = itertools.cycle(priorities)
    pace.meet([Delivery(Message(b""), n, "q", priority=next(each)) for n in range(wanted)])
    return wanted


def test_where_nothing_waits_for_it_four_times_as_much_is_fetched_soon() -> None:
    pace = Pace(slots=1, limit=1024, horizon=0.05)
    pace.patient = True
    sizes = [fetched(pace, 3) for _ in range(24)]
    assert sizes == [25] * 4 + [100] * 20
    pace.meet([])
    assert fetched(pace, 3) == 25, "the queue has shown its end"


@pytest.mark.parametrize("second", [(5,), (3, 5)])
def test_what_may_be_overtaken_is_fetched_less_far_ahead(second: tuple[int, ...]) -> None:
    pace = Pace(slots=1, limit=1024, horizon=0.05)
    pace.patient = True
    for _ in range(24):
        fetched(pace, 3)
    fetched(pace, *second)
    assert {fetched(pace, 3) for _ in range(24)} == {50}


@pytest.mark.parametrize("body", [100, 200_000])
def test_of_large_bodies_one_batch_is_at_hand_at_a_time(body: int) -> None:
    pace = Pace(slots=1, limit=1024, horizon=0.05)
    for _ in range(12):
        pace.observe(50, 0.1, 50 * body)
        wanted = pace.want(0)
        pace.met(wanted)
    assert pace.deep == (body == 100)
    assert wanted == (50 if body == 100 else 25)


def test_batches_of_one_do_not_make_a_queue_long() -> None:
    pace = Pace(slots=1, limit=1024, horizon=0.05)
    for _ in range(12):
        assert pace.want(0) == 1
        pace.met(1)
    pace.observe(100, 0.2, 100)
    assert pace.want(0) == 25
