"""Messages that are settled without a run: the completion of each verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway import signals
from caraway.errors import InvalidTaskError, NotRegistered, WorkerLostError
from caraway.message import Completion, Delivery, Settlement
from caraway.worker.admission import Verdict, unknown_reason

if TYPE_CHECKING:
    from caraway.worker.job import TaskPlan


def without_running(delivery: Delivery, plan: TaskPlan, verdict: Verdict) -> Completion:
    """For a readable message of a known task."""
    if verdict.kind == "later":
        return Completion(Settlement(delivery.tag, "release", delay=verdict.delay, counted=False))
    if verdict.kind == "exhausted":
        return plan.fail(delivery, WorkerLostError(verdict.reason), reason=verdict.reason)
    if verdict.kind == "timed out":
        return plan.timed_out(delivery, verdict.delay)
    if verdict.kind == "terminated":
        return plan.revoke(delivery, verdict.kind, int(verdict.delay))
    return plan.revoke(delivery, verdict.kind)


def park(node: str, delivery: Delivery, reason: str, *, known: bool) -> Completion:
    """For a message that nobody can judge: it goes to the dead letters.

    Args:
        node: the worker's name, sender of the signal that tells of it.
        delivery: the message.
        reason: for the dead letter; empty for that of an unknown task.
        known: its task is registered.
    """
    headers = delivery.message.headers
    reason = reason or unknown_reason(headers)
    name = headers.get("task")
    if known or delivery.defect or type(name) is not str:
        signals.task_rejected.send(
            sender=node, message=delivery.message, exc=InvalidTaskError(reason)
        )
    else:
        signals.task_unknown.send(
            sender=node, message=delivery.message, exc=NotRegistered(reason), name=name,
            id=headers.get("id"),
        )  # fmt: skip
    return Completion(Settlement(delivery.tag, "reject", reason=reason[:500], parked=True))
