"""The logical clock that orders what several processes tell (Lamport's)."""

from __future__ import annotations

import threading
from array import array


class LamportClock:
    """Counts on with each thing told, and jumps ahead to what others count."""

    __slots__ = ("_cell", "_lock")

    def __init__(self, value: int = 0) -> None:
        self._cell: array[int] | memoryview[int] = array("q", [value])
        self._lock = threading.Lock()

    def share(self) -> None:
        """Count together with all processes that this one forks from now on.

        Two that count in the same moment may come to the same time, as clocks of that
        kind may.
        """
        import mmap

        cell = memoryview(mmap.mmap(-1, 8)).cast("q")
        cell[0] = self._cell[0]
        self._cell = cell

    @property
    def value(self) -> int:
        """The last time given out."""
        return self._cell[0]

    @value.setter
    def value(self, value: int) -> None:
        self._cell[0] = value

    def forward(self, by: int = 1) -> int:
        """Count on; return the new value, the last of ``by`` new times."""
        with self._lock:
            value = self._cell[0] = self._cell[0] + by
            return value

    def adjust(self, other: int) -> int:
        """Jump ahead of another process's time, and count on; return the new value.  What
        is no time that a clock may come to is ignored."""
        with self._lock:
            value = self._cell[0]
            if other < 1 << 60:
                value = max(value, other)
            value = self._cell[0] = value + 1
            return value
