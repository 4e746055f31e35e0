"""What a lane's process runs, from its fork to its exit code."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.errors import CarawayError, TransportUnavailable
from caraway.worker.attendant import Attendant
from caraway.worker.channel import Channel
from caraway.worker.lane import Lane
from caraway.worker.lane_config import LONGEST_PAUSE, LaneConfig

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Pool
    from caraway.worker.board import Board


class LaneMain:
    """Callable for the fork server.

    Args:
        app: finalized, with no connection open.
        pool: makes the executor.
        board: shared memory of all lanes.
    """

    def __init__(self, app: Caraway, pool: Pool, board: Board) -> None:
        self.app = app
        self.pool = pool
        self.board = board

    def __call__(self, config: LaneConfig, channel: Channel) -> int:
        from caraway import signals
        from caraway.worker.logs import set_process_name

        app = self.app
        random.seed()
        app.forget_connections()
        set_process_name(f"lane {config.index}")
        config = msgspec.structs.replace(
            config, owner=msgspec.structs.replace(config.owner, pid=os.getpid())
        )
        lane = Lane(app, self.pool.executor(), config, self.board.lane(config.index))
        _handle_signals(lane)
        app.registry.child_start(app, config.index)
        signals.worker_process_init.send(sender=None)
        if not open_lane(lane, channel):
            return 1
        channel.send(tell="ready")
        attendant = Attendant(lane, channel)
        attendant.listen(0.0)  # to what holds from the first task on, such as revocations
        attendant.start()
        code = lane.run()
        attendant.end()
        signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=code)
        app.registry.child_stop(app, config.index)
        with contextlib.suppress(CarawayError):
            app.close()
        return code


def open_lane(lane: Lane, channel: Channel | None) -> bool:
    """Open the lane, waiting for a broker that is away; False if it isn't wanted any
    more, or if waiting won't help."""
    import logging

    logger = logging.getLogger("caraway.worker")
    backoff = 0.1
    while not lane.draining:
        lane.board.tick(time.monotonic(), 0.0)
        try:
            lane.open()
        except TransportUnavailable as exc:
            logger.warning("broker: %s; trying again in %.1f s", exc, backoff)
            until = time.monotonic() + backoff
            while time.monotonic() < until and not lane.draining:
                # In steps: a signal doesn't end a sleep.
                time.sleep(min(0.1, backoff))
                if channel is not None and _gone(channel):
                    return False
            backoff = min(backoff * 2, LONGEST_PAUSE)
        except CarawayError as exc:
            logger.error("the lane can't start: %s", exc)
            return False
        else:
            return True
    return False


def _gone(channel: Channel) -> bool:
    import select

    if select.select([channel], [], [], 0)[0]:
        return any(m.get("do") == "stop" for m in channel.receive()) or channel.closed
    return False


def _handle_signals(lane: Lane) -> None:
    # A terminal's Ctrl-C goes to every process of its group; the supervisor alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def on_term(*_: Any) -> None:
        lane.stop()

    signal.signal(signal.SIGTERM, on_term)
