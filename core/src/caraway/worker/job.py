"""One run in a lane: from a delivery to the completion that its commit applies.

A `TaskPlan` holds what is the same for every run of one task; a `TaskJob` is one run,
handed to the pool's executor.  Both are made by the lane; neither touches a transport or
a store.  The steps of `TaskJob.run`: body decoded, board told, function run, outcome
turned into a `Completion`, board told again.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from caraway import signals, states
from caraway.errors import TimeLimitExceeded
from caraway.message import ChordStart, Completion, Delivery, Publication, Settlement, StoredResult
from caraway.outcome import MEANING, Outcome, revoked
from caraway.request import Request
from caraway.runner import Runner, build_runner
from caraway.states import SUCCESS
from caraway.worker.board import mark_of
from caraway.worker.run_log import log_outcome, log_success

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.task import Task
    from caraway.worker.board import LaneBoard


_UNFINISHED = frozenset((states.FAILURE, states.RETRY, states.REVOKED))
"""What a run comes to that an exception ended; a retry would be revoked anyhow."""


class TaskPlan:
    """What every run of one task shares, looked up once.

    Args:
        app: with final settings.
        task: to plan for.
        board: of the lane; None where nothing will run.
        hostname: node name, for the request.
    """

    __slots__ = (
        "acks_late",
        "acks_on_failure",
        "app",
        "begin",
        "follow_ups",
        "hard",
        "hostname",
        "is_async",
        "load_body",
        "name",
        "rate",
        "replies",
        "run",
        "runner",
        "soft",
        "swift",
        "task",
        "track_started",
        "ttl",
        "ttl_failure",
        "verbose",
    )

    def __init__(
        self, app: Caraway, task: Task[Any, Any], board: LaneBoard | None, hostname: str
    ) -> None:
        import logging

        from caraway.protocol.codec import body_loader
        from caraway.worker.follow_ups import FollowUps

        conf = app.conf
        self.app = app
        self.task = task
        self.name: str = task.name
        self.begin = board.start if board is not None else _nothing_runs
        self.hostname = hostname
        self.runner: Runner = build_runner(task, store=app.backend_enabled)
        self.run = self.runner.run
        self.swift: Any = self.runner.swift
        self.is_async = self.runner.is_async
        self.load_body: Callable[..., tuple[Any, Any, Any]] = body_loader(
            app.registry, conf.accept_content
        )
        self.acks_late: bool = (
            conf.task_acks_late if task.acks_late is None else bool(task.acks_late)
        )
        acks_on_failure = task.acks_on_failure
        if acks_on_failure is None:
            acks_on_failure = task.acks_on_failure_or_timeout
        self.acks_on_failure = acks_on_failure is not False
        self.hard: float = task.time_limit or conf.task_time_limit or 0.0
        self.soft: float = task.soft_time_limit or conf.task_soft_time_limit or 0.0
        self.track_started: bool = (
            conf.task_track_started if task.track_started is None else bool(task.track_started)
        )
        self.ttl: float = float(conf.result_expires or 0.0)
        self.ttl_failure: float = float(conf.result_failure_expires or self.ttl)
        self.rate: str | float | None = task.rate_limit or conf.task_default_rate_limit
        self.follow_ups = FollowUps(app)
        self.replies = app.replies
        # Looked at once: a record for each task costs more than a short task does.
        self.verbose = logging.getLogger("caraway.task").isEnabledFor(logging.INFO)

    # -- completions -------------------------------------------------------------------

    def complete(self, delivery: Delivery, request: Request, outcome: Outcome) -> Completion:
        """What the outcome of a run changes in the system."""
        state = outcome.state
        if state == states.SUCCESS and not request.embed:
            payload = outcome.payload
            return Completion(
                Settlement(delivery.tag),
                None if payload is None
                else StoredResult(
                    request.headers["id"], state, payload, self.ttl, self.reply_to(delivery)
                ),
            )  # fmt: skip
        meaning = MEANING[state]
        publications: tuple[Publication, ...] = ()
        starts: tuple[ChordStart, ...] = ()
        try:
            if meaning.retried:
                publications = (self.follow_ups.retry(delivery, request, outcome),)
            elif meaning.links and request.embed:
                publications, starts = self.follow_ups.links(request, outcome, meaning.links)
        except Exception as exc:  # noqa: BLE001 - arguments that can't be written, bad links
            if state not in (states.FAILURE, states.REVOKED):
                failure = self.runner.settle_failure(request, exc)
                return self.complete(delivery, request, failure)
            self._log_lost_follow_ups(request)
        stored = None
        if meaning.stored and outcome.payload is not None and request.id:
            ttl = self.ttl if state != states.FAILURE else self.ttl_failure
            stored = StoredResult(request.id, state, outcome.payload, ttl, self.reply_to(delivery))
        workflow = None
        if request.embed and (
            starts or ((request.chord or request.chain) and state in states.READY_STATES)
        ):
            from caraway.worker.chords import workflow_of

            workflow = workflow_of(self.app, request, outcome, self.ttl, starts)
        return Completion(
            self._settlement(delivery, meaning.action, outcome), stored, publications, workflow
        )

    def reply_to(self, delivery: Delivery) -> str:
        """Who is to get the result, where results go to their callers."""
        return str(delivery.message.properties.get("reply_to") or "") if self.replies else ""

    def _settlement(self, delivery: Delivery, action: str, outcome: Outcome) -> Settlement:
        if action == "reject":
            if outcome.requeue:
                return Settlement(delivery.tag, "release", counted=False)
            return Settlement(delivery.tag, "reject", reason=outcome.reason)
        if outcome.reason:
            return Settlement(delivery.tag, "reject", reason=outcome.reason)
        if outcome.state == states.FAILURE and not self.acks_on_failure and self.acks_late:
            return Settlement(delivery.tag, "reject", reason=f"failed: {outcome.value!r}"[:500])
        return Settlement(delivery.tag)

    def fail(self, delivery: Delivery, exc: BaseException, *, reason: str = "") -> Completion:
        """The completion of a run that ended from outside of the function.

        Args:
            delivery: what was to run.
            exc: becomes the result.
            reason: if given, the message goes to the dead letters with it.
        """
        request = self.request(delivery)
        outcome = self.runner.settle_failure(request, exc)
        outcome.reason = reason
        return self.complete(delivery, request, outcome)

    def revoke(self, delivery: Delivery, why: str, signum: int | None = None) -> Completion:
        """The completion of a message that is not to run (``revoked``, ``expired``), or of
        a run that was ``terminated`` by a signal."""
        completion = self.fail(delivery, revoked(why, signum))
        if signals.task_revoked.receivers:
            self.tell_revoked(self.request(delivery), why, signum)
        return completion

    def tell_revoked(self, request: Request, why: str, signum: int | None = None) -> None:
        """Send the signal ``task_revoked``."""
        signals.task_revoked.send(
            sender=self.task, request=request, terminated=why == "terminated", signum=signum,
            expired=why == "expired",
        )  # fmt: skip

    def timed_out(self, delivery: Delivery, seconds: float) -> Completion:
        """The completion of a run that was ended at its hard limit."""
        return self.fail(delivery, TimeLimitExceeded(seconds))

    def request(self, delivery: Delivery) -> Request:
        """The request of a delivery, even if its body can't be read."""
        message = delivery.message
        try:
            args, kwargs, embed = self.load_body(message)
        except Exception:  # noqa: BLE001 - whatever hostile bytes may cause
            args, kwargs, embed = (), {}, {}
        return Request(message.headers, args, kwargs, embed, delivery, self.hostname)

    def _log_lost_follow_ups(self, request: Request) -> None:
        import logging

        logging.getLogger("caraway.task").exception(
            "task %s[%s]: its callbacks can't be sent", self.name, request.id
        )


