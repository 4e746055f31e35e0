"""A clock that only a test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from caraway.interfaces.context import Context

START = 1_750_000_000.0
"""Where a `VirtualClock` begins unless told otherwise: 2025-06-15 15:06:40 UTC."""


class VirtualClock:
    """Time that stands still until `advance` moves it.

    Called, it gives seconds since the epoch, as `time.time` does; `monotonic` gives
    seconds of a clock that never jumps.  Components that wait ask to be told of moves
    with `watch`, so that a waiting fetch wakes when a test moves the clock.

    Args:
        start: seconds since the epoch at the beginning.
    """

    def __init__(self, start: float = START) -> None:
        self._lock = threading.Lock()
        self._wall = float(start)
        self._monotonic = 1000.0
        self._watchers: set[Callable[[], object]] = set()

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds since some moment; `jump` doesn't change it."""
        return self._monotonic

    def advance(self, seconds: float) -> float:
        """Let time pass; returns the new time (seconds since the epoch).

        Raises:
            ValueError: negative; to put the wall clock back is what `jump` is for.
        """
        if seconds < 0:
            raise ValueError("time doesn't pass backwards; jump() puts the wall clock back")
        with self._lock:
            self._wall += seconds
            self._monotonic += seconds
        self._tell()
        return self._wall

    def jump(self, seconds: float) -> float:
        """Put the wall clock forward or back, as an administrator would; the
        monotonic clock goes on undisturbed.  Returns the new time."""
        with self._lock:
            self._wall += seconds
        self._tell()
        return self._wall

    def watch(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` after each move, in the thread that moved the clock."""
        with self._lock:
            self._watchers.add(callback)

    def unwatch(self, callback: Callable[[], object]) -> None:
        """Stop calling ``callback``.  Idempotent."""
        with self._lock:
            self._watchers.discard(callback)

    def _tell(self) -> None:
        with self._lock:
            watchers = tuple(self._watchers)
        for watcher in watchers:
            watcher()

    def context(self, **fields: Any) -> Context:
        """A component's context with this clock; ``fields`` are those of `Context`."""
        return Context(clock=self, monotonic=self.monotonic, **fields)
