"""Events of tasks, told by the lanes that run them.

A lane notes what happens, and tells it in one broadcast per batch, after the commit; where
a task runs long, its attendant tells meanwhile.  While events are off, a lane does nothing
for them but ask, once per batch, whether they are on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.events.shown import shown
from caraway.interfaces import Capability
from caraway.states import SUCCESS
from caraway.worker.told import Received, Succeeded, Teller, Told
from caraway.worker.watched import Watched

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.message import Completion, Delivery
    from caraway.worker.intake import Intake
    from caraway.worker.job import TaskJob
    from caraway.worker.lane import Lane

_RUNNING_AFTER = 0.05
"""Seconds after which a run that hasn't ended is told of."""


def switch(lane: Lane, *, on: bool) -> None:
    """Have a lane tell of its tasks, or not.  Any thread may call this."""
    if on and lane.events is None:
        if Capability.BROADCAST in lane.app.transport.capabilities:
            lane.events = LaneEvents(lane.app, lane.intake, lane.config.owner.worker)
    elif not on and lane.events is not None:
        lane.events.close()
        lane.events = None


class LaneEvents(Teller):
    """What one lane tells of its tasks.

    Args:
        app: whose broker it goes to.
        intake: of the lane: has the tasks' plans.
        node: the worker's name.
    """

    def __init__(self, app: Caraway, intake: Intake, node: str) -> None:
        super().__init__(app, node)
        self._watched = Watched()
        self._fresh: list[tuple[float, Sequence[TaskJob]]] = []
        self._begun: set[Any] = set()
        self._revoked: dict[Any, str] = {}
        self._intake = intake
        intake.watch(self._watched.watch)

    def close(self) -> None:
        """Tell what waits, and no more."""
        self._intake.watch(None)
        self._watched.close()
        self.flush()

    def received(
        self,
        deliveries: Sequence[Delivery],
        jobs: Sequence[TaskJob],
        judged: Sequence[Completion],
    ) -> None:
        """A batch was fetched and judged."""
        now = time.time()
        if jobs:
            # Told later: by then most have run, and their arguments were decoded for that.
            with self._lock:
                self._fresh.append((now, jobs))
        if judged:
            self._judged(deliveries, judged, now)

    def _judged(
        self, deliveries: Sequence[Delivery], judged: Sequence[Completion], now: float
    ) -> None:
        """What is settled without a run: parked now, the rest with its commit."""
        by_tag = {delivery.tag: delivery for delivery in deliveries}
        events: list[Told] = []
        for completion in judged:
            settlement = completion.settlement
            delivery = by_tag.get(settlement.tag)
            uuid = delivery.message.headers.get("id") if delivery is not None else None
            if type(uuid) is not str or settlement.action == "release":
                continue
            if settlement.parked:
                events.append(self.rejected(uuid, now))
            else:
                self._revoked[settlement.tag] = uuid
        self.add(events)

    def _introduce(self) -> list[Told]:
        """The events ``task-received`` of what was fetched since the last time."""
        if not self._fresh:
            return []
        with self._lock:
            fresh, self._fresh = self._fresh, []
        take: Any = self._watched.texts.pop
        quiet = self._watched.quiet
        node, offset, pid = self.head
        events: list[Told] = []
        for now, jobs in fresh:
            clock = self.times(len(jobs))
            for job in jobs:
                plan = job.plan
                if quiet and plan in quiet:
                    continue
                delivery = job.delivery
                texts: tuple[str, str] | None = take(delivery.tag, None)
                args, kwargs = texts or shown(delivery.message, plan.load_body)
                clock += 1
                get: Any = delivery.message.headers.get
                events.append(
                    Received(
                        node, offset, pid, clock, now, "task-received", get("id"), plan.name, args,
                        kwargs, get("root_id"), get("parent_id"), get("retries") or 0,
                        get("eta"), get("expires"),
                    )
                )  # fmt: skip
        return events

    def running(self, jobs: Iterable[TaskJob]) -> None:
        """Tell of runs that go on, and of what waits.  For the attendant's thread."""
        now = monotonic()
        ahead = time.time() - now
        long = [
            job
            for job in jobs
            if job.started
            and now - job.started >= _RUNNING_AFTER
            and not job.seconds
            and job.delivery.tag not in self._begun
            and job.plan.task.send_events
        ]
        if not long and not self._pending:
            return
        events = self._introduce()
        for job in long:
            self._begun.add(job.delivery.tag)
            uuid = job.delivery.message.headers["id"]
            events.append(self.simply("task-started", uuid, job.started + ahead))
        self.add(events)
        self.flush()

    def ended(
        self, batch: Sequence[tuple[TaskJob | None, Completion]], lost: Sequence[Any]
    ) -> None:
        """A batch was committed, but for those tags that were lost."""
        ahead = time.time() - monotonic()
        take, begun = self._watched.outcomes.pop, self._begun
        node, offset, pid = self.head
        events = self._introduce()
        append = events.append
        # No more than these; times that nobody used do no harm.
        clock = self.times(2 * len(batch))
        for job, completion in batch:
            tag = completion.settlement.tag
            outcome = take(tag, None)
            if job is None:
                uuid = self._revoked.pop(tag, None)
                if uuid is not None and outcome is not None and tag not in lost:
                    told = self.ended_as(uuid, outcome, time.time())
                    if told is not None:
                        clock += 1
                        told.clock = clock
                        append(told)
                continue
            known = tag in begun
            if known:
                begun.discard(tag)
            if outcome is None or (lost and tag in lost):
                continue
            uuid, at = job.delivery.message.headers["id"], job.started + ahead
            if not known and job.started:
                clock += 1
                append(Told(node, offset, pid, clock, at, "task-started", uuid))
            at += job.seconds
            clock += 1
            if outcome.state is SUCCESS and type(outcome.value) in _SHORT:
                append(
                    Succeeded(
                        node, offset, pid, clock, at, "task-succeeded", uuid, repr(outcome.value),
                        outcome.runtime,
                    )
                )  # fmt: skip
                continue
            told = self.ended_as(uuid, outcome, at)
            if told is not None:
                told.clock = clock
                append(told)
        self.put(events)
        self._watched.trim()
        self.flush()

    def cancelled(self, jobs: Iterable[TaskJob]) -> None:
        """What runs is given back."""
        now = time.time()
        self.add(
            [
                self.simply("task-cancelled", job.delivery.message.headers["id"], now)
                for job in jobs
                if job.started and not job.seconds and job.plan.task.send_events
            ]
        )
        self.flush()


_SHORT = frozenset((float, bool, type(None)))
"""Types whose ``repr`` is short and can't fail."""
