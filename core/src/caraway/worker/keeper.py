"""The keeper: the supervisor's thread that renews the leases of living lanes.

A lane's own threads may starve behind a task that holds the GIL; this one is in another
process, which runs no tasks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import CarawayError
from caraway.worker.burials import Burials

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.message import Queue, QueueStats
    from caraway.worker.undertaker import Remains, Undertaker

_LOOK_EVERY = 5.0
"""Seconds between two looks at the queues."""


class Keeper(threading.Thread):
    """See the module's text.

    Args:
        app: its transport is used from this thread.
        undertaker: for dead lanes; it has a thread of its own (`Burials`).
        lease: seconds a renewal is good for.
        on_lost: called with owner ids whose lease was lost.
        queues: of the worker.
    """

    def __init__(
        self,
        app: Caraway,
        undertaker: Undertaker,
        lease: float,
        on_lost: Callable[[list[str]], None],
        queues: Sequence[Queue] = (),
    ) -> None:
        super().__init__(name="caraway-keeper", daemon=True)
        self._app = app
        self._queues = queues
        self._undertaker = undertaker
        self._every = lease / 3
        self._on_lost = on_lost
        self._owners: set[str] = set()
        self._stopping = threading.Event()
        self.burials = Burials(undertaker)
        self.broker_error = ""
        """What the last renewal said, for the health page; empty when it went well."""
        self.renewed = monotonic()
        """When leases were last renewed, or there were none."""
        self.broker_errors = 0
        """How often renewals failed."""
        self.depths: dict[str, QueueStats] = {}
        """The queues as last looked at by `look_at_queues`."""
        self._looked = 0.0
        self.chores: list[Callable[[], Any]] = []
        """Called about once a second, e.g. for autoscaling."""

    def watch(self, owner: str) -> None:
        """Renew this owner's lease from now on."""
        self._owners.add(owner)

    def unwatch(self, owner: str) -> None:
        """Let this owner's lease lapse."""
        self._owners.discard(owner)

    @property
    def reclaimed(self) -> int:
        """Messages taken back from dead lanes."""
        return self.burials.reclaimed

    def bury(self, remains: Remains) -> None:
        """Settle what a dead lane left."""
        self.burials.bury(remains)

    def condemn(self, remains: Remains) -> None:
        """Take runs from a living lane and fail them."""
        self.burials.condemn(remains)

    def finish(self, timeout: float) -> None:
        """Do what is left to do, and end; after ``timeout`` seconds, give up."""
        self.burials.finish(timeout)
        self._stopping.set()
        self.join(timeout)

    def look_at_queues(self) -> None:
        """A chore for the metrics: depths and lag, every few seconds."""
        if monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = monotonic()
        with contextlib.suppress(CarawayError):
            names = [queue.name for queue in self._queues]
            self.depths = {stats.name: stats for stats in self._app.transport.stats(names)}

    def run(self) -> None:
        due = monotonic() + self._every
        while True:
            wait = max(0.0, due - monotonic())
            if self.chores:
                wait = min(wait, 1.0)
            if self._stopping.wait(wait):
                return
            for chore in self.chores:
                self._do(chore)
            if monotonic() >= due:
                due = monotonic() + (self._every if self._renew() else min(1.0, self._every))

    def _do(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException:  # the keeper must outlive whatever one chore runs into
            import logging

            logging.getLogger("caraway.worker").exception("keeper")

    def _renew(self) -> bool:
        owners = list(self._owners)
        if self._undertaker.owner:
            owners.append(self._undertaker.owner)
        if not owners:
            self.renewed = monotonic()
            return True
        try:
            lost = list(self._app.transport.renew(owners))
        except Exception as exc:  # noqa: BLE001 - whatever it was, the next renewal is due
            self.broker_error = str(exc) or repr(exc)
            self.broker_errors += 1
            import logging

            logging.getLogger("caraway.worker").warning("leases can't be renewed: %s", exc)
            return False
        self.broker_error = ""
        self.renewed = monotonic()
        lost = [owner for owner in lost if owner in self._owners]
        if lost:
            for owner in lost:
                self._owners.discard(owner)
            self._on_lost(lost)
        return True
