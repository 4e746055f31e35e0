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
from caraway.errors import OwnerLost, WorkerLostError
from caraway.interfaces import Capability
from caraway.message import Completion, Delivery, Settlement, StoredResult
from caraway.worker.board import Running
from caraway.worker.commit import Committer
from caraway.worker.job import TaskPlan

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Consumer

Verdicts = dict[Any, tuple[str, float]]
"""(tag, started) -> (``time limit`` or ``terminated``, seconds)."""


class Remains(Struct):
    """A dead lane, as its supervisor found it.

    Attributes:
        owner: its id.
        exit: how it ended, for people: ``signal 9 (SIGKILL)``.
        finished: completions of its journal.
        running: occupied slots.
        verdicts: why it was killed, if the supervisor did it.
    """

    owner: str
    exit: str
    finished: list[Completion]
    running: list[Running]
    verdicts: Verdicts


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
        finished = {c.settlement.tag: c for c in remains.finished}
        running = [r for r in remains.running if r.tag not in finished]
        if (finished or running) and Capability.ADOPT in transport.capabilities:
            tags = [*finished, *(r.tag for r in running)]
            adopted = {
                d.tag: d for d in transport.adopt(remains.owner, tags, self._heir().owner.id)
            }
            completions = [c for tag, c in finished.items() if tag in adopted]
            for run in running:
                delivery = adopted.get(run.tag)
                if delivery is None:
                    self._fail_acknowledged(run, remains)
                else:
                    completions.append(self._judge(run, delivery, remains))
            if completions:
                self._committer().apply(completions)
        return transport.reclaim(remains.owner)

    def condemn(self, owner: str, run: Running, seconds: float) -> None:
        """End one run of a living lane that can't be killed alone: its delivery is
        taken from the lane, and fails; what the lane makes of it later is fenced off."""
        transport = self._app.transport
        for delivery in transport.adopt(owner, [run.tag], self._heir().owner.id):
            plan = self._plan(delivery)
            completion = (
                plan.timed_out(delivery, seconds)
                if plan is not None
                else Completion(Settlement(delivery.tag, "release"))
            )
            self._committer().apply([completion])

    def _committer(self) -> Committer:
        app = self._app
        backend = app.backend if app.backend_enabled else None
        return Committer(app.transport, backend, self._heir())

    def _judge(self, run: Running, delivery: Delivery, remains: Remains) -> Completion:
        plan = self._plan(delivery)
        if plan is None:
            return Completion(Settlement(delivery.tag, "release"))
        kind, seconds = remains.verdicts.get((run.tag, run.started), ("", 0.0))
        if kind == "time limit":
            return plan.timed_out(delivery, seconds)
        if kind == "terminated":
            return plan.revoke(delivery, "terminated")
        allowed = self._max if plan.task.reject_on_worker_lost is not False else 1
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

    def _fail_acknowledged(self, run: Running, remains: Remains) -> None:
        """It had been acknowledged before it ran: nobody will run it again, and whoever
        waits for it must be told."""
        app = self._app
        if not app.backend_enabled or not run.task_id:
            return
        from caraway.protocol.result import encode_exception, encode_meta

        kind, _ = remains.verdicts.get((run.tag, run.started), ("", 0.0))
        text = f"{kind or 'the process that ran it was lost'} ({remains.exit})"
        payload = encode_meta(
            app.registry.serializer(app.conf.result_serializer),
            run.task_id,
            states.FAILURE,
            encode_exception(WorkerLostError(text)),
        )
        ttl = float(app.conf.result_expires or 0.0)
        app.backend.store([StoredResult(run.task_id, states.FAILURE, payload, ttl)])

    def _plan(self, delivery: Delivery) -> TaskPlan | None:
        name = str(delivery.message.headers.get("task"))
        plan = self._plans.get(name)
        if plan is None and name in self._app.tasks:
            plan = TaskPlan(self._app, self._app.tasks[name], None, self._hostname)
            self._plans[name] = plan
        return plan
