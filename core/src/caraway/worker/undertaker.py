"""What happens to the deliveries of a lane that died.

Its board tells three kinds apart: what had ended without being committed (its journal),
what was running, and the rest, which had not begun.  The first is committed, the second
counted, the third given back as if nothing had been.  All of it goes through the
supervisor's own consumer, so that it is fenced and atomic like any other commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from caraway import states
from caraway.errors import (
    CarawayError,
    OwnerLost,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from caraway.interfaces import Capability
from caraway.message import Completion, Delivery, Settlement, StoredResult
from caraway.worker.board import Running
from caraway.worker.commit import Committer, may_pass
from caraway.worker.job import TaskPlan
from caraway.worker.told import tell

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Consumer

Verdicts = dict[Any, tuple[str, float]]
"""(tag, started) -> (``time limit``, seconds) or (``terminated``, number of the signal)."""


class Remains(Struct):
    """A dead lane, as its supervisor found it.

    Attributes:
        owner: its id.
        exit: how it ended, for people: ``signal 9 (SIGKILL)``.
        finished: completions of its journal.
        running: occupied slots.
        verdicts: why it was killed, if the supervisor did it.
        blameless: the supervisor killed it: what else ran there is not counted.
        heir: owner under which its deliveries were adopted, empty before.
        completions: what is still to be applied for them.
    """

    owner: str
    exit: str
    finished: list[Completion]
    running: list[Running]
    verdicts: Verdicts
    blameless: bool = False
    heir: str = ""
    completions: list[Completion] = []


class Undertaker:
    """Settles what dead lanes leave.  Not thread-safe: one thread calls it.

    Args:
        app: with its transport open in this process.
        heir: opens the consumer under which deliveries are adopted; called again
            should its lease be lost.
        max_deliveries: poison limit.
        hostname: node name.
    """

    def __init__(
        self,
        app: Caraway,
        heir: Callable[[], Consumer],
        max_deliveries: int,
        hostname: str,
    ) -> None:
        self._app = app
        self._open = heir
        self._max = max_deliveries
        self._hostname = hostname
        self._plans: dict[str, TaskPlan] = {}
        self.consumer: Consumer | None = None
        self.tells: Callable[[], bool] = lambda: False
        """Whether events of tasks are wanted."""

    @property
    def owner(self) -> str:
        """Id under which deliveries are adopted, for the keeper to renew; empty until
        the first is."""
        return self.consumer.owner.id if self.consumer is not None else ""

    def close(self) -> None:
        """End the owner."""
        if self.consumer is not None:
            self.consumer.close()

    def _heir(self) -> Consumer:
        # Opened with the first need: a worker starts while its broker is away.
        if self.consumer is None:
            self.consumer = self._open()
        return self.consumer

    def bury(self, remains: Remains) -> int:
        """Settle all; return how many messages were given back.

        May be called again after an error: what is done stays done.

        Raises:
            OperationalError: the broker or backend can't just now.
        """
        try:
            return self._bury(remains)
        except OwnerLost:
            self.consumer = None
            return self._bury(remains)

    def _bury(self, remains: Remains) -> int:
        transport = self._app.transport
        if remains.finished or remains.running:
            if Capability.ADOPT in transport.capabilities:
                heir = self._heir()
                if remains.heir != heir.owner.id:
                    self._adopt(remains, heir)
                self._settle(remains)
            self._fail_acknowledged(remains)
        return transport.reclaim(remains.owner)

    def _adopt(self, remains: Remains, heir: Consumer) -> None:
        """Take over what had ended and what was running, and judge it, once: what a try
        before has adopted can't be adopted again."""
        transport = self._app.transport
        if heir.owner.id in transport.renew([heir.owner.id]):
            raise OwnerLost("the supervisor's own lease was lost")
        finished = {c.settlement.tag: c for c in remains.finished}
        running = {r.tag: r for r in remains.running if r.tag not in finished}
        try:
            adopted = transport.adopt(remains.owner, [*finished, *running], heir.owner.id)
        except BaseException:
            # Maybe some are the heir's now, nobody knows which: they go back with it.
            self._disown(heir)
            raise
        remains.completions = [
            finished[d.tag] if d.tag in finished else self._judge(running[d.tag], d, remains)
            for d in adopted
            if d.tag in finished or d.tag in running
        ]
        remains.heir = heir.owner.id

    def _settle(self, remains: Remains) -> None:
        completions = remains.completions
        if not completions:
            return
        committer = self._committer()
        try:
            lost = committer.apply_any(completions)
            remains.completions = []
            if self.tells():
                tell(self._app, self._hostname, completions, lost, _signums(remains))
        except CarawayError as exc:
            if may_pass(exc):
                raise
            # One that can't be stored must not hold up the others.
            while completions:
                try:
                    committer.apply_any(completions[:1])
                except CarawayError as bad:
                    if may_pass(bad):
                        raise
                    settlement = completions[0].settlement
                    reason = f"the outcome can't be stored: {bad}"[:500]
                    committer.apply_any(
                        [Completion(Settlement(settlement.tag, "reject", reason=reason))]
                    )
                del completions[0]

    def _disown(self, heir: Consumer) -> None:
        self.consumer = None
        try:
            heir.close()
        except CarawayError:
            return  # nobody renews its lease any more

    def condemn(self, remains: Remains) -> int:
        """End runs of a living lane that can't be killed alone: their deliveries are taken
        from the lane, and fail; what the lane makes of them later is fenced off.

        Args:
            remains: of these runs only, with their verdicts.

        Raises:
            OperationalError: as `bury`.
        """
        if Capability.ADOPT in self._app.transport.capabilities:
            heir = self._heir()
            if remains.heir != heir.owner.id:
                try:
                    self._adopt(remains, heir)
                except OwnerLost:
                    self.consumer = None
                    self._adopt(remains, self._heir())
            self._settle(remains)
        self._fail_acknowledged(remains)
        return 0

    def _committer(self) -> Committer:
        app = self._app
        backend = app.backend if app.backend_enabled else None
        return Committer(app.transport, backend, self._heir(), app=app)

    def _judge(self, run: Running, delivery: Delivery, remains: Remains) -> Completion:
        plan = self._plan(delivery)
        if plan is None:
            return Completion(Settlement(delivery.tag, "release"))
        kind, seconds = remains.verdicts.get((run.tag, run.started), ("", 0.0))
        if kind == "time limit":
            return plan.timed_out(delivery, seconds)
        if kind == "terminated":
            return plan.revoke(delivery, "terminated", int(seconds))
        allowed = self._max if plan.task.reject_on_worker_lost is not False else 1
        if remains.blameless:
            return Completion(Settlement(delivery.tag, "release", counted=False))
        if allowed and delivery.attempt >= allowed:
            reason = (
                f"the process that ran it was lost ({remains.exit}) "
                f"on delivery {delivery.attempt} of {allowed} allowed"
            )
            return plan.fail(delivery, WorkerLostError(reason), reason=reason)
        import logging

        logging.getLogger("caraway.worker").warning(
            "task %s[%s] lost its process (%s) on delivery %d; it runs again",
            plan.name, delivery.message.headers.get("id"), remains.exit, delivery.attempt,
        )  # fmt: skip
        return Completion(Settlement(delivery.tag, "release"))

    def _fail_acknowledged(self, remains: Remains) -> None:
        """What had been acknowledged before it ran: nobody will run it again, and whoever
        waits for it must be told.  Likewise what we ended, where the broker gives its
        message to somebody else: who has it next finds that it is over."""
        app = self._app
        adopts = Capability.ADOPT in app.transport.capabilities
        ended = [
            (run, *remains.verdicts.get((run.tag, run.started), ("", 0.0)))
            for run in remains.running
            if run.task_id
        ]
        told = [(run, kind, s) for run, kind, s in ended if run.early or (kind and not adopts)]
        if not told or not app.backend_enabled:
            return
        from caraway.protocol.result import encode_exception, encode_meta

        serializer = app.registry.serializer(app.conf.result_serializer)
        ttl = float(app.conf.result_expires or 0.0)
        stored = []
        for run, kind, seconds in told:
            state = states.FAILURE
            error: BaseException
            if kind == "time limit":
                error = TimeLimitExceeded(seconds)
            elif kind == "terminated":
                state, error = states.REVOKED, TaskRevokedError("terminated")
            else:
                error = WorkerLostError(f"the process that ran it was lost ({remains.exit})")
            payload = encode_meta(serializer, run.task_id, state, encode_exception(error))
            stored.append(StoredResult(run.task_id, state, payload, ttl))
        app.backend.store(stored)
        if self.tells():
            # The others' messages come to a lane, which tells of them.
            completions = [
                Completion(Settlement(run.tag), result)
                for (run, _, _), result in zip(told, stored, strict=True)
                if run.early
            ]
            tell(app, self._hostname, completions, (), _signums(remains))

    def _plan(self, delivery: Delivery) -> TaskPlan | None:
        name = str(delivery.message.headers.get("task"))
        plan = self._plans.get(name)
        if plan is None and name in self._app.tasks:
            plan = TaskPlan(self._app, self._app.tasks[name], None, self._hostname)
            self._plans[name] = plan
        return plan


def _signums(remains: Remains) -> dict[Any, int]:
    """By tag, the signals that terminated runs."""
    return {
        tag: int(number)
        for (tag, _), (kind, number) in remains.verdicts.items()
        if kind == "terminated"
    }
