"""What the supervisor tells of itself: the snapshot behind health and metrics."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.worker.health import HealthServer
    from caraway.worker.keeper import Keeper
    from caraway.worker.metrics import WorkerSnapshot
    from caraway.worker.supervisor import Supervisor


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
    from caraway.worker.lanes import stuck_after
    from caraway.worker.memory import resident
    from caraway.worker.metrics import LaneSnapshot, RunningTask, TaskStats, WorkerSnapshot

    now = monotonic()
    stuck = stuck_after(supervisor.app.conf)
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
                # A task may hold the GIL for as long as it likes: that is no fault.  Red
                # some time before the lane is replaced, so that it is seen.
                stuck=bool(stuck and age > 0.8 * stuck and not running) or lane.suspended,
                slots=lane.board.slots,
                running=tuple(
                    RunningTask(task_id=run.task_id, age=now - run.started) for run in running
                ),
                fetched=view.fetched,
                done=view.done,
                memory=resident(lane.pid) if lane.pid else 0,
            )
        )  # fmt: skip
    tally = supervisor.tally.with_lanes(list(supervisor.lanes.values()))
    depths = keeper.depths if keeper is not None else {}
    return WorkerSnapshot(
        node=supervisor.template.owner.worker,
        pid=os.getpid(),
        pool=supervisor.pool.name,
        uptime=now - supervisor.started,
        queues=tuple(queue.name for queue in supervisor.template.queues),
        lanes=tuple(lanes),
        tasks=tuple(
            TaskStats(name=name, outcome=state.lower(), count=int(runs), seconds=seconds)
            for (name, state), (runs, seconds) in sorted(tally.tasks.items())
        ),
        stopping=supervisor.stopping,
        broker_error=_broker_error(keeper, supervisor.template.owner.lease, now),
        broker_errors=keeper.broker_errors if keeper is not None else 0,
        fetched=tally.fetched,
        committed=int(sum(runs for runs, _ in tally.tasks.values())) + tally.parked,
        fenced=tally.fenced,
        dead_lettered=tally.dead,
        parked=tally.parked,
        restarts=tally.restarts,
        recycled=tally.recycled,
        reclaimed=keeper.reclaimed if keeper is not None else 0,
        timeouts=tally.timeouts,
        ready={name: stats.ready for name, stats in depths.items()},
        lag={name: stats.oldest for name, stats in depths.items() if stats.oldest is not None},
        stuck_timeout=stuck,
    )


def _broker_error(keeper: Keeper | None, lease: float, now: float) -> str:
    if keeper is None:
        return ""
    silent = now - keeper.renewed
    if not keeper.broker_error and silent > lease:
        return f"the broker hangs: no lease was renewed for {silent:.0f} s"
    return keeper.broker_error
