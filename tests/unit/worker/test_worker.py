"""From settings to what a lane is told."""

from __future__ import annotations

import pytest

from caraway import Caraway
from caraway.worker import Worker


def prefetch(**settings: object) -> int:
    app = Caraway("site", broker="memory://", set_as_current=False, **settings)
    worker = Worker(app, pool="solo")
    return worker._template(()).prefetch_limit


@pytest.mark.parametrize(
    "settings", [{"worker_disable_prefetch": True}, {"worker_prefetch_multiplier": 1}]
)
def test_both_ways_to_switch_prefetching_off_do(settings: dict[str, object]) -> None:
    assert prefetch(worker_prefetch_limit=64, **settings) == 1


def test_other_multipliers_change_nothing() -> None:
    assert prefetch(worker_prefetch_limit=64, worker_prefetch_multiplier=8) == 64


def test_without_a_limit_the_broker_decides() -> None:
    assert prefetch() == 0
