"""The thread in which dead lanes are buried and single runs condemned.

Not the keeper's: what is buried may call handlers of tasks (``on_failure``), and waits for
a store that is away, while the leases of living lanes are to be renewed all the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from caraway.errors import OperationalError

if TYPE_CHECKING:
    from caraway.worker.undertaker import Remains, Undertaker

_WAIT = 0.5
"""Seconds before what failed is tried again."""
_TRIES = 20
"""How often, where the broker is not to blame."""


class _Work:
    __slots__ = ("call", "not_before", "tries", "what")

    def __init__(self, call: Callable[[], int], what: str) -> None:
        self.call = call
        self.what = what
        self.not_before = 0.0
        self.tries = 0


class Burials:
    """See the module's text.  The thread starts with the first work.

    Args:
        undertaker: does the work.

    Attributes:
        reclaimed: messages taken back from dead lanes.
    """

    def __init__(self, undertaker: Undertaker) -> None:
        self._undertaker = undertaker
        self._work: deque[_Work] = deque()
        self._changed = threading.Condition()
        self._finishing = False
        self._deadline = 0.0
        self._thread: threading.Thread | None = None
        self.reclaimed = 0

    def bury(self, remains: Remains) -> None:
        """Settle what a dead lane left.  Any thread."""
        self._add(lambda: self._undertaker.bury(remains), "a dead lane's tasks")

    def condemn(self, remains: Remains) -> None:
        """Take runs from a living lane and fail them.  Any thread."""
        self._add(lambda: self._undertaker.condemn(remains), "a run that is over its limit")

    def finish(self, timeout: float) -> None:
        """Do what is left to do, for ``timeout`` seconds at most; then end."""
        with self._changed:
            self._finishing = True
            self._deadline = monotonic() + timeout
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _add(self, call: Callable[[], int], what: str) -> None:
        with self._changed:
            self._work.append(_Work(call, what))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="caraway-burials", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            work = self._next()
            if work is None:
                return
            try:
                self.reclaimed += work.call()
            except BaseException as exc:  # noqa: BLE001 - a handler may raise anything
                self._failed(work, exc)

    def _next(self) -> _Work | None:
        with self._changed:
            while True:
                now = monotonic()
                if self._finishing and (not self._work or now >= self._deadline):
                    return None
                due = min((work.not_before for work in self._work), default=None)
                if due is not None and due <= now:
                    # One that has to wait doesn't hold up the others.
                    work = next(w for w in self._work if w.not_before <= now)
                    self._work.remove(work)
                    return work
                self._changed.wait(None if due is None else due - now)

    def _failed(self, work: _Work, exc: BaseException) -> None:
        import logging

        logger = logging.getLogger("caraway.worker")
        work.tries += 0 if isinstance(exc, OperationalError) else 1
        if work.tries >= _TRIES:
            logger.error("%s can't be settled; the lease brings them back", work.what, exc_info=exc)
            return
        logger.warning("%s can't be settled yet: %r", work.what, exc)
        work.not_before = monotonic() + _WAIT
        with self._changed:
            self._work.append(work)
