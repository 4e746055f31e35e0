"""What several modules of the worker's tests use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .lane_kit import Case


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case()
    yield made
    made.app.close()
