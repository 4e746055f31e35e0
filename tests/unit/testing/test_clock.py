from __future__ import annotations

import pytest

from caraway.testing import VirtualClock


def test_time_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(1000.0)
    before = (clock(), clock.monotonic())
    assert (clock(), clock.monotonic()) == before

    assert clock.advance(2.5) == 1002.5

    assert clock() - before[0] == clock.monotonic() - before[1] == 2.5


def test_a_jump_moves_the_wall_clock_only() -> None:
    clock = VirtualClock(1000.0)
    monotonic = clock.monotonic()
    assert clock.jump(-600) == 400.0
    assert clock.monotonic() == monotonic


def test_time_does_not_pass_backwards() -> None:
    with pytest.raises(ValueError, match="jump"):
        VirtualClock().advance(-1)


def test_who_watches_is_told_of_moves() -> None:
    clock = VirtualClock(0.0)
    seen: list[float] = []

    def watcher() -> None:
        seen.append(clock())

    clock.watch(watcher)
    clock.watch(watcher)
    clock.advance(1)
    clock.jump(1)
    clock.unwatch(watcher)
    clock.unwatch(watcher)
    clock.advance(1)

    assert seen == [1.0, 2.0]


def test_a_context_has_the_clock() -> None:
    clock = VirtualClock(5.0)
    context = clock.context(node="n@h")
    assert (context.clock(), context.node) == (5.0, "n@h")
    clock.advance(1)
    assert context.clock() == 6.0
