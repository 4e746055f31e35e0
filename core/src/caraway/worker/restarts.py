"""How long to wait before a dead lane is replaced.

A lane that was killed, by its task or from outside, is replaced at once: its messages wait.
One that can't start, or fails as soon as it runs, would only do so again, as fast as the
machine can fork.
"""

from __future__ import annotations

from typing import Final

from caraway.worker.lane_config import LOST

YOUNG: Final = 5.0
"""Seconds that a lane lives at least, unless there is something wrong."""
_FREE, _LONGEST = 2, 10.0
"""So many such deaths in a row cost nothing; the longest wait, in seconds."""


class Restarts:
    """Counts the lanes that died too early, in a row."""

    def __init__(self) -> None:
        self._before_ready = 0
        self._failed = 0

    @property
    def in_a_row(self) -> int:
        """How many."""
        return max(self._before_ready, self._failed)

    def ready(self) -> None:
        """A lane has got to the point where it fetches."""
        self._before_ready = 0

    def lived(self, seconds: float) -> None:
        """A lane is ready, and that old."""
        if seconds >= YOUNG:
            self._failed = 0

    def died(self, *, ready: bool, code: int, seconds: float) -> float:
        """A lane died that wasn't told to stop; return how long to wait.

        Args:
            ready: it had been ready.
            code: of its exit; negative for a signal.
            seconds: how old it was.
        """
        if not ready:
            self._before_ready += 1
        elif code > 0 and code != LOST and seconds < YOUNG:
            # An error of its loop, not a task that ended its process.
            self._failed += 1
        else:
            return 0.0
        if self.in_a_row <= _FREE:
            return 0.0
        return float(min(0.1 * 2 ** min(self.in_a_row, 10), _LONGEST))
