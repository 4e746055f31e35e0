"""Back-off and the policy of publish retries."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.errors import ImproperlyConfigured
from caraway.retry import exponential_backoff, publish_intervals


def test_back_off_doubles_up_to_its_maximum() -> None:
    delays = [exponential_backoff(n, factor=2, maximum=20, jitter=False) for n in range(6)]

    assert delays == [2, 4, 8, 16, 20, 20]


@given(st.integers(-5, 10**9), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 0.999999))
def test_jitter_stays_between_nothing_and_the_maximum(
    retries: int, factor: float, maximum: float, chance: float
) -> None:
    delay = exponential_backoff(retries, factor=factor, maximum=maximum, random=lambda: chance)

    assert 0.0 <= delay <= maximum


def test_the_default_policy_waits_as_celery_does() -> None:
    policy = {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}

    assert list(publish_intervals(policy)) == pytest.approx([0, 0.2, 0.4])


def test_a_policy_without_end_stays_at_its_maximum() -> None:
    policy = {"max_retries": None, "interval_start": 1, "interval_max": 2, "interval_step": 1}

    assert list(islice(publish_intervals(policy), 4)) == [1, 2, 2, 2]


def test_a_policy_that_is_no_numbers_says_so() -> None:
    with pytest.raises(ImproperlyConfigured, match="soon"):
        list(publish_intervals({"interval_start": "soon"}))
