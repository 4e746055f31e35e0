"""How much a lane fetches, and what it does with it before anything runs.

A lane should fetch what it will run within a few milliseconds: less, and each batch's
round trips weigh on every task; more, and messages wait behind a slow task while other
lanes are idle.  Behind a long queue there is work for everybody, and it may be more.

Verdicts come from `caraway.worker.admission`; here is what they lead to: a job, or a
completion for the next commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from caraway import signals
from caraway.message import Completion, Delivery
from caraway.protocol.body import content_loader
from caraway.protocol.decode import normalize
from caraway.protocol.times import epoch
from caraway.request import Request
from caraway.worker.admission import EXPIRED, Verdict, judge, stamped
from caraway.worker.board import INTEGER, int_mark, mark_of
from caraway.worker.job import TaskJob, TaskPlan, read_limits
from caraway.worker.limits import RateGates
from caraway.worker.orders import forget_oldest
from caraway.worker.started import acknowledged, store_started
from caraway.worker.unrun import check, park, without_running

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Backend, Consumer
    from caraway.worker.board import LaneBoard
    from caraway.worker.lane_config import LaneConfig

_NO_LIMITS = [None, None]
_priority_of = attrgetter("priority")
_SMOOTHING = 0.3
"""Weight of the newest batch in the moving average."""
_DEEP, _MORE = 8, 2
"""Full batches in a row after which a queue is taken to be long, and how many times as much
is fetched at a time then."""
_DEEP_PATIENT, _MORE_PATIENT = 4, 4
"""The same where nothing waits for it (`Pace.patient`): a batch after one of computing tasks
costs about 1.5 ms, however small, which is little of a few hundred."""
_GROWTH = 4
"""A batch is at most this many times the last one: one guess must not take all."""
LONG = 0.05
"""Tasks of this many seconds and more are fetched only for idle executors."""
QUICK = 0.001
"""Tasks of fewer seconds end faster than more of them can be fetched."""
LINGER = 0.002
"""Most seconds for which outcomes gather."""
_LIGHT = 4 * 1024 * 1024
"""Bytes of a batch's bodies beyond which one batch at a time is enough."""
MAX_BYTES = 32 * 1024 * 1024
"""Most bytes of a batch's bodies, measured by those before."""
SMALL = 2048
"""Bytes of a body that is read beforehand: see docs/explanation/benchmarks.md, "Cold and warm".
What can be done for a batch at once costs a fraction of what it costs between two tasks."""


