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
from msgspec.structs import replace

from caraway import signals, states
from caraway.errors import TimeLimitExceeded
from caraway.message import ChordStart, Completion, Delivery, Publication, Settlement, StoredResult
from caraway.outcome import MEANING, Outcome, revoked
from caraway.request import Request
from caraway.runner import Runner, build_runner
from caraway.states import SUCCESS

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
        "job",
        "load_body",
        "name",
        "rate",
        "replies",
        "run",
        "runner",
        "soft",
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
        self.job: type[TaskJob] = ReplyJob if self.replies else TaskJob
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
                    request.headers["id"], state, payload, self.ttl, self._reply_to(delivery)
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
            stored = StoredResult(request.id, state, outcome.payload, ttl, self._reply_to(delivery))
        workflow = None
        if request.embed and (
            starts or ((request.chord or request.chain) and state in states.READY_STATES)
        ):
            from caraway.worker.chords import workflow_of

            workflow = workflow_of(self.app, request, outcome, self.ttl, starts)
        return Completion(
            self._settlement(delivery, meaning.action, outcome), stored, publications, workflow
        )

    def _reply_to(self, delivery: Delivery) -> str:
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

    def run(self) -> Completion:
        """Run in this thread; the completion says what came of it."""
        # `arun` is this function's twin: a call less for every task is worth it.
        plan = self.plan
        delivery = self.delivery
        message = delivery.message
        headers = message.headers
        self.started = now = monotonic()
        try:
            args, kwargs, embed = plan.load_body(message)
        except Exception as exc:  # noqa: BLE001 - whatever hostile bytes may cause
            return self._undecodable(exc)
        plan.begin(self.slot, now, self.hard, delivery.tag, headers["id"], self.settled)
        request = Request(headers, args, kwargs, embed, delivery, plan.hostname)
        outcome = plan.run(request)
        if outcome.state is SUCCESS and not embed:
            self.state = SUCCESS
            payload = outcome.payload
            completion = Completion(
                Settlement(delivery.tag),
                None
                if payload is None
                else StoredResult(headers["id"], SUCCESS, payload, plan.ttl),
            )
        else:
            completion = self._end(request, outcome)
        self.seconds = monotonic() - now
        if plan.verbose:
            log_success(self)
        return completion

    async def arun(self) -> Completion:
        """Run on this loop; the completion says what came of it."""
        plan = self.plan
        delivery = self.delivery
        message = delivery.message
        self.started = now = monotonic()
        try:
            args, kwargs, embed = plan.load_body(message)
        except Exception as exc:  # noqa: BLE001 - whatever hostile bytes may cause
            return self._undecodable(exc)
        task_id = message.headers["id"]
        plan.begin(self.slot, now, self.hard, delivery.tag, task_id, self.settled)
        request = Request(message.headers, args, kwargs, embed, delivery, plan.hostname)
        completion = self._end(request, await plan.runner.arun(request))
        self.seconds = monotonic() - now
        if plan.verbose:
            log_success(self)
        return completion

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


class ReplyJob(TaskJob):
    """A run whose result goes to the queue of who sent it (`Capability.REPLIES`)."""

    def run(self) -> Completion:
        completion = TaskJob.run(self)
        result = completion.result
        if result is None or result.reply_to:
            return completion
        reply_to = str(self.delivery.message.properties.get("reply_to") or "")
        return replace(completion, result=replace(result, reply_to=reply_to))


def read_limits(limits: Any, plan: TaskPlan) -> tuple[float, float]:
    """(hard, soft) of the header ``timelimit``; the task's own where it has none, or
    something that isn't a time."""
    try:
        hard, soft = limits
        hard, soft = float(hard or 0.0), float(soft or 0.0)
    except (TypeError, ValueError, OverflowError):
        return plan.hard, plan.soft
    return hard if hard > 0 else plan.hard, soft if soft > 0 else plan.soft


def log_success(job: TaskJob) -> None:
    """Log a success, with the time it took; other outcomes are logged by `log_outcome`."""
    if job.state != SUCCESS:
        return
    import logging

    task_id = job.delivery.message.headers.get("id")
    logging.getLogger("caraway.task").info(
        "Task %s[%s] succeeded in %.6fs",
        job.plan.name,
        task_id,
        job.seconds,
        extra={"task_id": task_id, "task_name": job.plan.name},
    )


def log_outcome(plan: TaskPlan, request: Request, outcome: Outcome) -> None:
    """Log what is not a success; successes are logged by the lane, where asked for."""
    import logging

    logger = logging.getLogger("caraway.task")
    extra = {"task_id": request.id, "task_name": plan.name}
    if outcome.state == states.FAILURE:
        if plan.task.throws and isinstance(outcome.value, tuple(plan.task.throws)):
            logger.info(
                "Task %s[%s] raised expected: %r", plan.name, request.id, outcome.value, extra=extra
            )
        else:
            logger.error(
                "Task %s[%s] failed: %r\n%s",
                plan.name, request.id, outcome.value, outcome.traceback or "", extra=extra,
            )  # fmt: skip
    elif outcome.state == states.RETRY:
        retry = outcome.retry
        when = retry.humanize() if retry is not None else ""
        logger.info(
            "Task %s[%s] retries %s: %r", plan.name, request.id, when, outcome.value, extra=extra
        )
    else:
        logger.warning(
            "Task %s[%s] %s: %s", plan.name, request.id, outcome.state.lower(),
            outcome.reason or outcome.value, extra=extra,
        )  # fmt: skip


def _nothing_runs(*_: Any) -> None:
    raise AssertionError("this plan is not for running")
