"""What the supervisor knows of one lane's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.worker.board import LaneBoard
    from caraway.worker.channel import Channel


class LaneProcess:
    """One lane, from its start to its death.

    Attributes:
        index: on the board.
        owner: its owner id.
        pid: 0 until the fork server has told.
        ready: it is connected and its owner registered.
        stopping: it was told to stop, or to make room.
        suspended: stopped by SIGSTOP or a debugger.
        dead: it has exited.
        killed: by us.
        kill_at: when it is killed unless it has stopped (`time.monotonic`); 0.0 never.
        verdicts: (tag, started) -> (why, seconds), for runs that we ended.
        counts: [task name, state, runs, seconds] each, as the lane last told.
        fenced: how many late outcomes were fenced off.
    """

    __slots__ = (
        "board", "channel", "counts", "dead", "fenced", "index", "kill_at", "killed", "owner",
        "pid", "ready", "started", "stopping", "suspended", "verdicts",
    )  # fmt: skip

    def __init__(
        self, index: int, owner: str, channel: Channel, board: LaneBoard, started: float
    ) -> None:
        self.index = index
        self.owner = owner
        self.channel = channel
        self.board = board
        self.started = started
        self.pid = 0
        self.ready = self.stopping = self.suspended = self.dead = self.killed = False
        self.kill_at = 0.0
        self.verdicts: dict[Any, tuple[str, float]] = {}
        self.counts: list[list[Any]] = []
        self.fenced = 0


Totals = dict[tuple[str, str], list[float]]
"""(task name, state) -> [runs, seconds]."""


def add_counts(totals: Totals, counts: list[list[Any]]) -> None:
    """Add what a lane told to the worker's totals."""
    for name, state, runs, seconds in counts:
        tally = totals.setdefault((name, state), [0, 0.0])
        tally[0] += runs
        tally[1] += seconds
