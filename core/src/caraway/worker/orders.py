"""What lanes were told and what lanes that start later must be told, too."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

MOST_REVOKED = 50_000
"""Revocations that are remembered; the oldest are forgotten first."""


class Orders:
    """Messages to lanes that stand until the worker stops.

    Attributes:
        revoked: task id -> when it was revoked (`time.monotonic`), the newest last.
        stamps: name of a stamp -> revoked values.
        ended: task id -> how its run was ended: ``["timed out", seconds]`` or
            ``["terminated", number of the signal]``.
    """

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str], dict[str, Any]] = {}
        self.revoked: dict[str, float] = {}
        self.stamps: dict[str, dict[str, None]] = {}
        self.ended: dict[str, list[Any]] = {}

    def keep(self, message: dict[str, Any]) -> None:
        """Remember a message to all lanes, if it is of a kind that stands."""
        what = message["do"]
        if what in ("rate_limit", "time_limit"):
            self._limits[what, message["task"]] = message
        elif what == "revoke":
            now = monotonic()
            for task_id in message["ids"]:
                self.revoked.pop(task_id, None)
                self.revoked[task_id] = now
            forget_oldest(self.revoked)
        elif what == "revoke_stamps":
            for name, values in message["stamps"].items():
                known = self.stamps.setdefault(name, {})
                known.update(dict.fromkeys(values))
                forget_oldest(known)
        elif what == "ended":
            self.ended.update(message["runs"])
            forget_oldest(self.ended)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """What to tell a lane that has just started."""
        yield from list(self._limits.values())
        if self.revoked:
            yield {"do": "revoke", "ids": list(self.revoked)}
        if self.stamps:
            stamps = {name: list(values) for name, values in self.stamps.items()}
            yield {"do": "revoke_stamps", "stamps": stamps}
        if self.ended:
            yield {"do": "ended", "runs": dict(self.ended)}


def forget_oldest(known: dict[str, Any]) -> None:
    """Keep `MOST_REVOKED`."""
    while len(known) > MOST_REVOKED:
        known.pop(next(iter(known)))
