from __future__ import annotations

import os

from caraway.events.clock import LamportClock


def test_a_clock_counts_on_and_jumps_ahead_of_others() -> None:
    clock = LamportClock()
    assert [clock.forward(), clock.forward(5), clock.value] == [1, 6, 6]
    assert [clock.adjust(3), clock.adjust(20), clock.value] == [7, 21, 21]


def test_a_time_that_nobody_can_have_come_to_is_ignored() -> None:
    clock = LamportClock(5)
    assert clock.adjust(1 << 70) == 6
    assert clock.adjust(-(1 << 70)) == 7


def test_processes_may_count_together() -> None:
    clock = LamportClock(5)
    clock.share()
    child = os.fork()
    if child == 0:
        clock.forward(10)
        os._exit(0)
    os.waitpid(child, 0)
    assert clock.forward() == 16
