"""Times on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from caraway.protocol.times import epoch, iso
from caraway.protocol.v2 import due_time, expiration, expiry_time

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def test_a_time_goes_both_ways_with_its_offset() -> None:
    assert iso(NOON.timestamp()) == "2026-01-02T12:00:00+00:00"
    assert epoch(iso(NOON.timestamp() + 0.25)) == NOON.timestamp() + 0.25


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        (NOON, NOON.timestamp()),
        (datetime(2026, 1, 2, 12, 0, 0), NOON.timestamp()),  # noqa: DTZ001 - naive is UTC
        ("2026-01-02T12:00:00Z", NOON.timestamp()),
        ("2026-01-02T14:00:00+02:00", NOON.timestamp()),
        (17.5, 17.5),
    ],
)
def test_what_counts_as_a_time(when: object, seconds: float) -> None:
    assert epoch(when) == seconds  # type: ignore[arg-type]


def test_naive_times_are_in_the_zone_that_is_given() -> None:
    zone = timezone(timedelta(hours=1))

    assert epoch(datetime(2026, 1, 2, 13, 0, 0), zone) == NOON.timestamp()  # noqa: DTZ001


@pytest.mark.parametrize("when", [None, True, [], "soon"])
def test_anything_else_is_refused(when: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        epoch(when)  # type: ignore[arg-type]


def test_a_countdown_wins_over_an_eta_and_none_in_the_past_is_now() -> None:
    assert due_time(countdown=5, eta=NOON, now=100.0) == 105.0
    assert due_time(countdown=0, eta=None, now=100.0) == 0.0
    assert due_time(countdown=-3, eta=None, now=100.0) == 0.0
    assert due_time(countdown=None, eta=NOON, now=100.0) == NOON.timestamp()
    assert due_time(countdown=None, eta=None, now=100.0) == 0.0


def test_expiry_is_seconds_from_now_or_a_time() -> None:
    assert expiry_time(60, now=100.0) == 160.0
    assert expiry_time(NOON, now=100.0) == NOON.timestamp()
    assert expiry_time(None, now=100.0) == 0.0
    assert expiration(1.5) == "1500"
    assert expiration(-1) == "0"
