"""Rates and the token bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.errors import ImproperlyConfigured
from caraway.ratelimit import TokenBucket, parse_rate


@pytest.mark.parametrize(
    ("rate", "per_second"),
    [("10/s", 10), ("60/m", 1), ("3600/h", 1), ("5", 5), (2.5, 2.5), (None, 0), (0, 0), ("0/m", 0)],
)
def test_rates_are_per_second(rate: str | float | None, per_second: float) -> None:
    assert parse_rate(rate) == per_second


@pytest.mark.parametrize("rate", ["ten/s", "1/fortnight", "-1/s", "nan", "inf/s", "/s"])
def test_what_is_no_rate_says_so(rate: str) -> None:
    with pytest.raises(ImproperlyConfigured):
        parse_rate(rate)


def test_a_full_bucket_lets_its_capacity_through_at_once() -> None:
    bucket = TokenBucket(10, capacity=3, now=100.0)

    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.delay(100.0) == pytest.approx(0.1)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1, now=100.0)

    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.0)


@given(st.floats(0.01, 1000), st.floats(1, 20))
def test_waiting_as_long_as_it_says_is_enough(rate: float, capacity: float) -> None:
    bucket = TokenBucket(rate, capacity)
    now = 0.0
    while bucket.take(now):
        pass

    now += bucket.delay(now)

    assert bucket.take(now)
