"""The events of a worker itself: that it is there, that it lives, that it stops."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from caraway.events.dispatcher import Dispatcher
from caraway.interfaces import Capability

if TYPE_CHECKING:
    from caraway.worker.supervisor import Supervisor


class Heart(threading.Thread):
    """Tells that the worker lives: the events ``worker-online``, ``-heartbeat`` and
    ``-offline``.

    Args:
        supervisor: of the worker.
        interval: seconds between two heartbeats; 0 sends none.
    """

    def __init__(self, supervisor: Supervisor, interval: float) -> None:
        super().__init__(name="caraway-heart", daemon=True)
        self._supervisor = supervisor
        self._interval = interval
        self._dispatcher = Dispatcher(supervisor.app, supervisor.template.owner.worker)
        self._wake = threading.Event()
        self._ended = False
        self._asked = False

    def beat(self) -> None:
        """Send a heartbeat now."""
        self._asked = True
        self._wake.set()

    def end(self) -> None:
        """Say that the worker stops."""
        self._ended = True
        self._wake.set()
        self.join(2.0)

    def run(self) -> None:
        self._send("worker-online")
        while not self._is_over():
            self._wake.wait(self._interval or None)
            self._wake.clear()
            if self._is_over():
                break
            if self._interval or self._asked:
                self._asked = False
                self._send("worker-heartbeat")
        self._send("worker-offline")

    def _is_over(self) -> bool:
        return self._ended

    def _send(self, kind: str) -> None:
        from caraway import __version__, signals

        supervisor = self._supervisor
        lanes = list(supervisor.lanes.values())
        try:
            load = [round(each, 2) for each in os.getloadavg()]
        except (AttributeError, OSError):  # Windows
            load = [0.0, 0.0, 0.0]
        tally = supervisor.tally.with_lanes(lanes)
        try:
            self._dispatcher.send(
                kind,
                freq=self._interval or 2.0,
                active=sum(len(lane.board.running()) for lane in lanes),
                processed=int(sum(count for count, _ in tally.tasks.values())),
                loadavg=load,
                sw_ident="caraway",
                sw_ver=__version__,
                sw_sys=platform.system(),
            )
        except Exception as exc:  # noqa: BLE001 - the next one is due soon
            import logging

            logging.getLogger("caraway.worker").warning("heartbeat: %s", exc)
        if kind == "worker-heartbeat":
            signals.heartbeat_sent.send(sender=self)


def start_heart(supervisor: Any) -> Callable[[], None]:
    """Have a worker tell of itself from its start on; what is returned ends it."""
    app = supervisor.app
    if Capability.BROADCAST not in app.transport.capabilities:
        return lambda: None
    heart = supervisor.heart = Heart(supervisor, float(app.conf.worker_heartbeat_interval or 0.0))
    heart.start()
    return heart.end
