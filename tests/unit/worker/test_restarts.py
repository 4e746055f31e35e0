"""How long a dead lane's place stays empty."""

from __future__ import annotations

from caraway.worker.lane_config import LOST
from caraway.worker.restarts import YOUNG, Restarts


def test_a_lane_that_was_killed_is_replaced_at_once() -> None:
    restarts = Restarts()
    assert {restarts.died(ready=True, code=-9, seconds=0.1) for _ in range(50)} == {0.0}
    assert {restarts.died(ready=True, code=LOST, seconds=0.1) for _ in range(50)} == {0.0}


def test_lanes_that_never_start_wait_longer_and_longer_up_to_a_bound() -> None:
    restarts = Restarts()
    waits = [restarts.died(ready=False, code=1, seconds=0.1) for _ in range(5000)]
    assert waits[:2] == [0.0, 0.0]
    assert waits[2] < waits[3] < waits[4]
    assert waits[-1] == 10.0, "for as long as it may take"
    restarts.ready()
    assert restarts.died(ready=False, code=1, seconds=0.1) == 0.0


def test_lanes_that_fail_as_soon_as_they_run_wait_as_well() -> None:
    restarts = Restarts()
    waits = []
    for _ in range(10):
        restarts.ready()
        waits.append(restarts.died(ready=True, code=1, seconds=0.2))
    assert waits[-1] == 10.0
    restarts.lived(YOUNG)
    assert restarts.died(ready=True, code=1, seconds=0.2) == 0.0
