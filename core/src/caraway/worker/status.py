"""What the supervisor tells of itself: the snapshot behind health and metrics."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.worker.lanes import Totals, add_counts

if TYPE_CHECKING:
    from caraway.worker.health import HealthServer
    from caraway.worker.keeper import Keeper
    from caraway.worker.metrics import WorkerSnapshot
    from caraway.worker.supervisor import Supervisor


def all_counts(supervisor: Supervisor) -> Totals:
    """(task name, state) -> [runs, seconds], of lanes dead and alive."""
    totals = {key: list(tally) for key, tally in list(supervisor.totals.items())}
    for lane in list(supervisor.lanes.values()):
        add_counts(totals, lane.counts)
    return totals


def start_faces(
    supervisor: Supervisor, keeper: Keeper | None, address: str, file: str
) -> list[HealthServer]:
    """Serve health and metrics.

    Raises:
        ImproperlyConfigured: the address can't be served.
    """
    from caraway.worker.health import HealthServer

    server = HealthServer(address, lambda: snapshot(supervisor, keeper), file=file)
    server.start()
    return [server]


def snapshot(supervisor: Supervisor, keeper: Keeper | None) -> WorkerSnapshot:
    """The worker as it is now.  Cheap: reads the boards, asks the broker for nothing."""
    from caraway.worker.memory import resident
    from caraway.worker.metrics import LaneSnapshot, RunningTask, TaskStats, WorkerSnapshot

    now = monotonic()
    stuck_after = float(supervisor.app.conf.worker_stuck_timeout or 0.0)
    lanes: list[Any] = []
    for lane in list(supervisor.lanes.values()):
        view = lane.board.seen()
        running = lane.board.running()
        age = max(0.0, now - view.tick) if view.tick else max(0.0, now - lane.started)
        lanes.append(
            LaneSnapshot(
                index=lane.index,
                pid=lane.pid,
                state="gone" if lane.dead
                else "stopping" if lane.stopping
                else "ready" if lane.ready
                else "starting",
                tick_age=age,
                # A task may hold the GIL for as long as it likes: that is no fault.
                stuck=bool(stuck_after and age > stuck_after and not running) or lane.suspended,
                slots=lane.board.slots,
                running=tuple(
                    RunningTask(task_id=run.task_id, age=now - run.started) for run in running
                ),
                fetched=view.fetched,
                done=view.done,
                failed=view.failed,
                memory=resident(lane.pid) if lane.pid else 0,
            )
        )  # fmt: skip
    counts = all_counts(supervisor)
    return WorkerSnapshot(
        node=supervisor.template.owner.worker,
        pid=os.getpid(),
        pool=supervisor.pool.name,
        uptime=now - supervisor.started,
        queues=tuple(queue.name for queue in supervisor.template.queues),
        lanes=tuple(lanes),
        tasks=tuple(
            TaskStats(name=name, outcome=state.lower(), count=int(runs), seconds=seconds)
            for (name, state), (runs, seconds) in sorted(counts.items())
        ),
        stopping=supervisor.stopping,
        broker_error=keeper.broker_error if keeper is not None else "",
        committed=int(sum(runs for runs, _ in counts.values())),
        fenced=supervisor.fenced + sum(lane.fenced for lane in list(supervisor.lanes.values())),
        restarts=supervisor.restarts,
        stuck_timeout=stuck_after,
    )
