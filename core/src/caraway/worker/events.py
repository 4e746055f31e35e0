"""Events of tasks, told by the lanes that run them.

A lane notes what happens, and tells it in one broadcast per batch, after the commit; where
a task runs long, its attendant tells meanwhile.  While events are off, a lane does nothing
for them but ask, once per batch, whether they are on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from caraway import states
from caraway.events import wire
from caraway.events.shown import shown, text_of
from caraway.interfaces import Capability

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.message import Completion, Delivery
    from caraway.outcome import Outcome
    from caraway.request import Request
    from caraway.worker.intake import Intake
    from caraway.worker.job import TaskJob, TaskPlan
    from caraway.worker.lane import Lane

_MOST_OUTCOMES = 20_000
_LONGEST_TRACEBACK = 16 * 1024
_RUNNING_AFTER = 0.05
"""Seconds after which a run that hasn't ended is told of."""


class _Told(Struct, gc=False):
    """An event of a task, in the order in which it is written."""

    hostname: str
    utcoffset: int
    pid: int
    clock: int
    timestamp: float
    type: str
    uuid: str


class _Received(_Told, gc=False):
    # None is written, too: monitors look for these.
    name: str
    args: str
    kwargs: str
    root_id: str | None
    parent_id: str | None
    retries: int
    eta: str | None
    expires: str | None


class _Succeeded(_Told, gc=False):
    result: str
    runtime: float


class _Failed(_Told, gc=False):
    exception: str
    traceback: str


class _Revoked(_Told, gc=False):
    terminated: bool
    signum: int | None
    expired: bool


class _Rejected(_Told, gc=False):
    requeue: bool


def switch(lane: Lane, *, on: bool) -> None:
    """Have a lane tell of its tasks, or not.  Any thread may call this."""
    if on and lane.events is None:
        if Capability.BROADCAST in lane.app.transport.capabilities:
            lane.events = LaneEvents(lane.app, lane.intake, lane.config.owner.worker)
    elif not on and lane.events is not None:
        lane.events.close()
        lane.events = None


class Outcomes:
    """Keeps what runs came to, by delivery, until it is told.

    It stands in the place of the functions that run tasks, so that nothing is kept, and
    nothing asked, while events are off.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, Outcome] = {}
        self._watched: list[tuple[TaskPlan, Any, Any, Any]] = []

    def watch(self, plan: TaskPlan) -> None:
        """Keep the outcomes of this task's runs from now on."""
        runner = plan.runner
        self._watched.append((plan, runner.run, runner.arun, runner.settle_failure))
        kept, run, arun, settle_failure = (
            self._kept, runner.run, runner.arun, runner.settle_failure,
        )  # fmt: skip

        def watched(request: Request) -> Outcome:
            outcome = run(request)
            kept[request.delivery.tag] = outcome  # type: ignore[union-attr]
            return outcome

        async def awatched(request: Request) -> Outcome:
            outcome = await arun(request)
            kept[request.delivery.tag] = outcome  # type: ignore[union-attr]
            return outcome

        def settled(request: Request, exc: BaseException) -> Outcome:
            outcome = settle_failure(request, exc)
            if request.delivery is not None:
                kept[request.delivery.tag] = outcome
            return outcome

        plan.run = runner.run = watched
        runner.arun = awatched
        runner.settle_failure = settled

    def take(self, tag: Any) -> Outcome | None:
        """The outcome of a delivery; it is no longer kept."""
        return self._kept.pop(tag, None)

    def trim(self) -> None:
        """Forget what nobody will ask for: of runs that were given back, or fenced off."""
        if len(self._kept) > _MOST_OUTCOMES:
            self._kept.clear()

    def close(self) -> None:
        """Put the tasks' own functions back."""
        for plan, run, arun, settle_failure in reversed(self._watched):
            plan.run = plan.runner.run = run
            plan.runner.arun = arun
            plan.runner.settle_failure = settle_failure
        self._watched.clear()
        self._kept.clear()


class Teller:
    """Makes events of tasks, and publishes them.

    Args:
        app: whose broker they go to.
        node: the worker's name.
    """

    def __init__(self, app: Caraway, node: str) -> None:
        self._app = app
        self._node = node
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pending: list[_Told] = []
        self._offset = wire.utcoffset()
        self._silent_until = 0.0

    def _add(self, events: list[_Told]) -> None:
        """Number events in their order, and put them to those that wait."""
        if events:
            clock = self._app.clock.forward(len(events)) - len(events)
            for number, event in enumerate(events, 1):
                event.clock = clock + number
            with self._lock:
                self._pending += events

    def flush(self) -> None:
        """Publish what waits, in one broadcast.  Never raises: events are best effort."""
        with self._lock:
            events, self._pending = self._pending, []
        if not events or monotonic() < self._silent_until:
            return
        try:
            self._app.transport.broadcast().publish([wire.notice(self._app, self._node, events)])
        except Exception as exc:  # noqa: BLE001 - a task must not suffer from its monitors
            # Not with each batch: a broker that is away would hold up every one of them.
            self._silent_until = monotonic() + 1.0
            _log().warning("events are lost: %s", exc)

    def _ended(
        self, uuid: str, outcome: Outcome, at: float, runtime: float, why: str
    ) -> _Told | None:
        """The event of an outcome; None for those that nothing is told of."""
        common = (self._node, self._offset, self._pid, 0, at)
        state = outcome.state
        if state == states.SUCCESS:
            return _Succeeded(*common, "task-succeeded", uuid, text_of(outcome.value), runtime)
        if state in (states.FAILURE, states.RETRY):
            kind = "task-failed" if state == states.FAILURE else "task-retried"
            traceback = (outcome.traceback or "")[-_LONGEST_TRACEBACK:]
            return _Failed(*common, kind, uuid, text_of(outcome.value), traceback)
        if state == states.REVOKED:
            expired = why == "expired" or str(outcome.value) == "expired"
            terminated = why == "terminated" or str(outcome.value) == "terminated"
            return _Revoked(*common, "task-revoked", uuid, terminated, None, expired)
        if state == states.REJECTED:
            return _Rejected(*common, "task-rejected", uuid, outcome.requeue)
        return None


