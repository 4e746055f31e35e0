"""What a lane's process runs, from its fork to its exit code."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
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
        attendant = begin(lane, channel)
        if attendant is None:
            return 1
        attendant.start()
        code = lane.run()
        attendant.end()
        signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=code)
        app.registry.child_stop(app, config.index)
        with contextlib.suppress(CarawayError):
            app.close()
        return code


def begin(lane: Lane, channel: Channel) -> Attendant | None:
    """Open the lane, and tell the supervisor; None if it isn't wanted any more.

    The attendant, not started, has obeyed what the supervisor said until now: limits and
    revocations hold from the first task on.
    """
    heard: list[dict[str, Any]] = []
    if not open_lane(lane, lambda: _hear(channel, heard)):
        return None
    channel.send(tell="ready")
    attendant = Attendant(lane, channel)
    attendant.follow(heard)
    attendant.listen(0.0)
    return attendant


def open_lane(lane: Lane, wanted: Callable[[], bool]) -> bool:
    """Open the lane, waiting for a broker that is away; False if waiting won't help, or
    once ``wanted``, which is called in between, says so."""
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
                if not wanted():
                    return False
            backoff = min(backoff * 2, LONGEST_PAUSE)
        except CarawayError as exc:
            logger.error("the lane can't start: %s", exc)
            return False
        else:
            return True
    return False


def _hear(channel: Channel, heard: list[dict[str, Any]]) -> bool:
    """Listen while the lane can't obey yet; False once it is to stop."""
    import select

    if select.select([channel], [], [], 0)[0]:
        heard += channel.receive()
    return not channel.closed and not any(order.get("do") == "stop" for order in heard)


def _handle_signals(lane: Lane) -> None:
    # A terminal's Ctrl-C goes to every process of its group; the supervisor alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def on_term(*_: Any) -> None:
        lane.stop()

    signal.signal(signal.SIGTERM, on_term)
