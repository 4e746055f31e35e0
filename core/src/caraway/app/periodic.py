"""Schedules of an app: entries of ``beat_schedule``, and the zone they are in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import tzinfo

    from caraway.canvas import Signature


def entry_of(schedule: Any, sig: Signature[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A signature and its schedule as an entry."""
    return {
        "schedule": schedule,
        "task": sig.task,
        "args": list(sig.args),
        "kwargs": dict(sig.kwargs),
        "options": {**sig.options, **options},
    }


def zone(name: str | None) -> tzinfo:
    """The zone of an IANA name; UTC for none."""
    from datetime import UTC

    if not name or name.upper() == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
