from __future__ import annotations

import json
from typing import Any

import pytest

from caraway.builtin.memory import MemoryTransport
from caraway.interfaces import Capability
from caraway.testing.conformance import Report, TransportSuite, run
from caraway.testing.conformance.suite import Suite, needs, raises, skip


class Plain:
    capabilities = frozenset({Capability.DELAY})


class Toy(Suite):
    kind = "toy"
    factory = Plain

    def make(self, tmp_path: Any) -> Any:
        return lambda _context: Plain()

    def test_holds(self) -> None:
        assert self.subject is not None

    def test_does_not_hold(self) -> None:
        assert 1 + 1 == 3, "one and one is not three"

    def test_skips(self) -> None:
        raise skip("no moon tonight")

    @needs(Capability.DELAY)
    def test_claimed(self) -> None:
        raise TypeError("not implemented")

    @needs(Capability.PRIORITY)
    def test_not_declared_but_works(self) -> None:
        assert True

    @needs(Capability.LEASE)
    def test_not_declared_and_fails(self) -> None:
        raise NotImplementedError

    @needs(Capability.LEASE)
    def test_not_declared_and_works_by_chance(self) -> None:
        assert True


@pytest.fixture
def report() -> Report:
    return run("toy", suite=Toy)


def test_a_report_has_a_check_for_each_test(report: Report) -> None:
    results = {check.name: check.result for check in report.checks}
    assert results == {
        "the_class_declares_what_its_entry_declares": "skipped",
        "holds": "passed",
        "does_not_hold": "failed",
        "skips": "skipped",
        "claimed": "failed",
        "not_declared_but_works": "undeclared",
        "not_declared_and_fails": "skipped",
        "not_declared_and_works_by_chance": "undeclared",
    }
    assert not report.ok
    assert report.declared == ("delay",)


def test_a_capability_that_works_undeclared_is_reported(report: Report) -> None:
    assert report.undeclared == ("priority",)
    assert "can also do what it doesn't declare: priority." in report.render()


def test_the_report_says_what_failed_and_whether_it_was_claimed(report: Report) -> None:
    text = report.render()
    assert "FAILED   does not hold  [base duty]" in text
    assert "one and one is not three" in text
    assert "FAILED   claimed  [claims delay]" in text
    assert "TypeError: not implemented" in text
    assert "skipped  skips: no moon tonight" in text
    assert "passed   holds" not in text
    assert "passed   holds" in report.render(verbose=True)
    assert text.endswith("It does NOT keep the contract.")


def test_the_report_can_be_read_by_programs(report: Report) -> None:
    data = json.loads(report.to_json())
    assert data["ok"] is False
    assert data["undeclared"] == ["priority"]
    assert [c["name"] for c in data["checks"] if c["result"] == "failed"] == [
        "does_not_hold",
        "claimed",
    ]


def test_a_test_that_hangs_has_failed() -> None:
    import threading

    never = threading.Event()

    class Hangs(Toy):
        def test_holds(self) -> None:
            never.wait(10)

    report = run("toy", suite=Hangs, only=lambda name: name == "test_holds", limit=0.1)
    never.set()
    (check,) = report.checks
    assert (check.result, check.detail) == ("failed", "still running after 0.1 s")


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="transport"):
        run("teapot", MemoryTransport)


def test_a_suite_that_is_told_nothing_says_what_it_needs() -> None:
    class Untold(TransportSuite):
        factory = MemoryTransport

    report = run("", suite=Untold, only=lambda name: name == "test_ping_is_answered")
    (check,) = report.checks
    assert "must say its url(), or override make()" in check.detail


def test_raises_wants_an_exception_of_the_right_kind() -> None:
    with raises(ValueError) as caught:
        raise ValueError("x")
    assert str(caught[0]) == "x"
    with (
        pytest.raises(AssertionError, match="raised nothing instead of ValueError"),
        raises(ValueError),
    ):
        pass
    with (
        pytest.raises(AssertionError, match="raised TypeError instead of ValueError"),
        raises(ValueError),
    ):
        raise TypeError
