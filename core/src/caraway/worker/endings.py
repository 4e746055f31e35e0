"""Runs that are ended from outside: at their hard limit, or because somebody asked for it.

For the supervisor's loop, which alone touches lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.control.ending import signal_name, way_of
from caraway.interfaces import Capability
from caraway.worker.lane_config import RECYCLE
from caraway.worker.undertaker import Remains

if TYPE_CHECKING:
    from caraway.worker.board import Running
    from caraway.worker.lanes import LaneProcess
    from caraway.worker.supervisor import Supervisor

GRACE = 5.0
"""Seconds that a task has to end after `Terminated` was raised in it, where its process can
be killed alone."""


class Endings:
    """See the module's text.

    Args:
        supervisor: has the lanes.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._worker = supervisor

    def enforce(self, lane: LaneProcess, run: Running) -> None:
        """End a run that is over its hard limit."""
        worker, seconds = self._worker, run.hard
        key = (run.tag, run.started)
        if key in lane.verdicts:
            return
        lane.verdicts[key] = ("time limit", seconds)
        worker.tally.timeouts += 1
        self._log().error("task %s: time limit of %.1f s passed; ended", run.task_id, seconds)
        self._tell_ended({run.task_id: ["timed out", seconds]})
        if worker.processes:
            worker.kill(lane)
            return
        # The other tasks of this lane go on; it takes no new ones, and another lane does.
        verdict = {key: lane.verdicts[key]}
        worker.keeper.condemn(Remains(lane.owner, "time limit", [], [run], verdict))
        worker.stop_lane(lane, code=RECYCLE)

    def terminate(self, task_ids: set[str], signum: int) -> None:
        """End the runs of these tasks, wherever they run in this worker, as the signal
        says: see `caraway.control.ending`."""
        way = way_of(signum)
        for lane in list(self._worker.lanes.values()):
            if lane.dead:
                continue
            runs = [run for run in lane.board.running() if run.task_id in task_ids]
            if not runs:
                continue
            if way == "kill":
                self._kill(lane, runs, signum)
                continue
            lane.channel.send(do="terminate", ids=sorted(task_ids), signum=signum)
            if way == "raise" and self._worker.processes:
                # Killing a lane of many tasks would cost the others what they have done:
                # there it takes somebody who asks for that.
                due = monotonic() + GRACE
                for run in runs:
                    lane.overdue.setdefault((run.tag, run.started), (due, signum))

    def look(self, lane: LaneProcess, running: Sequence[Running], now: float) -> None:
        """Kill a lane whose task didn't end when it was told to."""
        runs = {(run.tag, run.started): run for run in running}
        for key, (due, signum) in list(lane.overdue.items()):
            if key not in runs:
                del lane.overdue[key]
            elif now >= due:
                del lane.overdue[key]
                self._kill(lane, [runs[key]], signum)

    def _kill(self, lane: LaneProcess, runs: Sequence[Running], signum: int) -> None:
        for run in runs:
            lane.verdicts[(run.tag, run.started)] = ("terminated", float(signum))
            self._log().warning(
                "task %s: terminated by %s; its process is killed",
                run.task_id, signal_name(signum),
            )  # fmt: skip
        self._tell_ended({run.task_id: ["terminated", signum] for run in runs})
        self._worker.kill(lane)

    def _tell_ended(self, runs: dict[str, Any]) -> None:
        """Where nobody can settle a dead lane's messages, they come back to others."""
        if Capability.ADOPT not in self._worker.app.transport.capabilities:
            self._worker.tell_lanes(do="ended", runs=runs)

    def _log(self) -> Any:
        import logging

        return logging.getLogger("caraway.worker")
