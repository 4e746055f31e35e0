"""A lane over a broker in memory, and an executor that runs when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from caraway import Caraway
from caraway.errors import Reject
from caraway.interfaces.pool import Executor, Job
from caraway.message import Owner, new_owner_id
from caraway.worker.board import Board
from caraway.worker.lane import Lane
from caraway.worker.lane_config import LaneConfig


class Held(Executor):
    """Runs nothing by itself."""

    def __init__(self, slots: int = 4, *, inline: bool = False) -> None:
        self.slots = slots
        self.inline = inline  # type: ignore[misc]
        self.waiting: list[Any] = []
        self.begun: list[Any] = []
        self.interrupted: list[tuple[Any, type[BaseException]]] = []
        self.report: Callable[[Job, Any], None]

    def start(self) -> None:
        pass

    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        self.waiting += jobs
        self.report = report

    def begin(self) -> Any:
        """Run the next job to its end, without telling."""
        job = self.waiting.pop(0)
        job.slot = len(self.begun) % self.slots
        self.begun.append((job, job.run()))
        return job

    def run(self, count: int = 1) -> None:
        for _ in range(count):
            self.begin()
            self.report(*self.begun[-1])

    def withdraw(self) -> Sequence[Job]:
        taken, self.waiting = self.waiting, []
        return taken

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        self.interrupted.append((job, exc))
        return True

    def stop(self, timeout: float) -> bool:
        return True


class Case:
    """An app, its lane, and what the broker has."""

    def __init__(self) -> None:
        url = f"memory://lane-{new_owner_id()}"
        self.app = Caraway("lane", broker=url, backend=url, set_as_current=False)
        self.ran: list[int] = []
        app, ran = self.app, self.ran

        @app.task(name="work")
        def work(n: int) -> int:
            ran.append(n)
            return n

        @app.task(name="once", acks_late=False)
        def once(n: int) -> int:
            ran.append(n)
            return n

        @app.task(name="again", bind=True)
        def again(self: Any, n: int) -> int:
            ran.append(n)
            if len(ran) < 3:
                raise Reject("later", requeue=True)
            return n

    def lane(self, executor: Executor | None = None, **config: Any) -> tuple[Lane, Held]:
        held = executor or Held()
        owner = Owner(id=new_owner_id(), worker="lane@test")
        config = {"queues": tuple(self.app.queues()), **config}
        made = Lane(
            self.app,
            held,
            LaneConfig(index=0, owner=owner, **config),
            Board(1, held.slots).lane(0),
        )
        made.open()
        return made, held  # type: ignore[return-value]

    def depths(self) -> tuple[int, int]:
        (stats,) = self.app.transport.stats(["celery"])
        return stats.ready, stats.held


def inline(case: Case, **config: Any) -> Lane:
    executor = case.app.registry.pool("solo", 1, case.app.conf).executor()
    lane, _ = case.lane(executor, **config)
    return lane
