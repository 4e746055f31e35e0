"""Grows and shrinks the number of lanes with the work."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from caraway.errors import CarawayError

if TYPE_CHECKING:
    from caraway.worker.supervisor import Supervisor

_KEEP_ALIVE = 30.0
"""Seconds for which fewer lanes would have done, before one is taken away (Celery's)."""


class Autoscaler:
    """Looked after about once a second by the keeper.

    Args:
        supervisor: scaled.
        most: lanes at most.
        least: lanes at least.
    """

    def __init__(self, supervisor: Supervisor, most: int, least: int) -> None:
        self._supervisor = supervisor
        self._most = most
        self._least = least
        self._calm_since = monotonic()

    def update(self, most: int | None, least: int | None) -> tuple[int, int]:
        """Change the bounds; return them."""
        if most is not None:
            self._most = max(1, min(most, self._supervisor.board.lanes // 2))
        if least is not None:
            self._least = max(1, least)
        self._least = min(self._least, self._most)
        supervisor = self._supervisor
        self._resize(max(self._least, min(supervisor.target, self._most)))
        return self._most, self._least

    def info(self) -> dict[str, int]:
        """For the answer to ``stats``."""
        return {"max": self._most, "min": self._least, "current": self._supervisor.target, "qty": 0}

    def look(self) -> None:
        """Compare the work with the lanes; resize by at most double or one less."""
        supervisor = self._supervisor
        lanes = list(supervisor.lanes.values())
        busy = sum(1 for lane in lanes if not lane.dead and lane.board.running())
        target = supervisor.target
        now = monotonic()
        if busy >= target and self._waiting():
            self._calm_since = now
            self._resize(min(self._most, target * 2))
        elif busy >= target:
            self._calm_since = now
        elif now - self._calm_since >= _KEEP_ALIVE and target > self._least:
            self._calm_since = now
            self._resize(max(self._least, target - 1))
        elif target < self._least:
            self._resize(self._least)

    def _resize(self, target: int) -> None:
        supervisor = self._supervisor
        if target != supervisor.target:
            supervisor.post(lambda: supervisor.resize(target))

    def _waiting(self) -> bool:
        names = [queue.name for queue in self._supervisor.template.queues]
        try:
            return any(stats.ready for stats in self._supervisor.app.transport.stats(names))
        except CarawayError:
            return False
