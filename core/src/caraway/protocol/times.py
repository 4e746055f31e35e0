"""Times as the protocol writes them: ISO 8601 with an offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


def iso(seconds: float) -> str:
    """Epoch seconds as ISO 8601 in UTC, e.g. ``2026-01-31T12:00:00.250000+00:00``."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat()


def epoch(when: datetime | float | str, zone: Any = None) -> float:
    """Epoch seconds of a datetime, ISO 8601 text, or number.

    Args:
        when: naive datetimes and texts without an offset are in ``zone``.
        zone: a tzinfo; None is UTC.

    Raises:
        ValueError: not a time.
        TypeError: not a datetime, text or number.
    """
    from datetime import UTC, datetime

    if isinstance(when, (int, float)) and not isinstance(when, bool):
        return float(when)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if not isinstance(when, datetime):
        raise TypeError(f"not a datetime: {when!r}")
    if when.tzinfo is None:
        when = when.replace(tzinfo=zone or UTC)
    return when.timestamp()