class Pace:
    """The measured pace of one lane.

    Args:
        slots: how many tasks run at a time.
        limit: most messages in a batch.
        horizon: seconds of work to fetch.
        beside: of an inline executor, whose coroutines run beside its one thread: how many
            may; None for other executors.

    Attributes:
        deep: the queue is long: many full batches came in a row, and not of large bodies.
        patient: nothing overtakes what comes, and owners share what is left: so nothing
            waits for long because much is fetched at a time.  False until it is set; ends
            with the first message that has another priority than those before.
    """

    __slots__ = (
        "_beside",
        "_bytes",
        "_full",
        "_last",
        "_priority",
        "_seconds",
        "_wanted",
        "deep",
        "horizon",
        "limit",
        "patient",
        "slots",
    )

    def __init__(self, slots: int, limit: int, horizon: float, beside: int | None = None) -> None:
        self.slots = slots
        self.limit = limit
        self._beside = beside
        self.horizon = horizon
        self._seconds = 0.0
        self._bytes = 0.0
        self._last = 1
        self._full = self._wanted = 0
        self._priority: int | None = None
        self.deep = self.patient = False

    def meet(self, deliveries: Sequence[Delivery]) -> None:
        """Learn from what a fetch brought."""
        if self.patient and deliveries:
            if self._priority is None:
                self._priority = deliveries[0].priority
            self.patient = set(map(_priority_of, deliveries)) == {self._priority}
        self.met(len(deliveries))

    def met(self, count: int) -> None:
        """Learn from a fetch how many came."""
        self._full = self._full + 1 if count >= self._wanted > 1 else 0
        self._wanted = 0
        deep = _DEEP_PATIENT if self.patient else _DEEP
        self.deep = self._full >= deep and count * self._bytes <= _LIGHT

    def observe(self, count: int, seconds: float, size: int) -> None:
        """Learn from tasks that ended.

        Args:
            count: how many.
            seconds: of work they took together, waiting included.
            size: bytes of their bodies together.
        """
        if count <= 0:
            return
        each, heavy = seconds / count, size / count
        # A long task is believed at once: the next batch must be small now.
        weight = 1.0 if not self._seconds or each > LONG else _SMOOTHING
        self._seconds += (each - self._seconds) * weight
        self._bytes += (heavy - self._bytes) * (1.0 if heavy > self._bytes else _SMOOTHING)
        self._last = max(count, self._last // 2)

    def believe(self, seconds: float) -> None:
        """Learn from tasks that have run for so long, and go on."""
        self._seconds = max(self._seconds, seconds)

    def spare(self, in_flight: int) -> float:
        """Seconds for which outcomes may gather for one larger commit, because there is
        more work at hand than for this time: each turn of the loop delays the tasks, which
        need the interpreter too."""
        lasts = (in_flight - self.slots) * self._seconds / self.slots
        return LINGER if lasts > 2 * LINGER else 0.0

    def want(self, in_flight: int) -> int:
        """How many more to fetch while ``in_flight`` are running or waiting here."""
        if self._wanted:  # nothing came of the last
            self._full, self.deep = 0, False
        beside, flying = self._beside, in_flight
        if beside is not None:
            in_flight = 0
        free = self.slots - in_flight
        if not self._seconds or self._seconds >= LONG:
            ahead = 0
        else:
            horizon = self.horizon
            if self.deep:  # behind many full batches there is work for everybody
                horizon *= _MORE_PATIENT if self.patient else _MORE
            ahead = int(horizon / self._seconds * self.slots)
        target = max(free, min(ahead - in_flight, self._last * _GROWTH))
        if free > self.slots // 2 and self.slots > 1 and self._seconds > QUICK:
            # Most slots are idle: rather some tasks at once than many after a while.
            target = min(target, self.slots)
        if self._bytes:
            target = min(target, max(1, int(MAX_BYTES / self._bytes) - in_flight))
        want = max(0, min(target, self.limit))
        if beside is not None and flying:
            # Only coroutines are still in flight here.  Where there are some, there may
            # be more: as many again, while there is room.
            want = min(max(want, flying), beside - flying)
        self._wanted = want
        return want


class Intake:
    """Turns deliveries into jobs.

    Args:
        app: with final settings and tasks.
        board: of the lane.
        config: of the lane.
        consumer: acknowledges what is to be acknowledged before it runs.
        backend: None if results are disabled.
        atomic: a final result that stands was committed with all that follows from it.
    """

    def __init__(
        self,
        app: Caraway,
        board: LaneBoard,
        config: LaneConfig,
        consumer: Consumer,
        backend: Backend | None,
        *,
        atomic: bool = False,
    ) -> None:
        self._app = app
        self._board = board
        self._config = config
        self._consumer = consumer
        self._backend = backend
        self._atomic = atomic
        self._clock = app.context.clock
        self._loads = content_loader(app.registry, app.conf.accept_content)
        self._tasks = app.tasks
        self._plans: dict[str, TaskPlan] = {}
        self.limits = RateGates(config.rate_share, off=app.conf.worker_disable_rate_limits)
        # As Celery: times without an offset are UTC's, unless that is turned off.
        self._zone = None if app.conf.enable_utc else app.timezone
        self._watch: Callable[[TaskPlan], Any] | None = None
        self.revoked: dict[str, None] = {}
        """Task ids revoked by remote control since the start; bounded, newest last."""
        self.stamps: dict[str, dict[str, None]] = {}
        """Stamps revoked likewise: name -> values, as text."""
        self.ended: dict[str, Any] = {}  # task id -> how a run was ended, see `Orders`

    def plan(self, name: str) -> TaskPlan | None:
        """The plan of a registered task, made at its first use."""
        plan = self._plans.get(name)
        if plan is None and name in self._tasks:
            plan = TaskPlan(self._app, self._tasks[name], self._board, self._config.owner.worker)
            self._plans[name] = plan
            self.limits.set_rate(name, plan.rate)
            if self._watch is not None:
                self._watch(plan)
        return plan

    def watch(self, each: Callable[[TaskPlan], Any] | None) -> None:
        """Call this with every plan, those there are and those to come."""
        self._watch = each
        if each is not None:
            for plan in list(self._plans.values()):
                each(plan)

    def revoke(self, task_ids: Sequence[str]) -> None:
        """Have these not run."""
        self.revoked.update(dict.fromkeys(task_ids))
        forget_oldest(self.revoked)

    def revoke_stamps(self, stamps: dict[str, list[str]]) -> None:
        """Have what carries one of these stamps not run."""
        for name, values in stamps.items():
            known = self.stamps.setdefault(name, {})
            known.update(dict.fromkeys(values))
            forget_oldest(known)

    def admit(self, deliveries: Sequence[Delivery]) -> tuple[list[TaskJob], list[Completion]]:
        """Judge a batch; return what is to run, and what is settled without."""
        jobs: list[TaskJob] = []
        judged: list[Completion] = []
        suspects: list[tuple[Delivery, TaskPlan, Verdict]] = []
        plans = self._plans
        gates = self.limits.gates
        now = self._clock()
        most = self._config.max_deliveries
        careful = bool(self.revoked or self.stamps or self.ended)
        special = False
        for delivery in deliveries:
            headers = delivery.message.headers
            name = headers.get("task")
            plan = plans.get(name) if type(name) is str else None
            if plan is None and type(name) is str:
                plan = self.plan(name)
            # The common case first, without a call: known, fresh, wanted.
            if (
                plan is not None
                and delivery.attempt == 1
                and not delivery.expires
                and not delivery.revoked
                and not delivery.defect
                and not careful
                and type(headers.get("id")) is str
                and (headers.get("eta") is None or delivery.due)
                and headers.get("expires") is None
                and gates[plan.name] is None
            ):
                if not plan.acks_late or plan.track_started:
                    special = True
                limits = headers.get("timelimit")
                if limits is not None and limits != _NO_LIMITS:
                    job = _job(delivery, plan)
                else:
                    job = TaskJob(delivery, plan, plan.hard, plan.soft, plan.is_async)
                jobs.append(job)
                message = delivery.message
                # Not what is large, since a batch is held at once; nor what may run code of
                # the user's when it is read.
                if message.content_type != "application/json" or len(message.body) > SMALL:
                    continue
                tag, name = delivery.tag, headers["id"]
                try:
                    # `mark_of`, in place for integer tags
                    key = name.encode()
                    integer = type(tag) is int
                    mark = int_mark(INTEGER, len(key), tag) + key if integer else mark_of(tag, name)
                    args, kwargs, embed = plan.load_body(message)
                except Exception:  # noqa: BLE001, S112 - its run comes to the same, and tells
                    continue
                job.mark = mark
                job.request = Request(headers, args, kwargs, embed, delivery, plan.hostname)
                job.simple = plan.swift is not None and not (
                    embed
                    or headers.get("ignore_result")
                    or headers.get("parent_id")
                    or headers.get("group")
                )
                continue
            if "task" not in headers and not delivery.defect:
                delivery = self._normalized(delivery)  # noqa: PLW2901 - the same, readable
                plan = self.plan(str(delivery.message.headers.get("task")))
            delivery, wait = self._timed(delivery, now)  # noqa: PLW2901 - as above
            verdict = self._judge(delivery, plan, most, now)
            if wait > 0 and verdict.kind in ("run", "check"):
                # Others hand over what is delayed at once: the broker keeps it until then.
                late = 0 < delivery.expires <= now + wait  # the broker would drop it meanwhile
                verdict = EXPIRED if late else Verdict("later", "eta", wait)
            if plan is None or verdict.kind == "park":
                node = self._config.owner.worker
                judged.append(park(node, delivery, verdict.reason, known=plan is not None))
            elif verdict.kind == "run":
                special = True
                jobs.append(_job(delivery, plan))
            elif verdict.kind in ("check", "exhausted"):
                suspects.append((delivery, plan, verdict))
            else:
                judged.append(without_running(delivery, plan, verdict))
        if suspects:
            special = True
            settled, again = check(self._backend, suspects, atomic=self._atomic)
            judged += settled
            jobs += [_job(delivery, plan) for delivery, plan in again]
        if special:
            started = [job for job in jobs if job.plan.track_started]
            if started and self._backend is not None:
                store_started(self._app, self._backend, self._config.owner, started)
            jobs = acknowledged(self._consumer, jobs)
        if signals.task_received.receivers:
            node = self._config.owner.worker
            for job in jobs:
                signals.task_received.send(sender=node, request=job.plan.request(job.delivery))
        return jobs, judged

    def _normalized(self, delivery: Delivery) -> Delivery:
        """A message of protocol 1 has its headers in its body."""
        try:
            return replace(delivery, message=normalize(delivery.message, self._loads))
        except Exception as exc:  # noqa: BLE001 - whatever hostile bytes may cause
            return replace(delivery, defect=str(exc)[:500] or type(exc).__name__)

    def _timed(self, delivery: Delivery, now: float) -> tuple[Delivery, float]:
        """What the headers say of times, where the transport didn't: the delivery with
        its expiry, and the seconds until it may run.  A time that is none is ignored."""
        headers = delivery.message.headers
        eta, expires = headers.get("eta"), headers.get("expires")
        if expires is not None and not delivery.expires:
            delivery = replace(delivery, expires=self._epoch(expires))
        return delivery, 0.0 if eta is None or delivery.due else self._epoch(eta) - now

    def _epoch(self, when: Any) -> float:
        try:
            return epoch(when, self._zone)
        except (ValueError, TypeError, OverflowError):
            return 0.0

    def _judge(self, delivery: Delivery, plan: TaskPlan | None, most: int, now: float) -> Verdict:
        headers = delivery.message.headers
        task_id = headers.get("id")
        if not delivery.defect and plan is not None and type(task_id) is not str:
            return Verdict("park", "not a task message: its id is missing or no string")
        verdict = judge(delivery, plan is not None, most, now)
        if verdict.kind == "check" and task_id in self.ended:
            kind, number = self.ended[task_id]
            return Verdict(kind, delay=number)
        if verdict.kind in ("run", "check") and (
            task_id in self.revoked or (self.stamps and stamped(headers, self.stamps))
        ):
            return Verdict("revoked")
        if verdict.kind == "run" and plan is not None:
            gate = self.limits.gates.get(plan.name)
            if gate is not None:
                delay = gate.delay(str(task_id), now)
                if delay > 0:
                    return Verdict("later", "rate limit", delay)
        return verdict


def _job(delivery: Delivery, plan: TaskPlan) -> TaskJob:
    hard, soft = plan.hard, plan.soft
    limits = delivery.message.headers.get("timelimit")
    if limits:
        hard, soft = read_limits(limits, plan)
    return TaskJob(delivery, plan, hard, soft, plan.is_async)