class LaneEvents(Teller):
    """What one lane tells of its tasks.

    Args:
        app: whose broker it goes to.
        intake: of the lane: has the tasks' plans.
        node: the worker's name.
    """

    def __init__(self, app: Caraway, intake: Intake, node: str) -> None:
        super().__init__(app, node)
        self._outcomes = Outcomes()
        self._begun: set[Any] = set()
        self._revoked: dict[Any, str] = {}
        self._intake = intake
        intake.watch(self._outcomes.watch)

    def close(self) -> None:
        """Tell what waits, and no more."""
        self._intake.watch(None)
        self._outcomes.close()
        self.flush()

    def received(
        self,
        deliveries: Sequence[Delivery],
        jobs: Iterable[TaskJob],
        judged: Sequence[Completion],
    ) -> None:
        """A batch was fetched and judged."""
        now = time.time()
        node, offset, pid = self._node, self._offset, self._pid
        events: list[_Told] = []
        for job in jobs:
            plan = job.plan
            if not plan.task.send_events:
                continue
            message = job.delivery.message
            headers = message.headers
            args, kwargs = shown(message, plan.load_body)
            events.append(
                _Received(
                    node,
                    offset,
                    pid,
                    0,
                    now,
                    "task-received",
                    headers["id"],
                    plan.name,
                    args,
                    kwargs,
                    headers.get("root_id"),
                    headers.get("parent_id"),
                    headers.get("retries") or 0,
                    headers.get("eta"),
                    headers.get("expires"),
                )
            )
        if judged:
            self._judged(deliveries, judged, events, now)
        self._add(events)

    def _judged(
        self,
        deliveries: Sequence[Delivery],
        judged: Sequence[Completion],
        events: list[_Told],
        now: float,
    ) -> None:
        """What is settled without a run: parked now, the rest with its commit."""
        by_tag = {delivery.tag: delivery for delivery in deliveries}
        for completion in judged:
            settlement = completion.settlement
            delivery = by_tag.get(settlement.tag)
            uuid = delivery.message.headers.get("id") if delivery is not None else None
            if type(uuid) is not str:
                continue
            if settlement.parked:
                events.append(
                    _Rejected(
                        self._node,
                        self._offset,
                        self._pid,
                        0,
                        now,
                        "task-rejected",
                        uuid,
                        requeue=False,
                    )
                )
            else:
                self._revoked[settlement.tag] = uuid

    def running(self, jobs: Iterable[TaskJob]) -> None:
        """Tell of runs that go on, and of what waits.  For the attendant's thread."""
        ahead = time.time() - monotonic()
        now = monotonic()
        events: list[_Told] = []
        for job in jobs:
            started, tag = job.started, job.delivery.tag
            if (
                started
                and now - started >= _RUNNING_AFTER
                and not job.seconds
                and tag not in self._begun
                and job.plan.task.send_events
            ):
                self._begun.add(tag)
                events.append(self._started(job, started + ahead))
        self._add(events)
        self.flush()

    def _started(self, job: TaskJob, at: float) -> _Told:
        uuid = job.delivery.message.headers["id"]
        return _Told(self._node, self._offset, self._pid, 0, at, "task-started", uuid)

    def ended(
        self, batch: Iterable[tuple[TaskJob | None, Completion]], lost: Sequence[Any]
    ) -> None:
        """A batch was committed, but for those tags that were lost."""
        ahead = time.time() - monotonic()
        take, begun = self._outcomes.take, self._begun
        events: list[_Told] = []
        for job, completion in batch:
            tag = completion.settlement.tag
            outcome = take(tag)
            if job is None:
                uuid = self._revoked.pop(tag, None)
                if uuid is not None and outcome is not None and tag not in lost:
                    event = self._ended(uuid, outcome, ahead + monotonic(), 0.0, "")
                    if event is not None:
                        events.append(event)
                continue
            told = tag in begun
            if told:
                begun.discard(tag)
            if outcome is None or tag in lost or not job.plan.task.send_events:
                continue
            at = job.started + ahead
            if not told and job.started:
                events.append(self._started(job, at))
            uuid = job.delivery.message.headers["id"]
            event = self._ended(uuid, outcome, at + job.seconds, outcome.runtime, "")
            if event is not None:
                events.append(event)
        self._add(events)
        self._outcomes.trim()
        self.flush()

    def cancelled(self, jobs: Iterable[TaskJob]) -> None:
        """What runs is given back."""
        now = time.time()
        events: list[_Told] = []
        for job in jobs:
            if job.started and not job.seconds and job.plan.task.send_events:
                uuid = job.delivery.message.headers["id"]
                events.append(
                    _Told(self._node, self._offset, self._pid, 0, now, "task-cancelled", uuid)
                )
        self._add(events)
        self.flush()


def _log() -> Any:
    import logging

    return logging.getLogger("caraway.worker")
