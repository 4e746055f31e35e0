"""What is logged of runs, by the logger ``caraway.task``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway import states
from caraway.states import SUCCESS

if TYPE_CHECKING:
    from caraway.outcome import Outcome
    from caraway.request import Request
    from caraway.worker.job import TaskJob, TaskPlan


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
