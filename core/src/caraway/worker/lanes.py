"""What the supervisor knows of one lane's process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from caraway.worker.undertaker import Remains, Verdicts

if TYPE_CHECKING:
    from caraway.worker.board import LaneBoard
    from caraway.worker.channel import Channel


Totals = dict[tuple[str, str], list[float]]
"""(task name, state) -> [runs, seconds]."""

_SHORTEST_STUCK = 5.0
"""Seconds; idle lanes give a sign of life every 2."""


class Counters(Struct):
    """What a lane counts.

    Attributes:
        counts: [task name, state, runs, seconds] each.
        fetched: messages taken.
        fenced: late outcomes that were fenced off.
        dead: messages sent to the dead letters.
        parked: messages parked.
    """

    counts: list[tuple[str, str, int, float]] = []
    fetched: int = 0
    fenced: int = 0
    dead: int = 0
    parked: int = 0


class Tally:
    """What a worker counts, over all its lanes.

    Attributes:
        restarts: lanes replaced because they died or were stuck.
        recycled: lanes replaced at their limit of tasks or memory.
        timeouts: runs ended at their hard limit.
        fetched, fenced, dead, parked: as in `Counters`, of lanes that have ended.
        tasks: as in `Counters`, of lanes that have ended.
    """

    def __init__(self) -> None:
        self.restarts = self.recycled = self.timeouts = 0
        self.fetched = self.fenced = self.dead = self.parked = 0
        self.tasks: Totals = {}

    def add(self, counters: Counters) -> None:
        """Add what a lane told."""
        self.fetched += counters.fetched
        self.fenced += counters.fenced
        self.dead += counters.dead
        self.parked += counters.parked
        for name, state, runs, seconds in counters.counts:
            known = self.tasks.setdefault((name, state), [0, 0.0])
            known[0] += runs
            known[1] += seconds

    def with_lanes(self, lanes: Iterable[LaneProcess]) -> Tally:
        """A copy with what living lanes have told so far."""
        total = Tally()
        total.__dict__.update(self.__dict__)
        total.tasks = {key: list(value) for key, value in list(self.tasks.items())}
        for lane in lanes:
            total.add(lane.counters)
        return total


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
        overdue: (tag, started) -> (`time.monotonic`, signal), for runs that were told to
            end, and are killed if they haven't by then.
        verdicts: see `caraway.worker.undertaker.Verdicts`, for runs that we ended.
        counters: what the lane last told.
    """

    __slots__ = (
        "board",
        "channel",
        "counters",
        "dead",
        "index",
        "kill_at",
        "killed",
        "overdue",
        "owner",
        "pid",
        "ready",
        "started",
        "stopping",
        "suspended",
        "verdicts",
    )

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
        self.overdue: dict[Any, tuple[float, int]] = {}
        self.verdicts: Verdicts = {}
        self.counters = Counters()

    def count(self, message: dict[str, Any]) -> None:
        """Take over what it tells of its counters."""
        self.counters = msgspec.convert(message, Counters)

    def hear_last_words(self) -> None:
        """It is dead: read what it told, and close the channel.  Without waiting for its
        end: a process that one of its tasks started may have that, too."""
        for message in self.channel.receive():
            if message.get("tell") == "counts":
                self.count(message)
        self.channel.close()

    def remains(self, code: int) -> Remains:
        """What it left, for the undertaker."""
        return Remains(
            self.owner,
            exit_text(code),
            list(self.board.journal()),
            self.board.running(),
            self.verdicts,
            blameless=self.killed,
        )


def exit_text(code: int) -> str:
    """How a process ended, for people: ``signal 9 (SIGKILL)``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def is_alive(pid: int) -> bool:
    """True if there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def stuck_after(conf: Any) -> float:
    """Seconds without a sign of life after which a lane is taken for wedged, 0.0 for never:
    the setting ``worker_stuck_timeout``, but not less than an idle lane's longest wait."""
    seconds = float(conf.worker_stuck_timeout or 0.0)
    return max(seconds, _SHORTEST_STUCK) if seconds > 0 else 0.0
