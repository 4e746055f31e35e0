"""The logical clock that orders what several processes tell (Lamport's)."""

from __future__ import annotations

import threading


class LamportClock:
    """Counts on with each thing told, and jumps ahead to what others count.

    Attributes:
        value: the last time given out.
    """

    __slots__ = ("_lock", "value")

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._lock = threading.Lock()

    def forward(self, by: int = 1) -> int:
        """Count on; return the new value, the last of ``by`` new times."""
        with self._lock:
            self.value += by
            return self.value

    def adjust(self, other: int) -> int:
        """Jump ahead of another process's time, and count on; return the new value."""
        with self._lock:
            self.value = max(self.value, other) + 1
            return self.value