class TaskJob(Struct, eq=False):
    """One run.  See `caraway.interfaces.pool.Job`.

    Attributes:
        delivery: what is run.
        started: `time.monotonic` at its begin, 0.0 before.
        seconds: how long it took, 0.0 before its end.
        interrupted: why an exception was sent into it, None if none was.
        signum: of the signal that terminates it, 0 if none does.
        hard: seconds it may take, 0.0 for no limit.
        soft: seconds after which it is told to hurry, 0.0 for no limit.
        state: of its outcome; ``PARKED`` if its body could not be read.
        settled: acknowledged already (``acks_late=False``): its end settles nothing.
        noted: its completion stands in the journal.
        mark: what the board calls it; made at its begin, if it wasn't before.
        request: made beforehand, where it could be.
        simple: made beforehand, and nothing but its result is asked for.
        value: what it returned, as JSON, if `run` returned None.
    """

    delivery: Delivery
    plan: TaskPlan
    hard: float
    soft: float
    is_async: bool
    slot: int = 0
    started: float = 0.0
    seconds: float = 0.0
    interrupted: str | None = None
    signum: int = 0
    settled: bool = False
    state: str = "PARKED"
    noted: bool = False
    mark: bytes = b""
    request: Request | None = None
    simple: bool = False
    value: bytes = b""

    def run(self) -> Completion | None:
        """Run in this thread; the completion says what came of it, None a plain success:
        see `caraway.worker.lane.completed`."""
        # `arun` is this function's twin: a call less for every task is worth it.
        plan = self.plan
        self.started = now = monotonic()
        request, self.request = self.request, None
        if request is None:
            try:
                request = self._load()
            except Exception as exc:  # noqa: BLE001 - whatever hostile bytes may cause
                return self._undecodable(exc)
        plan.begin(self.slot, now, self.hard, self.mark)
        outcome = plan.swift(request) if self.simple else plan.run(request)
        completion = None
        if type(outcome) is bytes:
            self.value = outcome
            self.state = SUCCESS
        else:
            completion = self._end(request, outcome)
        self.seconds = monotonic() - now
        if plan.verbose:
            log_success(self)
        return completion

    async def arun(self) -> Completion | None:
        """Run on this loop; see `run`."""
        plan = self.plan
        self.started = now = monotonic()
        request, self.request = self.request, None
        if request is None:
            try:
                request = self._load()
            except Exception as exc:  # noqa: BLE001 - whatever hostile bytes may cause
                return self._undecodable(exc)
        plan.begin(self.slot, now, self.hard, self.mark)
        outcome = await (plan.swift(request) if self.simple else plan.runner.arun(request))
        completion = None
        if type(outcome) is bytes:
            self.value = outcome
            self.state = SUCCESS
        else:
            completion = self._end(request, outcome)
        self.seconds = monotonic() - now
        if plan.verbose:
            log_success(self)
        return completion

    def _load(self) -> Request:
        plan, message = self.plan, self.delivery.message
        if not self.mark:
            self.mark = mark_of(self.delivery.tag, message.headers["id"], early=self.settled)
        args, kwargs, embed = plan.load_body(message)
        return Request(message.headers, args, kwargs, embed, self.delivery, plan.hostname)

    def _undecodable(self, exc: Exception) -> Completion:
        signals.task_rejected.send(
            sender=self.plan.hostname, message=self.delivery.message, exc=exc
        )
        reason = f"undecodable body: {exc}"[:500]
        return Completion(Settlement(self.delivery.tag, "reject", reason=reason, parked=True))

    def _end(self, request: Request, outcome: Outcome) -> Completion:
        if outcome.state != SUCCESS:
            if self.signum and outcome.state in _UNFINISHED:
                if outcome.state != states.REVOKED:  # it made another exception of ours
                    error = revoked("terminated", self.signum)
                    outcome = self.plan.runner.settle_failure(request, error)
                self.plan.tell_revoked(request, "terminated", self.signum)
            log_outcome(self.plan, request, outcome)
        self.state = outcome.state
        return self.plan.complete(self.delivery, request, outcome)


def read_limits(limits: Any, plan: TaskPlan) -> tuple[float, float]:
    """(hard, soft) of the header ``timelimit``; the task's own where it has none, or
    something that isn't a time."""
    try:
        hard, soft = limits
        hard, soft = float(hard or 0.0), float(soft or 0.0)
    except (TypeError, ValueError, OverflowError):
        return plan.hard, plan.soft
    return hard if hard > 0 else plan.hard, soft if soft > 0 else plan.soft


def _nothing_runs(*_: Any) -> None:
    raise AssertionError("this plan is not for running")
