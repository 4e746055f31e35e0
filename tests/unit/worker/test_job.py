"""Limits that come over the wire."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from caraway.worker.job import read_limits

PLAN = cast(Any, SimpleNamespace(hard=30.0, soft=20.0))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ([None, None], (30.0, 20.0)),
        ([5, None], (5.0, 20.0)),
        ([None, 2.5], (30.0, 2.5)),
        ([0, 0], (30.0, 20.0)),
        ([-1, -1], (30.0, 20.0)),
        ([float("nan"), 1], (30.0, 1.0)),
        (["a", "b"], (30.0, 20.0)),
        ([1], (30.0, 20.0)),
        ([10**400, 1], (30.0, 20.0)),
        (5, (30.0, 20.0)),
        ({}, (30.0, 20.0)),
    ],
)
def test_what_is_no_time_leaves_the_tasks_own_limits(header: Any, expected: Any) -> None:
    assert read_limits(header, PLAN) == expected
