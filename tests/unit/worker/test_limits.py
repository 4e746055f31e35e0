"""Rate limits of one lane."""

from __future__ import annotations

from caraway.worker.limits import RateGate


def test_the_first_runs_at_once_and_the_next_have_their_places() -> None:
    gate = RateGate(2.0)
    assert gate.delay("a", 100.0) == 0.0
    assert gate.delay("b", 100.0) == 0.5
    assert gate.delay("c", 100.0) == 1.0


def test_a_message_that_comes_back_at_its_time_runs() -> None:
    gate = RateGate(2.0)
    gate.delay("a", 100.0)
    assert gate.delay("b", 100.0) == 0.5
    assert gate.delay("b", 100.5) == 0.0


def test_a_message_that_comes_back_too_early_keeps_its_place() -> None:
    gate = RateGate(1.0)
    gate.delay("a", 100.0)
    assert gate.delay("b", 100.0) == 1.0
    assert gate.delay("b", 100.25) == 0.75
    assert gate.delay("c", 100.25) == 1.75


def test_after_a_pause_there_is_no_burst() -> None:
    gate = RateGate(1.0)
    gate.delay("a", 100.0)
    assert gate.delay("b", 500.0) == 0.0
    assert gate.delay("c", 500.0) == 1.0


def test_a_new_share_changes_the_limits_that_are_kept() -> None:
    from msgspec.structs import replace

    from caraway import Caraway
    from caraway.message import Owner
    from caraway.worker.board import Board
    from caraway.worker.intake import Intake
    from caraway.worker.lane_config import LaneConfig

    app = Caraway("site", broker="memory://", set_as_current=False)
    app.task(name="slow", rate_limit="4/s")(lambda: None)
    app.finalize()
    config = LaneConfig(index=0, owner=Owner(id="me"), queues=())
    intake = Intake(app, Board(1, 1).lane(0), replace(config, rate_share=1.0), None, None)  # type: ignore[arg-type]
    intake.plan("slow")

    intake.limits.set_share(0.5)

    gate = intake.limits.gates["slow"]
    assert gate is not None
    gate.delay("a", 100.0)
    assert gate.delay("b", 100.0) == 0.5


def test_a_clock_that_goes_back_delays_nobody_by_as_much() -> None:
    gate = RateGate(1.0)
    gate.delay("a", 100_000.0)
    assert gate.delay("b", 96_400.0) <= 1.0
    assert gate.delay("c", 96_400.0) <= 2.0
