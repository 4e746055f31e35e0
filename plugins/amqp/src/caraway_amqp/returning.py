"""Coming back to the broker in the background, when a connection was lost that nobody uses
just then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from caraway.errors import TransportError

_PAUSES = (0.2, 30.0)
"""Seconds between two attempts, the first and the longest."""


class Returning:
    """Tries until it is there again.

    Args:
        attempt: connects, if that has not been done meanwhile.
        there: it is connected.
    """

    def __init__(self, attempt: Callable[[], object], there: Callable[[], bool]) -> None:
        self._attempt = attempt
        self._there = there
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def under_way(self) -> bool:
        """It is tried just now."""
        return self._thread is not None

    @property
    def closed(self) -> bool:
        """There is nothing to come back for."""
        return self._closed.is_set()

    def begin(self) -> None:
        """The connection is lost."""
        with self._lock:
            if not self.closed and self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="caraway-amqp-returning", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        pause, longest = _PAUSES
        # Whoever waits is quicker, as a rule.
        while not self._closed.wait(pause):
            pause = min(pause * 2, longest)
            with suppress(TransportError):
                self._attempt()
            with self._lock:
                # Lost again before this, it is seen here; after it, by `begin`.
                if self._there():
                    self._thread = None
                    return

    def close(self) -> None:
        """It isn't tried any more."""
        self._closed.set()
