"""Messages that are settled without a run: the completion of each verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caraway import signals, states
from caraway.errors import CarawayError, InvalidTaskError, NotRegistered, WorkerLostError
from caraway.message import Completion, Delivery, Settlement
from caraway.worker.admission import Verdict, unknown_reason

if TYPE_CHECKING:
    from caraway.interfaces import Backend
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


def check(
    backend: Backend | None,
    suspects: Sequence[tuple[Delivery, TaskPlan, Verdict]],
    *,
    atomic: bool,
) -> tuple[list[Completion], list[tuple[Delivery, TaskPlan]]]:
    """For messages that were delivered before: if a final result stands, one is merely late.

    Args:
        backend: has the results; None if they are disabled.
        suspects: with their verdicts, ``check`` or ``exhausted``.
        atomic: a final result that stands was committed with all that follows from it.

    Returns:
        What is settled without a run, and what is to run again.
    """
    known: Any = {}
    if backend is not None:
        try:
            known = backend.get([d.message.headers["id"] for d, *_ in suspects])
        except CarawayError:
            known = {}
    settled: list[Completion] = []
    again: list[tuple[Delivery, TaskPlan]] = []
    for delivery, plan, verdict in suspects:
        stored = known.get(delivery.message.headers["id"])
        if (
            stored is not None
            and stored.state in states.READY_STATES
            # Else its lane may have died between storing the result and sending what
            # follows from it: it runs again rather than lose that.
            and (atomic or not plan.request(delivery).embed)
            # Else it may be this very verdict, whose dead letter is still to be sent.
            and (verdict.kind == "check" or stored.state != states.FAILURE)
        ):
            settled.append(Completion(Settlement(delivery.tag)))
        elif verdict.kind == "exhausted":
            settled.append(without_running(delivery, plan, verdict))
        else:
            again.append((delivery, plan))
    return settled, again


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
