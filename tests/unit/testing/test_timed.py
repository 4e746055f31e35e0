"""Conformance tests that compare with real times get a second try, with a longer unit."""

from __future__ import annotations

import pytest

from caraway.testing.clock import VirtualClock
from caraway.testing.conformance.suite import Suite, timed


class Case(Suite):
    """Passes where a unit is long enough."""

    tick = 0.001
    enough = 0.004

    def setup_method(self, method: object = None) -> None:
        super().setup_method(method)
        self.clock = None

    @timed
    def test_it(self) -> None:
        units.append(self.unit)
        assert not hasattr(self, "opened"), "what the first try opened is gone"
        self.opened = self._cleanups.append(lambda: closed.append(len(units)))
        assert self.unit >= self.enough


units: list[float] = []
closed: list[int] = []


@pytest.fixture
def case() -> Case:
    units.clear()
    closed.clear()
    made = Case()
    made.setup_method()
    return made


def test_what_was_too_short_is_tried_once_more_from_the_start(case: Case) -> None:
    case.test_it()
    assert units == [0.001, 0.004]
    assert closed == [1]


def test_what_fails_again_fails(case: Case) -> None:
    case.enough = 1.0
    with pytest.raises(AssertionError):
        case.test_it()
    assert units == [0.001, 0.004]


def test_what_passes_is_not_repeated(case: Case) -> None:
    case.enough = 0.0
    case.test_it()
    assert units == [0.001]


def test_where_time_is_virtual_nothing_is_too_short(case: Case) -> None:
    case.clock = VirtualClock(0.0)
    case.enough = 100.0
    with pytest.raises(AssertionError):
        case.test_it()
    assert units == [10.0]
