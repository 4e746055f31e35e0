"""What signals tell a supervisor."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.worker.supervisor import Supervisor


def listen(supervisor: Supervisor, wakeup: int) -> None:
    """SIGTERM and SIGINT stop (a second one hard), SIGQUIT stops hard, SIGHUP recycles.

    Args:
        supervisor: told, in its loop.
        wakeup: descriptor that wakes its loop.
    """

    def on_stop(*_: Any) -> None:
        hard = supervisor.stopping
        supervisor.post(lambda: announce_stop(supervisor, hard=hard))

    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGQUIT, lambda *_: supervisor.post(lambda: supervisor.stop(hard=True)))
    signal.signal(signal.SIGHUP, lambda *_: supervisor.post(supervisor.recycle))


def announce_stop(supervisor: Supervisor, *, hard: bool) -> None:
    """Say what kind of stop it is, and stop."""
    import logging

    from caraway import signals

    logger = logging.getLogger("caraway.worker")
    if hard:
        logger.warning("hard stop: what runs is given back")
    else:
        logger.warning(
            "warm stop: running tasks get %.0f s; a second signal gives them back",
            supervisor.template.shutdown_timeout,
        )
        signals.worker_shutting_down.send(
            sender=supervisor.template.owner.worker, sig="SIGTERM", how="warm", exitcode=0
        )
    supervisor.stop(hard=hard)
