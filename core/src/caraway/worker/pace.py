"""How much a lane fetches at a time.

A lane should fetch what it will run within a few milliseconds: less, and each batch's
round trips weigh on every task; more, and messages wait behind a slow task while other
lanes are idle.
"""

from __future__ import annotations

_SMOOTHING = 0.3
"""Weight of the newest batch in the moving average."""
_GROWTH = 4
"""A batch is at most this many times the last one: one guess must not take all."""
LONG = 0.05
"""Tasks of this many seconds and more are fetched only for idle executors."""
MAX_BYTES = 32 * 1024 * 1024
"""A batch's bodies shall not be more than this, measured by those before."""


class Pace:
    """The measured pace of one lane.

    Args:
        slots: how many tasks run at a time.
        limit: most messages in a batch.
        horizon: seconds of work to fetch.
    """

    __slots__ = ("_bytes", "_last", "_seconds", "horizon", "limit", "slots")

    def __init__(self, slots: int, limit: int, horizon: float) -> None:
        self.slots = slots
        self.limit = max(1, limit)
        self.horizon = horizon
        self._seconds = 0.0
        self._bytes = 0.0
        self._last = 1

    def observe(self, count: int, seconds: float, size: int) -> None:
        """Learn from tasks that ended.

        Args:
            count: how many.
            seconds: of work they took together, waiting included.
            size: bytes of their bodies together.
        """
        if count <= 0:
            return
        each, heavy = seconds / count, size / count
        # A long task is believed at once: the next batch must be small now.
        weight = 1.0 if not self._seconds or each > LONG else _SMOOTHING
        self._seconds += (each - self._seconds) * weight
        self._bytes += (heavy - self._bytes) * (1.0 if heavy > self._bytes else _SMOOTHING)
        self._last = max(count, self._last // 2)

    def want(self, in_flight: int) -> int:
        """How many more to fetch while ``in_flight`` are running or waiting here."""
        free = self.slots - in_flight
        if not self._seconds or self._seconds >= LONG:
            ahead = 0
        else:
            ahead = int(self.horizon / self._seconds * self.slots)
        target = max(free, min(ahead - in_flight, self._last * _GROWTH))
        if self._bytes:
            target = min(target, max(1, int(MAX_BYTES / self._bytes) - in_flight))
        return max(0, min(target, self.limit))
